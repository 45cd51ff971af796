"""List all minimal replica sets of a step: the sets that meet the period only with all boards.

Method: the share of a board is the period divided by the board's busy time. Boards are added to a
set in the order of their shares, largest first. A set is complete when the sum of its shares
reaches 1. Without the last board, which has the smallest share, the sum is below 1. So the set
needs each of its boards, and each set is found once. A partial set is dropped when the largest
allowed number of further boards cannot bring the sum to 1.

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
    """Yield each minimal replica set of two boards or more, as the kinds of its boards.

    Args:
        busy_ns: By kind, the busy time of a board with one request of the step, in nanoseconds.
            Each time is longer than ``period``.
        period: Largest allowed period of the step, in nanoseconds.
        max_replicas: Number of boards in the largest set.
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
