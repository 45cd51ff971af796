"""Whether what one stage sent is what the next one counted."""

from __future__ import annotations

#: Consecutive statistics without a request after which a stage is at rest: what was under way
#: when the first of them was sent has arrived, or never will.
REST = 3


class Crossing:
    """Counts messages over one boundary, from both sides.

    Boards tell their counts every few seconds, each at its own time, so under load both sides never
    speak of the same moment. Where the stream rests they do, and what differs then was lost (more
    sent than counted) or repeated (more counted than sent, by QoS 1 after a lost connection). A
    board that starts anew takes with it what it counted since its last statistics, so that the
    comparison begins anew with the next rest.
    """

    __slots__ = ("_ahead", "_at_rest", "lost", "repeated")

    def __init__(self) -> None:
        self.lost: int | None = None
        self.repeated: int | None = None
        self._ahead = 0
        #: ``_ahead`` at the last rest; None: there was none to compare with.
        self._at_rest: int | None = None

    def sent(self, count: int) -> None:
        """Take note of results that the sending stage counted."""
        self._ahead += count

    def arrived(self, count: int) -> None:
        """Take note of requests that the receiving stage counted, answered or not."""
        self._ahead -= count

    def begin_anew(self) -> None:
        """Take note that counts of either side are incomplete."""
        self._at_rest = None

    def rest(self) -> None:
        """Compare: nothing is under way."""
        if self._at_rest is None:
            self.lost, self.repeated = self.lost or 0, self.repeated or 0
        elif self._ahead > self._at_rest:
            self.lost = (self.lost or 0) + self._ahead - self._at_rest
        else:
            self.repeated = (self.repeated or 0) + self._at_rest - self._ahead
        self._at_rest = self._ahead
