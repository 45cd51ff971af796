"""An exact feasibility test for a period: bitset dynamic programming over sets of boards.

Problem: find a route that meets a period, or prove that there is none. Method: a set of used boards
has the number ``sum(used of kind * stride of kind)``. The state of a node is one integer, in which
bit ``n`` tells whether the boards of set ``n`` can serve the model up to the node. Adding a board
of a kind to all sets at once is a mask and a shift; the union of two states is an ``or``.

For a step to node ``j``, the set of kinds that meet the period mostly grows as the start ``i``
comes closer to ``j``. The states of starts with equal kinds are united first. Where the sets of
kinds form a chain of subsets, one pass adds all replica sets of one size: the pass begins with the
starts that allow the most kinds, adds boards of the kinds that only these starts allow, unites the
result with the starts that allow the next smaller set of kinds, and so on.

Complexity: ``O(nodes**2 * kinds * max_replicas**2)`` operations on integers with one bit for each
board set, of which there are at most :data:`MAX_BOARD_SETS` (18 boards of different kinds, or 4
kinds of 21 boards each). Guarantee: exact.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_partition.planning.search.problem import FORBIDDEN, Problem, Route, Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_partition.planning.search.problem import IntArray

_KindsBySize: TypeAlias = list[tuple[int, NDArray[np.uint64]]]

#: Largest number of board sets that the search supports.
MAX_BOARD_SETS = 1 << 18


def board_set_count(capacity: IntArray) -> int:
    """Return the number of sets of boards, where boards of one kind are interchangeable."""
    return math.prod(int(count) + 1 for count in capacity)


def find_route(problem: Problem, period: int) -> Route | None:
    """Return a route that meets ``period``, or ``None`` if there is none.

    Args:
        problem: A problem with at most :data:`MAX_BOARD_SETS` sets of boards.
        period: Largest allowed period of a step, in nanoseconds.
    """
    sets = _BoardSets(tuple(int(count) for count in problem.capacity))
    kinds_by_size = _kinds_by_size(problem, period)
    reached = _Reached()
    reached.append(1)
    for stop in range(1, problem.nodes):
        found = 0
        for size, kinds in kinds_by_size:
            groups: dict[int, int] = {}
            for mask, start, end in _runs(kinds[stop, :stop]):
                if united := reached.union(start, end):
                    groups[mask] = groups.get(mask, 0) | united
            for chain in _chains(groups):
                found |= sets.add_replica_set(chain, size)
        reached.append(found)
    final = reached[problem.nodes - 1]
    counts = range(1, sum(sets.capacity) + 1) if problem.stages is None else [problem.stages]
    for count in counts:
        if complete := final & sets.of_size(count):
            lowest = (complete & -complete).bit_length() - 1
            return _trace(kinds_by_size, sets, reached, lowest)
    return None


class _BoardSets:
    """Operations on states: integers with one bit for each set of boards."""

    def __init__(self, capacity: tuple[int, ...]) -> None:
        self.capacity = capacity
        self.strides = [math.prod(count + 1 for count in capacity[:kind])
                        for kind in range(len(capacity))]  # fmt: skip
        index = np.arange(math.prod(count + 1 for count in capacity))
        self._used = [
            index // stride % (count + 1)
            for stride, count in zip(self.strides, capacity, strict=True)
        ]
        self._has_unused = [
            _as_bits(used < count) for used, count in zip(self._used, capacity, strict=True)
        ]
        self.of_size = cache(self._of_size)

    def add(self, sets: int, kind: int) -> int:
        """Add one board of ``kind`` to each set that does not use all boards of the kind."""
        return (sets & self._has_unused[kind]) << self.strides[kind]

    def add_replica_set(self, chain: list[tuple[int, int]], size: int) -> int:
        """Add each replica set of ``size`` boards to each set.

        Args:
            chain: (Kinds as bits, sets) pairs; the kinds of each pair are a subset of the next's.
            size: Number of boards in the replica set.
        """
        grown = [0] * (size + 1)
        for place in range(len(chain) - 1, -1, -1):
            kinds, sets = chain[place]
            grown[0] |= sets
            joining = kinds & ~(chain[place - 1][0] if place else 0)
            while joining:
                kind = (joining & -joining).bit_length() - 1
                joining &= joining - 1
                # Ascending, so that one kind may fill several places of the replica set.
                for filled in range(size):
                    if grown[filled]:
                        grown[filled + 1] |= self.add(grown[filled], kind)
        return grown[size]

    def _of_size(self, count: int) -> int:
        """Return all sets of ``count`` boards."""
        return _as_bits(np.sum(self._used, axis=0) == count)


class _Reached:
    """The state of each node, and the unions over runs of nodes, as a sparse table."""

    def __init__(self) -> None:
        self._levels: list[list[int]] = [[]]

    def append(self, sets: int) -> None:
        """Set the state of the next node."""
        self._levels[0].append(sets)
        count = len(self._levels[0])
        for level in range(1, count.bit_length()):
            if level == len(self._levels):
                self._levels.append([])
            below, start = self._levels[level - 1], count - (1 << level)
            self._levels[level].append(below[start] | below[start + (1 << (level - 1))])

    def __getitem__(self, node: int) -> int:
        return self._levels[0][node]

    def union(self, start: int, stop: int) -> int:
        """Return the union of the states of nodes ``[start, stop)``."""
        level = (stop - start).bit_length() - 1
        row = self._levels[level]
        return row[start] | row[stop - (1 << level)]


def _kinds_by_size(problem: Problem, period: int) -> _KindsBySize:
    """Return (size, kinds) for each size of replica set.

    ``kinds`` is ``(nodes, nodes)``, by stop and start: the kinds that meet the period, as bits. An
    entry is 0 where a smaller replica set allows equal kinds, because the smaller set uses fewer
    boards.
    """
    result = []
    before = np.zeros((problem.nodes, problem.nodes), np.uint64)
    for size in range(1, problem.max_replicas + 1):
        kinds, most = np.zeros_like(before), min(size * period, FORBIDDEN - 1)
        for kind, busy in enumerate(problem.busy_in(size)):
            fits = (busy <= most).T
            kinds |= fits.astype(np.uint64) << np.uint64(kind)
        result.append((size, np.where(kinds == before, np.uint64(0), kinds)))
        before = kinds
    return result


def _runs(kinds: NDArray[np.uint64]) -> list[tuple[int, int, int]]:
    """Return (kinds, start, stop) of each run of equal kinds, without runs of no kinds."""
    edges = [0, *(np.flatnonzero(kinds[1:] != kinds[:-1]) + 1).tolist(), len(kinds)]
    values = kinds[edges[:-1]].tolist()
    return [run for run in zip(values, edges, edges[1:], strict=False) if run[0]]


def _chains(groups: dict[int, int]) -> list[list[tuple[int, int]]]:
    """Sort (kinds, sets) pairs into chains: the kinds of each pair are a subset of the next's."""
    chains: list[list[tuple[int, int]]] = []
    for kinds, sets in sorted(groups.items(), key=lambda group: group[0].bit_count()):
        for chain in chains:
            if chain[-1][0] & ~kinds == 0:
                chain.append((kinds, sets))
                break
        else:
            chains.append([(kinds, sets)])
    return chains


def _trace(kinds_by_size: _KindsBySize, sets: _BoardSets, reached: _Reached, last: int) -> Route:
    """Return a route that uses the boards of set ``last``."""
    route: list[Step] = []
    stop, used = len(kinds_by_size[0][1]) - 1, last
    while stop:
        step = next(
            Step(start, stop, replica_set)
            for starts, replica_set, before in _last_steps(kinds_by_size, sets, stop, used)
            if reached.union(starts.start, starts.stop) >> before & 1
            for start in starts
            if reached[start] >> before & 1
        )
        route.append(step)
        stop = step.start
        used -= sum(sets.strides[kind] for kind in step.kinds)
    return tuple(reversed(route))


def _last_steps(
    kinds_by_size: _KindsBySize, sets: _BoardSets, stop: int, used: int
) -> Iterator[tuple[range, tuple[int, ...], int]]:
    """Yield the possible last steps to ``stop`` of a route that uses the boards of set ``used``.

    Each item is a run of starts, the replica set, and the number of the set before the step.
    """
    left = [
        used // stride % (count + 1)
        for stride, count in zip(sets.strides, sets.capacity, strict=True)
    ]
    for size, kinds_by_start in kinds_by_size:
        for kinds, begin, end in _runs(kinds_by_start[stop, :stop]):
            able = [kind for kind, count in enumerate(left) if kinds >> kind & 1 and count]
            for replica_set in combinations_with_replacement(able, size):
                if all(replica_set.count(kind) <= left[kind] for kind in set(replica_set)):
                    before = used - sum(sets.strides[kind] for kind in replica_set)
                    yield range(begin, end), replica_set, before


def _as_bits(flags: NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(flags, bitorder="little").tobytes(), "little")
