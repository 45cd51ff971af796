"""Compute the period of a replica set: several boards that share the requests of a stage.

A board that is busy for ``b`` nanoseconds with each request serves ``1 / b`` requests per
nanosecond: its rate. The client sends each board requests in proportion to the board's speed, so
the rates of the boards add up. The period of the set is the inverse of the sum of the rates,
rounded up to whole nanoseconds. The rounding gives a simple test: the set meets a period of ``T``
whole nanoseconds if and only if ``sum(T / b for b in the set) >= 1``.
"""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def shared_period_ns(busy_ns: Iterable[int]) -> int:
    """Return the period of a replica set, in nanoseconds. It is at least 1.

    Args:
        busy_ns: For each board of the set, the time that one request occupies the board.
    """
    boards = Counter(max(1, busy) for busy in busy_ns)
    return ceil(1 / sum(Fraction(count, busy) for busy, count in boards.items()))


def meets_period(busy_ns: Iterable[int], period_ns: int) -> bool:
    """Return whether a replica set has at most the period ``period_ns``. The answer is exact.

    Args:
        busy_ns: For each board of the set, the time that one request occupies the board.
        period_ns: Largest allowed period, in nanoseconds.
    """
    return shared_period_ns(busy_ns) <= period_ns
