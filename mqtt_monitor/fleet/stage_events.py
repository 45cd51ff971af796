"""Decides when errors, or a generation that is not live, cause an event. Pure.

In this module, a period is the time between two consecutive statistics messages of a board.
"""

from __future__ import annotations

#: Fewest errors in one period that cause an event.
_BURST_ERRORS = 5
#: Smallest share of failed requests in one period that causes an event.
_BURST_SHARE = 0.1
#: Time after an event in which further errors cause no new event, in seconds.
_BURST_AGAIN_S = 60.0


class StageEvents:
    """Remembers which events of one stage on one board have been reported."""

    __slots__ = ("_burst_s", "_mismatch")

    def __init__(self) -> None:
        self._burst_s: float | None = None
        self._mismatch: str | None = None

    def is_new_mismatch(self, serves: str | None, live: str | None, *, settled: bool) -> bool:
        """Return whether to report now that the board serves a generation that is not live.

        If the generation stays the same, it is not reported again.

        Args:
            serves: The generation that the board serves; None: not reported.
            live: The live generation; None: no manifest could be read.
            settled: Whether the board has had time to switch to the live generation.
        """
        if serves is None or live is None or serves == live:
            self._mismatch = None
            return False
        if not settled or self._mismatch == serves:
            return False
        self._mismatch = serves
        return True

    def is_new_burst(self, answered: int, failed: int, time_s: float) -> bool:
        """Return whether to report the errors of the newest period now.

        Args:
            answered: Number of requests in the period that got a result.
            failed: Number of requests in the period that got an error.
            time_s: Time of the statistics, in seconds since the epoch.
        """
        if failed < max(_BURST_ERRORS, _BURST_SHARE * (failed + answered)):
            return False
        if self._burst_s is not None and time_s - self._burst_s <= _BURST_AGAIN_S:
            return False
        self._burst_s = time_s
        return True
