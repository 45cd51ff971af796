"""Keeps the last hour of one value in memory of fixed size. Pure."""

from __future__ import annotations

import math
from array import array

SLOT_S = 5.0
HOUR_S = 3600.0
_SLOTS = int(HOUR_S / SLOT_S)
_EMPTY = array("f", [math.nan]) * _SLOTS


class Series:
    """The last hour of one value.

    The hour is divided into slots of 5 s. Each slot keeps only the value that was added last. A
    series takes 2.9 kB.
    """

    __slots__ = ("_newest", "_values")

    def __init__(self) -> None:
        self._values = array("f", _EMPTY)
        self._newest: int | None = None

    def add(self, time_s: float, value: float | None) -> None:
        """Add a value.

        If ``time_s`` differs from the newest time by an hour or more, all values that were added
        before are removed.

        Args:
            time_s: Time by the monitor's clock, in seconds since the epoch. This clock may jump
                back.
            value: The value; None: not reported.
        """
        slot = math.floor(time_s / SLOT_S)
        if self._newest is None or abs(slot - self._newest) >= _SLOTS:
            self._values = array("f", _EMPTY)
            self._newest = slot
        for skipped in range(self._newest + 1, slot):
            self._values[skipped % _SLOTS] = math.nan
        self._newest = max(slot, self._newest)
        self._values[slot % _SLOTS] = math.nan if value is None else value

    def points(self, now_s: float, step_s: float = SLOT_S) -> list[tuple[float, float | None]]:
        """Divide the last hour into steps of equal width; return the mean value of each step.

        Args:
            now_s: The present time, in seconds since the epoch.
            step_s: Width of a step in seconds, a multiple of 5. A width of 60 gives 60 steps.

        Returns:
            ``(time_s, mean)`` for each step, oldest first: the start of the step in seconds since
            the epoch, and the mean of the values in the step (None: no values).
        """
        width = max(1, round(step_s / SLOT_S))
        last = math.floor(now_s / SLOT_S) // width
        points: list[tuple[float, float | None]] = []
        for step in range(last - _SLOTS // width + 1, last + 1):
            values = [self._at(slot) for slot in range(step * width, (step + 1) * width)]
            known = [value for value in values if not math.isnan(value)]
            mean = math.fsum(known) / len(known) if known else None
            points.append((step * width * SLOT_S, mean))
        return points

    def _at(self, slot: int) -> float:
        if self._newest is None or not self._newest - _SLOTS < slot <= self._newest:
            return math.nan
        return self._values[slot % _SLOTS]
