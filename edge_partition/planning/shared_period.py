"""Compute the period of a replica set: several boards that share the requests of a stage.

The period is the time between two results of the stage at full load. A board that is busy for
``b`` nanoseconds with each request serves ``1 / b`` requests per nanosecond: this is its rate. The
client divides the requests among the boards in proportion to their speed, so the rates of the
boards add up. The period of the set is the inverse of the sum of the rates, rounded up to whole
nanoseconds. So a simple test is exact: the period of the set is at most ``T`` whole nanoseconds if
and only if ``sum(T / b for b in the set) >= 1``.
"""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def shared_period_ns(busy_ns: Iterable[int]) -> int:
    """Return the period of a replica set, in nanoseconds. The result is at least 1.

    Args:
        busy_ns: For each board of the set, the time for which one request occupies the board, in
            nanoseconds.
    """
    boards = Counter(max(1, busy) for busy in busy_ns)
    return ceil(1 / sum(Fraction(count, busy) for busy, count in boards.items()))


def meets_period(busy_ns: Iterable[int], period_ns: int) -> bool:
    """Return whether the period of a replica set is at most ``period_ns``. The answer is exact.

    Args:
        busy_ns: For each board of the set, the time for which one request occupies the board, in
            nanoseconds.
        period_ns: Largest allowed period, in nanoseconds.
    """
    return shared_period_ns(busy_ns) <= period_ns
