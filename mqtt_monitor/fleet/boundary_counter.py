"""Finds lost and repeated messages between two stages by comparing the counts of both stages."""

from __future__ import annotations

#: A stage counts as idle after this number of consecutive statistics messages without a request. By
#: then each message in flight has arrived or is lost.
IDLE_PERIODS = 3


class BoundaryCounter:
    """Counts the messages between two consecutive stages, as sent and as received.

    Boards report their counts every few seconds, each board at another time. Under load, the counts
    of the two stages therefore cannot be compared. While both stages are idle, they can. If more
    messages were sent than received, the difference was lost. If more were received than sent, the
    difference was repeated: QoS 1 sends messages again after a lost connection.

    A board that restarts loses its counts since its last statistics. The next idle time is then the
    start of the next comparison.

    Attributes:
        lost: Number of lost messages; None: the two stages have not been idle yet.
        repeated: Number of repeated messages; None: the two stages have not been idle yet.
    """

    __slots__ = ("_ahead", "_ahead_when_idle", "lost", "repeated")

    def __init__(self) -> None:
        self.lost: int | None = None
        self.repeated: int | None = None
        #: Number of sent messages minus number of received messages.
        self._ahead = 0
        #: ``_ahead`` at the last idle time; None: no idle time since the counts are complete.
        self._ahead_when_idle: int | None = None

    def add_sent(self, count: int) -> None:
        """Add a number of results that the sending stage has counted."""
        self._ahead += count

    def add_received(self, count: int) -> None:
        """Add a number of requests that the receiving stage has counted, including failed ones."""
        self._ahead -= count

    def note_gap(self) -> None:
        """Note that the counts of one stage are incomplete.

        The next idle time is then the start of the next comparison.
        """
        self._ahead_when_idle = None

    def note_idle(self) -> None:
        """Compare the counts of both stages. Call this only while no message is in flight."""
        if self._ahead_when_idle is None:
            self.lost, self.repeated = self.lost or 0, self.repeated or 0
        elif self._ahead > self._ahead_when_idle:
            self.lost = (self.lost or 0) + self._ahead - self._ahead_when_idle
        else:
            self.repeated = (self.repeated or 0) + self._ahead_when_idle - self._ahead
        self._ahead_when_idle = self._ahead
