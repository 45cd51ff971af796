"""Test exactly whether a period is feasible: bitset dynamic programming over sets of boards.

Problem: find a route (stages and their boards) that meets a period, or prove that no route meets
the period. :mod:`.problem` defines the terms.

Method: a *board set* is the number of boards of each kind that are in use. Each board set has a
number: ``sum(boards of kind * stride of kind)``. The *state* of a node is an integer with one bit
for each board set. Bit ``n`` is 1 if board set ``n`` can serve the model up to the node. To add one
board of a kind to every board set of a state, the search masks and shifts the integer. An ``or``
gives the union of two states.

A replica set is *minimal* for a step if it meets the period only with all of its boards. Consider
the steps that stop at one node. The starts for which a replica set is minimal usually form one
range of nodes. One look-up in a sparse table gives the union of these nodes' states. Then the
search adds the boards of the replica set to this union.

Complexity: ``O(replica sets * nodes**2)`` to find the feasible steps. Then about
``replica sets * nodes`` operations on integers with one bit for each board set. The search supports
at most :data:`MAX_BOARD_SETS` board sets: enough for 18 boards of different kinds, or for 21 boards
of each of 4 kinds.

Guarantee: the answer is exact.
"""

from __future__ import annotations

import math
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from edge_partition.planning.search.problem import Problem, Route, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edge_partition.planning.search.problem import IntArray

#: For each node, the steps that stop at the node, as (replica set, start of range, end of range).
#: The replica set is minimal for a step from each start in the half-open range.
_LastSteps: TypeAlias = list[list[tuple[tuple[int, ...], int, int]]]

#: Largest numbers of board sets and of replica sets that the search supports.
MAX_BOARD_SETS, MAX_REPLICA_SETS = 1 << 18, 5_000


def board_set_count(capacity: IntArray) -> int:
    """Return the number of board sets. A board set is the number of boards of each kind in use.

    Args:
        capacity: ``(kinds,)``, number of boards of each kind.
    """
    return math.prod(int(count) + 1 for count in capacity)


def replica_set_counts(capacity: IntArray, max_replicas: int) -> IntArray:
    """Return the number of replica sets of 1 to ``n`` boards, for each ``n`` from 0.

    The result has the shape ``(max_replicas + 1,)``. Numbers above 2**40 are replaced by 2**40.

    Args:
        capacity: ``(kinds,)``, number of boards of each kind.
        max_replicas: Largest allowed number of boards in a replica set.
    """
    # Item ``n`` counts the sets of ``n`` boards. The counts are the coefficients of a product of
    # polynomials, one for each kind.
    of_size = np.ones(1)
    for count in capacity.tolist():
        of_size = np.convolve(of_size, np.ones(min(count, max_replicas) + 1))[: max_replicas + 1]
    at_most = np.minimum(np.cumsum(of_size) - 1, 1 << 40)
    padded = np.pad(at_most, (0, max_replicas + 1 - len(at_most)), mode="edge")
    result: IntArray = padded.astype(np.int64)
    return result


def is_small(problem: Problem) -> bool:
    """Return whether :func:`find_route` supports the problem's numbers of boards and of kinds."""
    return board_set_count(problem.capacity) <= MAX_BOARD_SETS and (
        replica_set_counts(problem.capacity, problem.max_replicas)[-1] <= MAX_REPLICA_SETS
    )


def find_route(problem: Problem, period: int) -> Route | None:
    """Return a route that meets ``period``, or ``None`` if no route meets it.

    Args:
        problem: A problem for which :func:`is_small` is true.
        period: Longest allowed time between two results of a step, in nanoseconds.
    """
    sets = _BoardSets(tuple(int(count) for count in problem.capacity))
    last_steps = _last_steps(problem, period)
    reached = _Reached()
    reached.append(1)
    for steps in last_steps[1:]:
        found = 0
        before: dict[tuple[int, ...], int] = {}
        for kinds, start, end in steps:
            if united := reached.union(start, end):
                before[kinds] = before.get(kinds, 0) | united
        for kinds, united in before.items():
            found |= sets.add(united, kinds)
        reached.append(found)
    final = reached[problem.nodes - 1]
    counts = range(1, sum(sets.capacity) + 1) if problem.stages is None else [problem.stages]
    for count in counts:
        if complete := final & sets.of_size(count):
            lowest = (complete & -complete).bit_length() - 1
            return _trace(last_steps, sets, reached, lowest)
    return None


def replica_sets(capacity: Sequence[int], max_replicas: int) -> list[tuple[int, ...]]:
    """Return all replica sets, small sets first. Each is a tuple with the kind of each board.

    Args:
        capacity: Number of boards of each kind.
        max_replicas: Largest allowed number of boards in a replica set.
    """
    sets: list[tuple[int, ...]] = []
    of_size: list[tuple[int, ...]] = [()]
    for _ in range(max_replicas):
        of_size = [
            (*kinds, kind)
            for kinds in of_size
            for kind in range(kinds[-1] if kinds else 0, len(capacity))
            if kinds.count(kind) < capacity[kind]
        ]
        sets += of_size
    return sets


class _BoardSets:
    """Operations on collections of board sets.

    A board set is the number of boards of each kind that are in use. A collection is an integer:
    bit ``n`` is 1 if the collection contains board set number ``n``.
    """

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

    def add(self, sets: int, kinds: tuple[int, ...]) -> int:
        """Return the board sets that result if a replica set is added to each set in ``sets``.

        A board set that leaves too few boards unused for the replica set gives no result.
        """
        for kind in kinds:
            sets = (sets & self._has_unused[kind]) << self.strides[kind]
        return sets

    def uses(self, boards: int, kinds: tuple[int, ...]) -> bool:
        """Return whether a board set contains the boards of a replica set.

        Args:
            boards: The board set, given by its number.
            kinds: The kinds of the replica set's boards.
        """
        return all(
            boards // self.strides[kind] % (self.capacity[kind] + 1) >= count
            for kind, count in Counter(kinds).items()
        )

    def _of_size(self, count: int) -> int:
        """Return the collection of all board sets with ``count`` boards."""
        return _as_bits(np.sum(self._used, axis=0) == count)


class _Reached:
    """The board sets that can serve the model up to each node (the state of the node).

    A state is an integer with one bit for each board set. The states are in a sparse table, which
    quickly gives the union of the states of a range of nodes.
    """

    def __init__(self) -> None:
        self._levels: list[list[int]] = [[]]

    def append(self, sets: int) -> None:
        """Add the state of the next node.

        Args:
            sets: The state: the collection of the board sets that can serve the model up to this
                node.
        """
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
        """Return the board sets in the state of at least one of the nodes ``[start, stop)``."""
        level = (stop - start).bit_length() - 1
        row = self._levels[level]
        return row[start] | row[stop - (1 << level)]


def _last_steps(problem: Problem, period: int) -> _LastSteps:
    """Return, for each node, the steps that stop at the node, with their minimal replica sets.

    A minimal replica set meets ``period`` only with all of its boards.
    """
    steps: _LastSteps = [[] for _ in range(problem.nodes)]
    meets: dict[int, dict[tuple[int, ...], NDArray[np.bool_]]] = {0: {}}
    for kinds in replica_sets(problem.capacity.tolist(), problem.max_replicas):
        size = len(kinds)
        if size not in meets:
            meets = {size - 1: meets[size - 1], size: {}}
        # ``(nodes, nodes)``: the first index is the stop, the second index is the start.
        meets[size][kinds] = problem.meets(kinds, period).T
        minimal = meets[size][kinds].copy()
        for place in range(size if size > 1 else 0):
            minimal &= ~meets[size - 1][kinds[:place] + kinds[place + 1 :]]
        padded = np.zeros((problem.nodes, problem.nodes + 2), np.int8)
        padded[:, 1:-1] = minimal
        edges = np.diff(padded, axis=1)
        stops, starts = np.nonzero(edges == 1)
        ends = np.nonzero(edges == -1)[1]
        for stop, start, end in zip(stops.tolist(), starts.tolist(), ends.tolist(), strict=True):
            steps[stop].append((kinds, start, end))
    return steps


def _trace(last_steps: _LastSteps, sets: _BoardSets, reached: _Reached, last: int) -> Route:
    """Return a route to the last node that uses exactly the boards of board set number ``last``."""
    route: list[Step] = []
    stop, used = len(last_steps) - 1, last
    while stop:
        step, used = next(
            (Step(start, stop, kinds), before)
            for kinds, begin, end in last_steps[stop]
            if sets.uses(used, kinds)
            for before in [used - sum(sets.strides[kind] for kind in kinds)]
            if reached.union(begin, end) >> before & 1
            for start in range(begin, end)
            if reached[start] >> before & 1
        )
        route.append(step)
        stop = step.start
    return tuple(reversed(route))


def _as_bits(flags: NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(flags, bitorder="little").tobytes(), "little")
