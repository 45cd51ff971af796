"""The period of a stage on several boards: the boards' rates add up.

A board that needs ``b`` nanoseconds for each request serves ``1 / b`` requests a nanosecond. The
client sends each board requests in proportion to the board's speed, so a replica set serves the sum
of its boards' rates. The period is the inverse of that sum, rounded up to whole nanoseconds. Due to
this rounding, a set meets a period of ``T`` whole nanoseconds exactly if
``sum(T / b for b in the set) >= 1``.
"""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def shared_period_ns(busy_ns: Iterable[int]) -> int:
    """Return the period of a replica set, in nanoseconds; 1 at least.

    Args:
        busy_ns: Nanoseconds for which one request occupies each board of the set.
    """
    boards = Counter(max(1, busy) for busy in busy_ns)
    return ceil(1 / sum(Fraction(count, busy) for busy, count in boards.items()))


def meets_period(busy_ns: Iterable[int], period_ns: int) -> bool:
    """Return whether a replica set meets a period; exact, see the module's docstring."""
    return shared_period_ns(busy_ns) <= period_ns
