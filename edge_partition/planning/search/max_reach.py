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
from typing import TYPE_CHECKING

import numpy as np

from edge_partition.planning.search.board_sets import replica_sets
from edge_partition.planning.search.problem import (
    FORBIDDEN,
    SHARE_TOLERANCE,
    Problem,
    Route,
    Step,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edge_partition.planning.search.problem import IntArray


class SearchStatus(Enum):
    """The answer of a feasibility test that found no route."""

    INFEASIBLE = "no route meets the period"
    UNKNOWN = "no route was found, but one may exist"


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

    def __init__(self, capacity: Sequence[int], max_replicas: int) -> None:
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
        self.replica_sets = replica_sets(capacity, max_replicas)
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
                :data:`~.board_sets.MAX_REPLICA_SETS` replica sets.
            reuse: A search whose tables are shared if it has equal boards.
        """
        self._problem = problem
        self.boards = (tuple(problem.capacity.tolist()), problem.max_replicas)
        self.sets: _BoardSetTable
        if reuse is not None and reuse.boards == self.boards:
            self.sets = reuse.sets
        else:
            self.sets = _BoardSetTable(*self.boards)
        self._stops = _LastStops(problem, self.sets.replica_sets)
        #: After :meth:`find_route` has proven that a period is infeasible: a lower bound on every
        #: feasible period.
        self.next_period = 0

    def find_route(self, period: int) -> Route | SearchStatus:
        """Return a route that meets ``period``, or the status without a route."""
        set_stops = self._stops.within(period)
        found = self._search(period, set_stops)
        if found is SearchStatus.UNKNOWN:
            set_stops = self._stops.feasible_within(period)
            found = self._search(period, set_stops)
        if found is SearchStatus.INFEASIBLE:
            # The relaxation has the same answer for every period with the same last stops.
            self.next_period = max(period + 1, self._stops.next_period(set_stops))
        return found

    def _search(self, period: int, set_stops: NDArray[np.int32]) -> Route | SearchStatus:
        """Run the dynamic program.

        Args:
            period: Nanoseconds.
            set_stops: ``(replica sets, nodes)``, last stop of each replica set from each node.
        """
        progress_left, progress_bound = self._progress_bounds(set_stops)
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

    def _progress_bounds(
        self, set_stops: NDArray[np.int32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the progress from each node to the end, and each set's upper bound.

        The upper bound is the most progress that the boards outside the set can make. The progress
        of a replica set is split among its boards in proportion to fixed weights, and a board's
        bound is the largest share that any replica set gives the board.
        """
        progress = self._problem.progress
        if progress is None:
            progress = np.arange(self._problem.nodes)
        made = np.where(set_stops < 0, 0, progress[set_stops] - progress).max(axis=1)
        weight = self._stops.speed
        per_board = np.zeros(self._problem.kinds)
        for kinds, most in zip(self.sets.replica_sets, made.tolist(), strict=True):
            share = most / sum(weight[kind] for kind in kinds)
            for kind in kinds:
                per_board[kind] = max(per_board[kind], share * weight[kind])
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
            feasible = problem.meets(kinds, period, starts)
            reached.append(np.any(feasible, axis=0))
        if not reached[-1][-1]:
            return SearchStatus.UNKNOWN
        route = []
        stop = problem.nodes - 1
        for kinds, before in zip(reversed(replica_sets), reversed(reached[:-1]), strict=True):
            starts = np.flatnonzero(before)
            feasible = problem.meets(kinds, period, starts, slice(stop, stop + 1))
            start = int(starts[feasible[:, 0]][-1])
            route.append(Step(start, stop, kinds))
            stop = start
        return tuple(reversed(route))


class _LastStops:
    """The last node where each replica set can stop, from each start, for any period.

    A step's busy time mostly grows with its stop. Where a later stop has a shorter time, the search
    takes the shorter time for the earlier stop too. With these times the last stop is found by
    bisection, and never lies before the true last stop.
    """

    def __init__(self, problem: Problem, replica_sets: list[tuple[int, ...]]) -> None:
        self._problem = problem
        self._sets = replica_sets
        self._nodes = np.arange(problem.nodes)
        self._later = [_least_of_later(problem.busy)] * 2
        if problem.busy_in(2) is not problem.busy:
            self._later[1] = _least_of_later(problem.busy_in(2))
        sizes = np.array([len(kinds) for kinds in replica_sets])
        #: (numbers of the replica sets, their kinds) of each size.
        self._by_size = [
            (number := np.flatnonzero(sizes == size), np.array([replica_sets[n] for n in number]))
            for size in np.unique(sizes).tolist()
        ]
        self._known: dict[int, NDArray[np.int32]] = {}
        #: ``(kinds,)``, more than 0, about proportional to the speed of each kind.
        self.speed = _speeds(problem)

    def within(self, period: int) -> NDArray[np.int32]:
        """Return an upper bound on the last node where a step can stop within ``period``.

        The array's shape is ``(replica sets, nodes)``; the second index is the node where the step
        starts. The value -1 means that no stop is within the period.
        """
        shape = (len(self._sets), len(self._nodes))
        # Stops never move back as the period grows.
        below = max((known for known in self._known if known <= period), default=None)
        above = min((known for known in self._known if known >= period), default=None)
        low = np.full(shape, -1, np.int32) if below is None else self._known[below].copy()
        high = (
            np.full(shape, len(self._nodes) - 1, np.int32)
            if above is None
            else self._known[above].copy()
        )
        for numbers, kinds in self._by_size:
            first, last = low[numbers], high[numbers]
            # The nodes before a start are infeasible for the start.
            first = np.where(first < 0, self._nodes.astype(np.int32), first)
            rows, starts = np.nonzero(first < last)
            lowest, highest = first[rows, starts], last[rows, starts]
            while len(open_ := np.flatnonzero(lowest < highest)):
                middle = (lowest[open_] + highest[open_] + 1) // 2
                meets = self._shares(kinds, rows[open_], starts[open_], middle, period) >= (
                    1 - SHARE_TOLERANCE
                )
                lowest[open_] = np.where(meets, middle, lowest[open_])
                highest[open_] = np.where(meets, highest[open_], middle - 1)
            first[rows, starts] = lowest
            low[numbers] = np.where(first <= self._nodes, -1, first)
        self._known[period] = low
        return low

    def feasible_within(self, period: int) -> NDArray[np.int32]:
        """Return the last stop within ``period``, as :meth:`within`, but exact."""
        stops = self.within(period).copy()
        for number, kinds in enumerate(self._sets):
            row = stops[number]
            open_ = np.flatnonzero(row >= 0)
            while len(open_):
                meets = self._problem.meets(kinds, period, open_, row[open_])
                open_ = open_[~meets]
                row[open_] -= 1
                row[open_] = np.where(row[open_] <= open_, -1, row[open_])
                open_ = open_[row[open_] >= 0]
        return stops

    def next_period(self, set_stops: NDArray[np.int32]) -> int:
        """Return the shortest period at which a last stop may differ from ``set_stops``."""
        most = 0.0
        for numbers, kinds in self._by_size:
            after = np.where(set_stops[numbers] < 0, self._nodes, set_stops[numbers]) + 1
            rows, starts = np.nonzero(after < len(self._nodes))
            if len(rows):
                shares = self._shares(kinds, rows, starts, after[rows, starts], 1)
                most = max(most, float(shares.max()))
        return math.ceil((1 - SHARE_TOLERANCE) / most) if most else FORBIDDEN

    def _shares(
        self,
        kinds: IntArray,
        rows: IntArray,
        starts: IntArray,
        stops: NDArray[np.int32],
        period: int,
    ) -> NDArray[np.float64]:
        """Return the sum of the shares of each set ``kinds[rows]``; 0 where infeasible."""
        later = self._later[kinds.shape[1] > 1]
        share, most = np.zeros(len(rows)), np.zeros(len(rows), np.int64)
        for place in range(kinds.shape[1]):
            busy = later[kinds[rows, place], starts, stops]
            share += float(min(period, FORBIDDEN - 1)) / busy
            np.maximum(most, busy, out=most)
        return np.where(most < FORBIDDEN, share, 0)


def _least_of_later(busy: IntArray) -> IntArray:
    """Return the least busy time of each step and of all steps from its start to later stops."""
    result: IntArray = np.minimum.accumulate(busy[:, :, ::-1], axis=2)[:, :, ::-1]
    return result


def _speeds(problem: Problem) -> list[float]:
    """Return the largest progress for each nanosecond of each kind, over a part of the starts."""
    progress = np.arange(problem.nodes) if problem.progress is None else problem.progress
    starts = np.arange(0, problem.nodes, max(1, problem.nodes // 32))
    made = np.maximum(progress - progress[starts, None], 1)
    speeds = [float((made / busy[starts]).max()) for busy in problem.busy]
    return [max(speed, 1e-18) for speed in speeds]


def _needs(kinds: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the number of boards of each kind in a replica set."""
    return list(Counter(kinds).items())
