"""Test quickly whether a period is feasible: how far can each set of boards serve the model?

Problem: find a route (stages and their boards) that meets a period, or prove that no route meets
the period. :mod:`.problem` defines the terms.

Method: dynamic programming over board sets, from small to large sets. A *board set* is the number
of boards of each kind that are in use. The value of a board set is the last node up to which its
boards can serve the model. The recurrence is a relaxation: the next step may start at any node up
to this last node, even at a node where the previous step cannot stop. If no board set reaches the
last node of the model in the relaxation, the period is infeasible.

A board set is dropped if the boards that it leaves unused cannot serve the rest of the model. The
test uses an upper bound on the *progress* of the unused boards: the work of the model that they can
do within the period.

If a board set reaches the last node, the search knows the replica sets of the steps and their
order. It then computes cuts for these replica sets exactly. If there are no such cuts, the answer
is "unknown". The caller can then use :mod:`.board_sets`, which takes about ten times as long as
this search.

Complexity: ``O(board sets * replica sets)`` for one period.

Guarantee: a returned route is feasible, and the answer "infeasible" is proven.
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


#: Largest number of (replica set, board set) pairs in one array operation. It limits the memory.
_CHUNK = 1 << 19
#: Number of transitions that are kept for later periods.
_MAX_CACHED_TRANSITIONS = 1 << 23


@dataclass(frozen=True)
class _Transitions:
    """The transitions to some board sets.

    A transition adds a replica set to a smaller board set.

    Attributes:
        sets: ``(sets,)``, numbers of the board sets. All of them have the same number of boards.
            The transitions are sorted in the order of ``sets``.
        firsts: ``(sets,)``, for each board set, the index of the first transition to it.
        previous: ``(transitions,)``, number of the smaller board set.
        replica_set: ``(transitions,)``, number of the added replica set.
    """

    sets: IntArray
    firsts: IntArray
    previous: NDArray[np.int32]
    replica_set: NDArray[np.int32]


class _BoardSetTable:
    """All board sets and all replica sets of a fleet. The table does not depend on the model.

    A board set is the number of boards of each kind that are in use. Each board set has a number:
    ``sum(boards of kind * stride of kind)``.
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
        #: For each number of boards, the numbers of the board sets with this number of boards.
        self.by_size = np.split(order, np.cumsum(np.bincount(size))[:-1])
        self.replica_sets = replica_sets(capacity, max_replicas)
        self.strides = np.array(
            [sum(strides[kind] for kind in kinds) for kinds in self.replica_sets]
        )
        # The (kind, number of boards) pairs that replica sets need. The first pair needs no board,
        # so every board set has it. It fills the rows of replica sets with few kinds.
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
        """Return the transitions to all board sets of ``size`` boards.

        The transitions are in several parts. The size of a part is limited to save memory.
        """
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
    """The feasibility test for one problem and any period; see the module's docstring."""

    def __init__(self, problem: Problem, reuse: MaxReachSearch | None = None) -> None:
        """Build the tables of board sets, or use the tables of ``reuse``.

        Args:
            problem: A problem with at most :data:`~.board_sets.MAX_BOARD_SETS` board sets and
                :data:`~.board_sets.MAX_REPLICA_SETS` replica sets.
            reuse: Another search. If its problem has the same boards, its tables are used.
        """
        self._problem = problem
        self.boards = (tuple(problem.capacity.tolist()), problem.max_replicas)
        self.sets: _BoardSetTable
        if reuse is not None and reuse.boards == self.boards:
            self.sets = reuse.sets
        else:
            self.sets = _BoardSetTable(*self.boards)
        self._stops = _LastStops(problem, self.sets.replica_sets)
        #: A lower bound on every feasible period, after :meth:`find_route` has proven that a period
        #: is infeasible. In nanoseconds.
        self.next_period = 0

    def find_route(self, period: int) -> Route | SearchStatus:
        """Return a route that meets ``period``, or a status that says why no route was found.

        Args:
            period: Longest allowed time between two results of a step, in nanoseconds.
        """
        set_stops = self._stops.within(period)
        found = self._search(period, set_stops)
        if found is SearchStatus.UNKNOWN:
            set_stops = self._stops.feasible_within(period)
            found = self._search(period, set_stops)
        if found is SearchStatus.INFEASIBLE:
            # The relaxation gives the same answer for all periods that have the same last stops.
            self.next_period = max(period + 1, self._stops.next_period(set_stops))
        return found

    def _search(self, period: int, set_stops: NDArray[np.int32]) -> Route | SearchStatus:
        """Run the dynamic program over the board sets.

        Args:
            period: Longest allowed time between two results of a step, in nanoseconds.
            set_stops: ``(replica sets, nodes)``, by replica set and start of a step: the last node
                where the step can stop.
        """
        progress_left, progress_bound = self._progress_bounds(set_stops)
        problem, sets = self._problem, self.sets
        nodes, count = problem.nodes, len(sets.replica_sets)
        # ``(nodes + 1, replica sets)``. An item encodes the last stop of a step and its replica
        # set: last stop * number of replica sets + number of the replica set. The last row is for
        # board sets that were dropped.
        unreachable = nodes * count
        table = np.full((nodes + 1, count), -1, np.int32)
        reach = np.maximum.accumulate(set_stops, axis=1).T
        table[:nodes] = np.where(reach < 0, -1, reach * count + np.arange(count))
        flat = table.ravel()
        # For each board set, the first node from which its unused boards may reach the last node,
        # times ``count``.
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
        """Return upper bounds on the progress of unused boards.

        The progress of a step is the work of the model from the step's start to its stop. If a
        replica set serves the step, its progress is divided among its boards in proportion to fixed
        weights. The bound on the progress of a board is its largest part in any replica set.

        Returns:
            Two arrays. The first array, ``(nodes,)``, is the progress from each node to the last
            node. The second array, ``(board sets,)``, is an upper bound on the progress of the
            boards that each board set leaves unused.
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
        # The factor makes up for rounding errors of the sum. So no board set is dropped by mistake.
        return (progress[-1] - progress) * (1 - 1e-9), np.asarray(bound)

    def _place_cuts(
        self, period: int, last_set: int, last_added: NDArray[np.int32]
    ) -> Route | SearchStatus:
        """Compute cuts for the replica sets with which the dynamic program reached ``last_set``.

        Args:
            period: Longest allowed time between two results of a step, in nanoseconds.
            last_set: Number of a board set that reaches the last node.
            last_added: ``(board sets,)``, number of the replica set that was added last to reach
                each board set.

        Returns:
            A route with these replica sets in the order in which they were added. ``UNKNOWN`` if
            they do not meet ``period`` with any cuts.
        """
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
    """For each replica set and each start, the last node where a step can stop and meet a period.

    Bisection finds the last stop. It needs busy times that never become shorter if the stop is
    later. If a later stop has a shorter busy time, the shorter time is used for the earlier stop
    too. So no busy time is longer than the true busy time, and the last stop that bisection finds
    is never before the true last stop.
    """

    def __init__(self, problem: Problem, replica_sets: list[tuple[int, ...]]) -> None:
        self._problem = problem
        self._sets = replica_sets
        self._nodes = np.arange(problem.nodes)
        self._later = [_least_of_later(problem.busy)] * 2
        if problem.busy_in(2) is not problem.busy:
            self._later[1] = _least_of_later(problem.busy_in(2))
        sizes = np.array([len(kinds) for kinds in replica_sets])
        #: For each size of a replica set: the numbers of the replica sets, and their kinds.
        self._by_size = [
            (number := np.flatnonzero(sizes == size), np.array([replica_sets[n] for n in number]))
            for size in np.unique(sizes).tolist()
        ]
        self._known: dict[int, NDArray[np.int32]] = {}
        #: ``(kinds,)``, a number above 0 that is about proportional to the speed of each kind.
        self.speed = _speeds(problem)

    def within(self, period: int) -> NDArray[np.int32]:
        """Return an upper bound on the last node where a step can stop and meet ``period``.

        Returns:
            ``(replica sets, nodes)``, by replica set and start of the step. A value of -1 means
            that no step from this start meets the period.
        """
        shape = (len(self._sets), len(self._nodes))
        # For a longer period, the last stop is the same or later. So the results for shorter and
        # longer periods are bounds.
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
            # A step cannot stop before its start.
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
        """Return the last node where a step can stop and meet ``period``.

        The result is exact, and the result of :meth:`within` is only an upper bound. Both have the
        same shape, and -1 has the same meaning.
        """
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
        """Return a lower bound on the periods with later last stops than ``set_stops``, in ns.

        Args:
            set_stops: The result of :meth:`within` or :meth:`feasible_within` for a shorter period.
        """
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
        """Return, for some steps, the sum of the shares of the replica set's boards, ``(steps,)``.

        The share of a board is ``period`` divided by the board's busy time. The sum is 0 if one of
        the boards cannot run the step.

        Args:
            kinds: ``(sets, size)``, kinds of the boards of replica sets with ``size`` boards each.
            rows: ``(steps,)``, index of each step's replica set in ``kinds``.
            starts: ``(steps,)``, node where each step starts.
            stops: ``(steps,)``, node where each step stops.
            period: The period, in nanoseconds.
        """
        later = self._later[kinds.shape[1] > 1]
        share, most = np.zeros(len(rows)), np.zeros(len(rows), np.int64)
        for place in range(kinds.shape[1]):
            busy = later[kinds[rows, place], starts, stops]
            share += float(min(period, FORBIDDEN - 1)) / busy
            np.maximum(most, busy, out=most)
        return np.where(most < FORBIDDEN, share, 0)


def _least_of_later(busy: IntArray) -> IntArray:
    """Return, for each start and stop, the shortest busy time with this stop or a later stop.

    The start is the same for all of these busy times. The result has the shape of ``busy``:
    ``(kinds, nodes, nodes)``.
    """
    result: IntArray = np.minimum.accumulate(busy[:, :, ::-1], axis=2)[:, :, ::-1]
    return result


def _speeds(problem: Problem) -> list[float]:
    """Return, for each kind, the largest progress per nanosecond that a step has.

    Progress is the work of the model from the step's start to its stop. To save time, only steps
    from about 32 of the nodes are compared.
    """
    progress = np.arange(problem.nodes) if problem.progress is None else problem.progress
    starts = np.arange(0, problem.nodes, max(1, problem.nodes // 32))
    made = np.maximum(progress - progress[starts, None], 1)
    speeds = [float((made / busy[starts]).max()) for busy in problem.busy]
    return [max(speed, 1e-18) for speed in speeds]


def _needs(kinds: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the number of boards of each kind in a replica set, as (kind, number) pairs."""
    return list(Counter(kinds).items())
