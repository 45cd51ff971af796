"""Whether a pace can be kept at all: every set of boards that can serve the model up to a node.

A set of used boards is the index of one bit, ``sum(used of kind * stride of kind)``, and all sets
with which a node can be reached are one integer of as many bits. Adding a board of a kind to all of
them is a mask and a shift, joining them an ``or``: exact, without a single comparison of sets, and
quick as long as there are no more than :data:`MOST_SETS` of them (18 boards of different kinds, or
4 kinds of 21).

For a step to node ``j``, the kinds that keep the pace from a start ``i`` mostly grow as ``i`` comes
closer. Starts with the same kinds are joined first; where the kinds form a chain, one pass over
them finds every crew of a size from all starts: a kind that serves only the near starts takes its
turn while only those are in, then farther starts come in, then the next kind takes its turn.
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

#: The most sets of boards that are gone through.
MOST_SETS = 1 << 18


def set_count(capacity: IntArray) -> int:
    """Return how many sets of boards there are, counting equal boards."""
    return math.prod(int(count) + 1 for count in capacity)


def find_route(problem: Problem, pace: int) -> Route | None:
    """Return a route that keeps ``pace``, or ``None`` when there is none.

    Args:
        problem: Of no more than :data:`MOST_SETS` sets of boards.
        pace: Nanoseconds between results.
    """
    sets = _BoardSets(tuple(int(count) for count in problem.capacity))
    by_size = _kinds_by_size(problem, pace)
    reached = _Reached()
    reached.append(1)
    for stop in range(1, problem.nodes):
        found = 0
        for size, kinds in by_size:
            groups: dict[int, int] = {}
            for mask, start, end in _runs(kinds[stop, :stop]):
                if united := reached.union(start, end):
                    groups[mask] = groups.get(mask, 0) | united
            for chain in _chains(groups):
                found |= sets.add_crew(chain, size)
        reached.append(found)
    final = reached[problem.nodes - 1]
    counts = range(1, sum(sets.capacity) + 1) if problem.stages is None else [problem.stages]
    for count in counts:
        if complete := final & sets.of_size(count):
            lowest = (complete & -complete).bit_length() - 1
            return _trace(by_size, sets, reached, lowest)
    return None


class _BoardSets:
    """Sets of boards as bits; see the module's text."""

    def __init__(self, capacity: tuple[int, ...]) -> None:
        self.capacity = capacity
        self.strides = [math.prod(count + 1 for count in capacity[:kind])
                        for kind in range(len(capacity))]  # fmt: skip
        index = np.arange(math.prod(count + 1 for count in capacity))
        self._used = [
            index // stride % (count + 1)
            for stride, count in zip(self.strides, capacity, strict=True)
        ]
        self._room = [
            _as_bits(used < count) for used, count in zip(self._used, capacity, strict=True)
        ]
        self.of_size = cache(self._of_size)

    def add(self, sets: int, kind: int) -> int:
        """Return the sets with one more board of ``kind``, those that had one left."""
        return (sets & self._room[kind]) << self.strides[kind]

    def add_crew(self, chain: list[tuple[int, int]], size: int) -> int:
        """Return the sets with a crew of ``size`` more boards.

        Args:
            chain: (kinds as bits, sets), each step's kinds all among the next one's.
            size: Boards in the crew.
        """
        grown = [0] * (size + 1)
        for place in range(len(chain) - 1, -1, -1):
            kinds, sets = chain[place]
            grown[0] |= sets
            joining = kinds & ~(chain[place - 1][0] if place else 0)
            while joining:
                kind = (joining & -joining).bit_length() - 1
                joining &= joining - 1
                # Ascending, so that a kind may fill several places of the crew.
                for filled in range(size):
                    if grown[filled]:
                        grown[filled + 1] |= self.add(grown[filled], kind)
        return grown[size]

    def _of_size(self, count: int) -> int:
        """Return all sets of ``count`` boards."""
        return _as_bits(np.sum(self._used, axis=0) == count)


class _Reached:
    """The sets that reach each node, and their unions over runs of nodes (a sparse table)."""

    def __init__(self) -> None:
        self._levels: list[list[int]] = [[]]

    def append(self, sets: int) -> None:
        """Set the next node's."""
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
        """Return the sets that reach any node of ``[start, stop)``."""
        level = (stop - start).bit_length() - 1
        row = self._levels[level]
        return row[start] | row[stop - (1 << level)]


def _kinds_by_size(problem: Problem, pace: int) -> _KindsBySize:
    """Return, for each size of crew, the kinds (as bits) that keep the pace.

    They are ``(nodes, nodes)``, by stop and start. Steps for which a smaller crew has the same
    kinds have none: it needs fewer boards.
    """
    result = []
    before = np.zeros((problem.nodes, problem.nodes), np.uint64)
    for size in range(1, problem.max_replicas + 1):
        kinds, most = np.zeros_like(before), min(size * pace, FORBIDDEN - 1)
        for kind, busy in enumerate(problem.busy_in(size)):
            fits = (busy <= most).T
            kinds |= fits.astype(np.uint64) << np.uint64(kind)
        result.append((size, np.where(kinds == before, np.uint64(0), kinds)))
        before = kinds
    return result


def _runs(kinds: NDArray[np.uint64]) -> list[tuple[int, int, int]]:
    """Return (kinds, first start, end) of each run of starts with the same kinds, none left out."""
    edges = [0, *(np.flatnonzero(kinds[1:] != kinds[:-1]) + 1).tolist(), len(kinds)]
    values = kinds[edges[:-1]].tolist()
    return [run for run in zip(values, edges, edges[1:], strict=False) if run[0]]


def _chains(groups: dict[int, int]) -> list[list[tuple[int, int]]]:
    """Sort (kinds, sets) into chains in which each has all the kinds of the one before."""
    chains: list[list[tuple[int, int]]] = []
    for kinds, sets in sorted(groups.items(), key=lambda group: group[0].bit_count()):
        for chain in chains:
            if chain[-1][0] & ~kinds == 0:
                chain.append((kinds, sets))
                break
        else:
            chains.append([(kinds, sets)])
    return chains


def _trace(by_size: _KindsBySize, sets: _BoardSets, reached: _Reached, last: int) -> Route:
    """Return a route by which the set ``last`` reaches the last node."""
    route: list[Step] = []
    stop, used = len(by_size[0][1]) - 1, last
    while stop:
        step = next(
            Step(start, stop, crew)
            for starts, crew, before in _last_steps(by_size, sets, stop, used)
            if reached.union(starts.start, starts.stop) >> before & 1
            for start in starts
            if reached[start] >> before & 1
        )
        route.append(step)
        stop = step.start
        used -= sum(sets.strides[kind] for kind in step.kinds)
    return tuple(reversed(route))


def _last_steps(
    by_size: _KindsBySize, sets: _BoardSets, stop: int, used: int
) -> Iterator[tuple[range, tuple[int, ...], int]]:
    """Yield each run of starts, each crew of ``used`` that goes on to ``stop``, and the rest."""
    left = [
        used // stride % (count + 1)
        for stride, count in zip(sets.strides, sets.capacity, strict=True)
    ]
    for size, kinds_by_start in by_size:
        for kinds, begin, end in _runs(kinds_by_start[stop, :stop]):
            able = [kind for kind, count in enumerate(left) if kinds >> kind & 1 and count]
            for crew in combinations_with_replacement(able, size):
                if all(crew.count(kind) <= left[kind] for kind in set(crew)):
                    before = used - sum(sets.strides[kind] for kind in crew)
                    yield range(begin, end), crew, before


def _as_bits(flags: NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(flags, bitorder="little").tobytes(), "little")
