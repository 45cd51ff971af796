"""List all minimal replica sets of a step (a stage).

A replica set is the boards that share the requests of a step. It is minimal if it meets a period
with all of its boards, but misses the period without any one of them.

Method: the share of a board is the period divided by the board's busy time. A set meets the period
if the sum of its boards' shares is 1 or more. Boards are added to a set in the order of their
shares, largest first. When the sum of the shares reaches 1, the set is complete. It is minimal,
because the sum is below 1 without the last board, which has the smallest share. Each set is found
only once, because the order of its boards is fixed. A partial set is dropped when the sum cannot
reach 1 with the largest allowed number of boards.

Complexity: linear in the number of partial sets whose sum can reach 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_partition.planning.search.problem import SHARE_TOLERANCE
from edge_partition.planning.shared_period import meets_period

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def minimal_sets(
    busy_ns: Mapping[int, int], period: int, max_replicas: int
) -> Iterator[tuple[int, ...]]:
    """Yield each minimal replica set of two boards or more, as a tuple of the kinds of its boards.

    Args:
        busy_ns: For each kind, the time for which one request of the step occupies a board of the
            kind, in nanoseconds. Each time is longer than ``period``.
        period: Longest allowed time between two results of the step, in nanoseconds.
        max_replicas: Largest allowed number of boards in a set.
    """
    kinds = sorted(busy_ns, key=lambda kind: busy_ns[kind])
    shares = [period / busy_ns[kind] for kind in kinds]

    def extend(chosen: tuple[int, ...], first: int, total: float) -> Iterator[tuple[int, ...]]:
        left = max_replicas - len(chosen)
        for place in range(first, len(kinds)):
            if total + left * shares[place] < 1 - SHARE_TOLERANCE:
                return
            extended, reached = (*chosen, kinds[place]), total + shares[place]
            is_complete = reached >= 1
            if abs(reached - 1) < SHARE_TOLERANCE:
                is_complete = meets_period((busy_ns[kind] for kind in extended), period)
            if is_complete:
                yield extended
            elif left > 1:
                yield from extend(extended, place, reached)

    yield from extend((), 0, 0.0)
