"""The last hour of one figure, in memory that never grows."""

from __future__ import annotations

import math
from array import array

SLOT_S = 5.0
HOUR_S = 3600.0
_SLOTS = int(HOUR_S / SLOT_S)
_EMPTY = array("f", [math.nan]) * _SLOTS


class Series:
    """One value for each 5 s of the last hour: 2.9 kB. Of values in one slot the last counts."""

    __slots__ = ("_newest", "_values")

    def __init__(self) -> None:
        self._values = array("f", _EMPTY)
        self._newest: int | None = None

    def add(self, time_s: float, value: float | None) -> None:
        """Note a value; a time before the newest by more than an hour starts over.

        Args:
            time_s: Seconds since 1970, by the watcher's clock, which may be set back.
            value: None: no value.
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
        """Return ``(time_s, mean)`` for each step of the last hour, oldest first.

        Args:
            now_s: Seconds since 1970.
            step_s: A multiple of 5 s; 60 gives the hour in 60 points. None stands where no
                value came.
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
