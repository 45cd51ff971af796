"""Compares the messages that one stage sends with the messages that the next stage counts."""

from __future__ import annotations

#: Consecutive statistics without a request after which a stage counts as idle. By then each message
#: in flight has arrived or is lost.
IDLE_PERIODS = 3


class BoundaryCounter:
    """Counts messages over one boundary, on both sides.

    Boards report their counts every few seconds, each at its own time, so the two sides cannot be
    compared under load. They can be compared while both stages are idle. A surplus of sent messages
    was lost; a surplus of received messages was repeated (QoS 1 sends messages again after a lost
    connection). The counts since a board's last statistics disappear when the board restarts, so
    the comparison starts again at the next idle time.

    Attributes:
        lost: Lost messages; None: the boundary has not been idle yet.
        repeated: Repeated messages; None: the boundary has not been idle yet.
    """

    __slots__ = ("_ahead", "_ahead_when_idle", "lost", "repeated")

    def __init__(self) -> None:
        self.lost: int | None = None
        self.repeated: int | None = None
        self._ahead = 0
        #: ``_ahead`` at the last idle time; None: nothing to compare with.
        self._ahead_when_idle: int | None = None

    def add_sent(self, count: int) -> None:
        """Add results that the sending stage counted."""
        self._ahead += count

    def add_received(self, count: int) -> None:
        """Add requests that the receiving stage counted, answered or not."""
        self._ahead -= count

    def note_gap(self) -> None:
        """Note that the counts of one side are incomplete."""
        self._ahead_when_idle = None

    def note_idle(self) -> None:
        """Compare both sides. Call this only while no message is in flight."""
        if self._ahead_when_idle is None:
            self.lost, self.repeated = self.lost or 0, self.repeated or 0
        elif self._ahead > self._ahead_when_idle:
            self.lost = (self.lost or 0) + self._ahead - self._ahead_when_idle
        else:
            self.repeated = (self.repeated or 0) + self._ahead_when_idle - self._ahead
        self._ahead_when_idle = self._ahead
