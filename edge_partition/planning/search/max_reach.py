"""A fast feasibility test for a period: the last node that each set of boards may reach.

Problem: find a route that meets a period, or prove that there is none. Method: dynamic programming
over sets of boards, from small sets to large ones. The value of a set is the last node that the set
may reach. The recurrence is a relaxation: the next stage may start at any node up to the last one,
also at a node where the stage before cannot stop. If no set reaches the end in the relaxation, the
problem is infeasible. A set is pruned if an upper bound on the progress of the unused boards is
less than the remaining progress. If a set reaches the end, its replica sets are taken in their
order and the cuts for them are computed exactly. If there are no such cuts, the answer is unknown
and :mod:`.board_sets` decides, at about ten times the cost.

Complexity: ``O(board sets * replica sets)`` for one period. Guarantee: a route is feasible, and
"infeasible" is proven.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import numpy as np

from edge_partition.planning.search.problem import FORBIDDEN, Problem, Route, Step

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_partition.planning.search.problem import IntArray


class SearchStatus(Enum):
    """The answer of a feasibility test that found no route."""

    INFEASIBLE = "no route meets the period"
    UNKNOWN = "no route was found, but one may exist"


#: Largest number of replica sets that the search supports.
MAX_REPLICA_SETS = 5_000
#: (Replica set, board set) pairs in one array operation, to limit its memory.
_CHUNK = 1 << 19
#: Transitions that are kept for the next periods.
_MAX_CACHED_TRANSITIONS = 1 << 23


@dataclass(frozen=True)
class _Transitions:
    """The transitions to some board sets: each adds one replica set to a smaller board set.

    Attributes:
        sets: ``(sets,)``, board sets of equal size.
        firsts: ``(sets,)``, index of each board set's first transition.
        previous: ``(transitions,)``, the smaller board set.
        replica_set: ``(transitions,)``, number of the added replica set.
    """

    sets: IntArray
    firsts: IntArray
    previous: NDArray[np.int32]
    replica_set: NDArray[np.int32]


class _BoardSetTable:
    """All sets of the fleet's boards and all replica sets, for any model.

    A board set's number is ``sum(boards of kind * stride of kind)``.
    """

    def __init__(self, capacity: tuple[int, ...], max_replicas: int) -> None:
        counts = np.array(capacity, np.int64) + 1
        strides = np.concatenate([[1], np.cumprod(counts)[:-1]]).tolist()
        index = np.arange(int(counts.prod()))
        #: For each kind, ``(sets,)``: number of boards of the kind in each set.
        self.used = [
            (index // stride % count).astype(np.int8)
            for stride, count in zip(strides, counts.tolist(), strict=True)
        ]
        size = np.sum(self.used, axis=0, dtype=np.int64)
        order = np.argsort(size, kind="stable")
        #: For each number of boards, the sets of that size.
        self.by_size = np.split(order, np.cumsum(np.bincount(size))[:-1])
        self.replica_sets = [
            kinds
            for size in range(1, max_replicas + 1)
            for kinds in combinations_with_replacement(range(len(capacity)), size)
            if all(count <= capacity[kind] for kind, count in Counter(kinds).items())
        ]
        self.strides = np.array(
            [sum(strides[kind] for kind in kinds) for kinds in self.replica_sets]
        )
        # The (kind, boards) pairs that replica sets need. The first pair is padding, which every
        # board set satisfies.
        self._needs = [
            (0, 0),
            *sorted({need for kinds in self.replica_sets for need in _needs(kinds)}),
        ]
        row = {need: place for place, need in enumerate(self._needs)}
        width = max(len(_needs(kinds)) for kinds in self.replica_sets)
        self._rows = np.zeros((len(self.replica_sets), width), np.int64)
        for number, kinds in enumerate(self.replica_sets):
            for place, need in enumerate(_needs(kinds)):
                self._rows[number, place] = row[need]
        self._cached: list[list[_Transitions]] = []
        self._cache_left = _MAX_CACHED_TRANSITIONS

    def transitions(self, size: int) -> list[_Transitions]:
        """Return the transitions to the sets of ``size`` boards."""
        if size <= len(self._cached):
            return self._cached[size - 1]
        sets = self.by_size[size]
        parts = len(sets) * len(self.replica_sets) // _CHUNK + 1
        found = [self._transitions_to(part) for part in np.array_split(sets, parts)]
        if size == len(self._cached) + 1 and self._cache_left > 0:
            self._cached.append(found)
            self._cache_left -= sum(len(part.previous) for part in found)
        return found

    def _transitions_to(self, sets: IntArray) -> _Transitions:
        has = np.stack([self.used[kind][sets] >= boards for kind, boards in self._needs])
        place, replica_set = np.nonzero(has[self._rows].all(axis=1).T)
        return _Transitions(
            sets=sets,
            firsts=np.searchsorted(place, np.arange(len(sets))),
            previous=(sets[place] - self.strides[replica_set]).astype(np.int32),
            replica_set=replica_set.astype(np.int32),
        )


class MaxReachSearch:
    """The feasibility test for one problem and any period."""

    def __init__(self, problem: Problem, reuse: MaxReachSearch | None = None) -> None:
        """Build the tables of board sets, or take those of ``reuse``.

        Args:
            problem: A problem with at most :data:`~.board_sets.MAX_BOARD_SETS` sets of boards and
                :data:`MAX_REPLICA_SETS` replica sets.
            reuse: A search whose tables are shared if it has equal boards.
        """
        self._problem = problem
        self.boards = (tuple(problem.capacity.tolist()), problem.max_replicas)
        self.sets: _BoardSetTable
        if reuse is not None and reuse.boards == self.boards:
            self.sets = reuse.sets
        else:
            self.sets = _BoardSetTable(*self.boards)
        # Last stops, by whether the board shares the step with other boards, then by the limit on
        # the busy time.
        self._known_stops: dict[bool, dict[int, NDArray[np.int32]]] = {False: {}, True: {}}

    def find_route(self, period: int) -> Route | SearchStatus:
        """Return a route that meets ``period``, or the status without a route."""
        problem = self._problem
        # Item r - 1: the last stop of a board of each kind in a replica set of r, from each node.
        stops = [
            self._last_stops(min(size * period, FORBIDDEN - 1), size)
            for size in range(1, problem.max_replicas + 1)
        ]
        progress_left, progress_bound = self._progress_bounds(stops)
        set_stops = np.stack(
            [
                np.minimum.reduce([stops[len(kinds) - 1][kind] for kind in set(kinds)])
                for kinds in self.sets.replica_sets
            ]
        )
        found = self._search(period, set_stops, progress_left, progress_bound)
        if found is SearchStatus.UNKNOWN and problem.max_replicas > 1:
            # One board's last stop may be infeasible for another board of the replica set.
            common = self._common_stops(period, set_stops)
            found = self._search(period, common, progress_left, progress_bound)
        return found

    def _search(
        self,
        period: int,
        set_stops: NDArray[np.int32],
        progress_left: NDArray[np.float64],
        progress_bound: NDArray[np.float64],
    ) -> Route | SearchStatus:
        """Run the dynamic program.

        Args:
            period: Nanoseconds.
            set_stops: ``(replica sets, nodes)``, last stop of each replica set from each node.
            progress_left: ``(nodes,)``, progress from each node to the end.
            progress_bound: ``(board sets,)``, upper bound on the progress of the unused boards.
        """
        problem, sets = self._problem, self.sets
        nodes, count = problem.nodes, len(sets.replica_sets)
        # For each node and replica set: last stop * number of replica sets + replica set's number.
        # The last row is for board sets that reach no node.
        unreachable = nodes * count
        table = np.full((nodes + 1, count), -1, np.int32)
        reach = np.maximum.accumulate(set_stops, axis=1).T
        table[:nodes] = np.where(reach < 0, -1, reach * count + np.arange(count))
        flat = table.ravel()
        # First node from which each board set's unused boards may reach the end, times ``count``.
        needed = (np.searchsorted(-progress_left, -progress_bound) * count).astype(np.int32)
        row = np.full(len(progress_bound), unreachable, np.int32)
        row[0] = 0
        last_added = np.zeros(len(row), np.int32)
        empty_sizes = 0
        for size in range(1, min(len(sets.by_size), (problem.stages or FORBIDDEN) + 1)):
            any_kept = False
            for part in sets.transitions(size):
                values = flat[row[part.previous] + part.replica_set]
                best = np.maximum.reduceat(values, part.firsts)
                added = best % count
                kept = best >= needed[part.sets]
                row[part.sets] = np.where(kept, best - added, unreachable)
                last_added[part.sets] = added
                any_kept = any_kept or bool(kept.any())
                if problem.stages in {None, size}:
                    complete = part.sets[kept & (best >= (nodes - 1) * count)]
                    if len(complete):
                        return self._place_cuts(period, int(complete[0]), last_added)
            empty_sizes = 0 if any_kept else empty_sizes + 1
            if empty_sizes == problem.max_replicas:
                break
        return SearchStatus.INFEASIBLE

    def _last_stops(self, limit: int, size: int) -> NDArray[np.int32]:
        """Return the last stop of a step with a busy time of at most ``limit``.

        The result is ``(kinds, nodes)``, by the start, for a board in a replica set of ``size``
        boards; -1 where no step is feasible. A smaller limit never gives a later stop, so the stops
        of the next larger known limit are lowered node by node.
        """
        busy, known = self._problem.busy_in(size), self._known_stops[size > 1]
        larger = min((figure for figure in known if figure >= limit), default=None)
        if larger is None:
            stops = np.stack([_last_true(of_kind <= limit) for of_kind in busy])
        else:
            stops = known[larger].copy()
            kinds, starts = np.nonzero(stops >= 0)
            while len(kinds):
                too_far = busy[kinds, starts, stops[kinds, starts]] > limit
                kinds, starts = kinds[too_far], starts[too_far]
                stops[kinds, starts] -= 1
                inside = stops[kinds, starts] >= 0
                kinds, starts = kinds[inside], starts[inside]
        known[limit] = stops
        return stops

    def _common_stops(self, period: int, set_stops: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the last node where all boards of a replica set can stop.

        The result is ``(replica sets, nodes)``, by the start; -1 where there is none.
        """
        problem = self._problem
        nodes = np.arange(problem.nodes)
        common = set_stops.copy()
        sizes = np.array([len(kinds) for kinds in self.sets.replica_sets])
        for size in range(2, problem.max_replicas + 1):
            fits = problem.busy_in(size) <= min(size * period, FORBIDDEN - 1)
            # The last feasible stop up to each node, for each kind and start; 0 for none.
            up_to = np.maximum.accumulate(np.where(fits, nodes.astype(np.int16), 0), axis=2)
            of_size = np.flatnonzero(sizes == size)
            kinds = np.array([self.sets.replica_sets[index] for index in of_size])
            kinds = kinds.reshape(-1, size)
            stop = np.maximum(common[of_size], 0)
            while True:
                nearer = np.minimum.reduce(
                    [up_to[kinds[:, place, None], nodes, stop] for place in range(size)]
                )
                if (nearer == stop).all():
                    break
                stop = nearer
            common[of_size] = np.where(stop == 0, -1, stop)
        return common

    def _progress_bounds(
        self, stops: list[NDArray[np.int32]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the progress from each node to the end, and each set's upper bound.

        The upper bound is the most progress that the boards outside the set can make.
        """
        progress = self._problem.progress
        if progress is None:
            progress = np.arange(self._problem.nodes)
        per_board = np.max(
            [
                np.where(stop < 0, 0, progress[stop] - progress).max(axis=1) / (size + 1)
                for size, stop in enumerate(stops)
            ],
            axis=0,
        )
        unused = [
            count - used for count, used in zip(self._problem.capacity, self.sets.used, strict=True)
        ]
        bound = sum(boards * best for boards, best in zip(unused, per_board, strict=True))
        # The factor covers the rounding errors of the sum, so that no set is pruned by mistake.
        return (progress[-1] - progress) * (1 - 1e-9), np.asarray(bound)

    def _place_cuts(
        self, period: int, last_set: int, last_added: NDArray[np.int32]
    ) -> Route | SearchStatus:
        """Return a route with the replica sets that lead to ``last_set``, in their order."""
        problem = self._problem
        replica_sets = []
        while last_set:
            number = int(last_added[last_set])
            replica_sets.append(self.sets.replica_sets[number])
            last_set -= int(self.sets.strides[number])
        replica_sets.reverse()
        reached: list[NDArray[np.bool_]] = [np.zeros(problem.nodes, bool)]
        reached[0][0] = True
        for kinds in replica_sets:
            starts = np.flatnonzero(reached[-1])
            feasible = self._feasible_steps(kinds, period, starts, slice(None))
            reached.append(np.any(feasible, axis=0))
        if not reached[-1][-1]:
            return SearchStatus.UNKNOWN
        route = []
        stop = problem.nodes - 1
        for kinds, before in zip(reversed(replica_sets), reversed(reached[:-1]), strict=True):
            starts = np.flatnonzero(before)
            feasible = self._feasible_steps(kinds, period, starts, slice(stop, stop + 1))
            start = int(starts[feasible[:, 0]][-1])
            route.append(Step(start, stop, kinds))
            stop = start
        return tuple(reversed(route))

    def _feasible_steps(
        self, kinds: tuple[int, ...], period: int, starts: IntArray, stops: slice
    ) -> NDArray[np.bool_]:
        limit = min(len(kinds) * period, FORBIDDEN - 1)
        busy = self._problem.busy_in(len(kinds))
        result: NDArray[np.bool_] = np.logical_and.reduce(
            [busy[kind][starts, stops] <= limit for kind in set(kinds)]
        )
        return result


def replica_set_count(problem: Problem) -> int:
    """Return an upper bound on the number of replica sets: the number with unlimited boards."""
    return math.comb(problem.kinds + problem.max_replicas, problem.max_replicas) - 1


def _needs(kinds: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the number of boards of each kind in a replica set."""
    return list(Counter(kinds).items())


def _last_true(flags: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the last column that is true in each row; -1 for none."""
    columns = flags.shape[1] - 1 - flags[:, ::-1].argmax(axis=1)
    columns[~flags.any(axis=1)] = -1
    result: NDArray[np.int32] = columns.astype(np.int32)
    return result
