"""All minimal replica sets of a step: the sets that meet the period only with all their boards.

Method: boards are added in the order of their shares of the period, largest first, and a set is
complete when its shares reach 1. The last board is the smallest, and without it the sum is below 1,
so no board of a complete set is spare, and each set is found once. A partial set is left as soon as
the largest number of further boards cannot reach 1. Complexity: linear in the number of partial
sets that can still reach 1.
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
    """Yield each minimal replica set of two boards or more, as its kinds.

    Args:
        busy_ns: The busy time of the step on each kind, in nanoseconds: more than ``period``.
        period: Nanoseconds.
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
