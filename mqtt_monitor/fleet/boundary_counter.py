"""Finds lost and repeated messages between two stages by comparing the counts of both stages."""

from __future__ import annotations

#: A stage counts as idle after this number of consecutive statistics messages without a request. By
#: then each message in flight has arrived or is lost.
IDLE_PERIODS = 3


class BoundaryCounter:
    """Counts the messages between two consecutive stages, as sent and as received.

    Boards report their counts every few seconds, each board at another time. Under load, the counts
    of the two stages therefore cannot be compared. The counts can be compared while both stages are
    idle. If fewer messages were received than sent, the missing messages were lost. If more
    messages were received than sent, the additional messages were repeated: with QoS 1, a sender
    repeats messages after a lost connection.

    An agent that restarts loses the counts since its last statistics. The monitor then starts a new
    comparison when both stages are idle again.

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
        #: ``_ahead`` at the last call of note_idle; None: no such call after the last gap.
        self._ahead_when_idle: int | None = None

    def add_sent(self, count: int) -> None:
        """Add a number of results that the sending stage counted."""
        self._ahead += count

    def add_received(self, count: int) -> None:
        """Add a number of requests, with and without an error, that the receiving stage counted."""
        self._ahead -= count

    def note_gap(self) -> None:
        """Record that the counts of one stage are incomplete.

        The next call of :meth:`note_idle` then compares nothing and starts a new comparison.
        """
        self._ahead_when_idle = None

    def note_idle(self) -> None:
        """Compare the counts of both stages. May be called only while no message is in flight."""
        if self._ahead_when_idle is None:
            self.lost, self.repeated = self.lost or 0, self.repeated or 0
        elif self._ahead > self._ahead_when_idle:
            self.lost = (self.lost or 0) + self._ahead - self._ahead_when_idle
        else:
            self.repeated = (self.repeated or 0) + self._ahead_when_idle - self._ahead
        self._ahead_when_idle = self._ahead
