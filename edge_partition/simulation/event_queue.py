"""Events in simulated time: a heap of function calls, ordered by time.

The simulation needs only delayed calls, for which ``heapq`` is enough. With SimPy instead of this
module, the forecasts are bit-identical, but a simulation takes about 30 % more processor time.
"""

from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class EventQueue:
    """Function calls, each due at a simulated time.

    Calls that are due at the same time run in the order in which they were added.

    Attributes:
        now_ms: Current simulated time, in milliseconds from the start.
    """

    def __init__(self) -> None:
        self.now_ms = 0.0
        self._calls: list[tuple[float, int, Callable[..., object], tuple[object, ...]]] = []
        self._numbers = itertools.count()

    def call_after(self, delay_ms: float, action: Callable[..., object], *values: object) -> None:
        """Call ``action(*values)`` after ``delay_ms`` milliseconds of simulated time."""
        call = (self.now_ms + delay_ms, next(self._numbers), action, values)
        heapq.heappush(self._calls, call)

    def run(self) -> None:
        """Run the calls in the order of their times, until none is left. Calls may add calls."""
        while self._calls:
            self.now_ms, _, action, values = heapq.heappop(self._calls)
            action(*values)

    def clear(self) -> None:
        """Drop all calls, so that :meth:`run` ends."""
        self._calls.clear()
