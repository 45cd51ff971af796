"""A quick answer to whether a pace can be kept, right where it answers.

For each set of boards only the furthest node is kept that the set might reach, where a stage may
start at any node up to the furthest so far. That is too hopeful: a node in between may be one that
its predecessor can't stop at. So if not even this reaches the end, no route does. A set is given up
where the boards it leaves, each going as far as it does at its best, would not reach the end. If
the end is reached, the crews are lined up as they came to it, and the cuts for just these crews are
worked out exactly. Where that finds none, there is no answer: :mod:`.board_sets` has it, at ten
times the cost.
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


class NoRoute(Enum):
    """Why there is no route."""

    PROVEN = "no route keeps the pace"
    UNKNOWN = "a route was not found, and may be there"


#: The most crews that are gone through.
MOST_CREWS = 5_000
#: (crew, set) pairs that are looked at in one step, to bound its memory.
_CHUNK = 1 << 19
#: Ways to come to a set that are worked out once for all paces, if there are no more.
_KEPT_WAYS = 1 << 23


@dataclass(frozen=True)
class _Ways:
    """How some sets come about: the last crew of each, and the set before it.

    Attributes:
        sets: ``(sets,)``, of one size.
        firsts: ``(sets,)``, where each one's ways begin.
        before: ``(ways,)``, the set before the last crew.
        crew: ``(ways,)``, the last crew's number.
    """

    sets: IntArray
    firsts: IntArray
    before: NDArray[np.int32]
    crew: NDArray[np.int32]


class _Sets:
    """The sets of boards that there are, whatever the model."""

    def __init__(self, capacity: tuple[int, ...], max_replicas: int) -> None:
        counts = np.array(capacity, np.int64) + 1
        strides = np.concatenate([[1], np.cumprod(counts)[:-1]]).tolist()
        index = np.arange(int(counts.prod()))
        #: How many boards of each kind a set has, ``(sets,)`` each.
        self.used = [
            (index // stride % count).astype(np.int8)
            for stride, count in zip(strides, counts.tolist(), strict=True)
        ]
        #: And of all kinds.
        size = np.sum(self.used, axis=0, dtype=np.int64)
        order = np.argsort(size, kind="stable")
        self.by_size = np.split(order, np.cumsum(np.bincount(size))[:-1])
        self.crews = [
            kinds
            for size in range(1, max_replicas + 1)
            for kinds in combinations_with_replacement(range(len(capacity)), size)
            if all(count <= capacity[kind] for kind, count in Counter(kinds).items())
        ]
        self.strides = np.array([sum(strides[kind] for kind in crew) for crew in self.crews])
        # What a crew takes up of a set, as rows of (kind, boards); padded with what all have.
        self._needs = [(0, 0), *sorted({need for crew in self.crews for need in _needs(crew)})]
        row = {need: place for place, need in enumerate(self._needs)}
        width = max(len(_needs(crew)) for crew in self.crews)
        self._rows = np.zeros((len(self.crews), width), np.int64)
        for number, crew in enumerate(self.crews):
            for place, need in enumerate(_needs(crew)):
                self._rows[number, place] = row[need]
        self._kept: list[list[_Ways]] = []
        self._room = _KEPT_WAYS

    def ways(self, size: int) -> list[_Ways]:
        """Return how the sets of ``size`` boards come about."""
        if size <= len(self._kept):
            return self._kept[size - 1]
        sets = self.by_size[size]
        parts = len(sets) * len(self.crews) // _CHUNK + 1
        found = [self._ways_to(part) for part in np.array_split(sets, parts)]
        if size == len(self._kept) + 1 and self._room > 0:
            self._kept.append(found)
            self._room -= sum(len(ways.before) for ways in found)
        return found

    def _ways_to(self, sets: IntArray) -> _Ways:
        has = np.stack([self.used[kind][sets] >= boards for kind, boards in self._needs])
        place, crew = np.nonzero(has[self._rows].all(axis=1).T)
        return _Ways(
            sets=sets,
            firsts=np.searchsorted(place, np.arange(len(sets))),
            before=(sets[place] - self.strides[crew]).astype(np.int32),
            crew=crew.astype(np.int32),
        )


class FurthestSearch:
    """Answers for one problem and any pace."""

    def __init__(self, problem: Problem, like: FurthestSearch | None = None) -> None:
        """Prepare.

        Args:
            problem: Of no more than :data:`~.board_sets.MOST_SETS` sets of boards and
                :data:`MOST_CREWS` crews.
            like: Where the boards are the same, what it knows of their sets is known here too.
        """
        self._problem = problem
        self.boards = (tuple(problem.capacity.tolist()), problem.max_replicas)
        self.sets: _Sets
        if like is not None and like.boards == self.boards:
            self.sets = like.sets
        else:
            self.sets = _Sets(*self.boards)
        # By whether a board shares the step with others, and the figure.
        self._known_stops: dict[bool, dict[int, NDArray[np.int32]]] = {False: {}, True: {}}

    def find_route(self, pace: int) -> Route | NoRoute:
        """Return a route that keeps ``pace``, or why there is none."""
        problem = self._problem
        # Row r - 1: where a board of each kind gets to at most in a crew of r, from each node.
        stops = [
            self._furthest_stops(min(size * pace, FORBIDDEN - 1), size)
            for size in range(1, problem.max_replicas + 1)
        ]
        outlook = self._outlook(stops)
        together = np.stack(
            [
                np.minimum.reduce([stops[len(crew) - 1][kind] for kind in set(crew)])
                for crew in self.sets.crews
            ]
        )
        found = self._search(pace, together, *outlook)
        if found is NoRoute.UNKNOWN and problem.max_replicas > 1:
            # Where one of a crew gets to, another may be unable to stop.
            found = self._search(pace, self._common_stops(pace, together), *outlook)
        return found

    def _search(
        self,
        pace: int,
        together: NDArray[np.int32],
        to_go: NDArray[np.float64],
        credit: NDArray[np.float64],
    ) -> Route | NoRoute:
        """Search with crews that get ``together`` so far from each node, ``(crews, nodes)``."""
        problem, sets = self._problem, self.sets
        nodes, count = problem.nodes, len(sets.crews)
        # Of each node and crew, the furthest node times the number of crews, plus the crew; in the
        # last row nowhere, for sets that reach no node.
        nowhere = nodes * count
        table = np.full((nodes + 1, count), -1, np.int32)
        reach = np.maximum.accumulate(together, axis=1).T
        table[:nodes] = np.where(reach < 0, -1, reach * count + np.arange(count))
        flat = table.ravel()
        # Where a set must at least get to for the rest to come to the end, in rows of the table.
        needed = (np.searchsorted(-to_go, -credit) * count).astype(np.int32)
        row = np.full(len(credit), nowhere, np.int32)
        row[0] = 0
        crew_to = np.zeros(len(row), np.int32)
        empty = 0
        for size in range(1, min(len(sets.by_size), (problem.stages or FORBIDDEN) + 1)):
            alive = False
            for ways in sets.ways(size):
                best = np.maximum.reduceat(flat[row[ways.before] + ways.crew], ways.firsts)
                crew = best % count
                hopeful = best >= needed[ways.sets]
                row[ways.sets] = np.where(hopeful, best - crew, nowhere)
                crew_to[ways.sets] = crew
                alive = alive or bool(hopeful.any())
                if problem.stages in {None, size}:
                    done = ways.sets[hopeful & (best >= (nodes - 1) * count)]
                    if len(done):
                        return self._line_up(pace, int(done[0]), crew_to)
            empty = 0 if alive else empty + 1
            if empty == problem.max_replicas:
                break
        return NoRoute.PROVEN

    def _furthest_stops(self, most: int, size: int) -> NDArray[np.int32]:
        """Return where boards get to from each node by steps of ``most``, ``(kinds, nodes)``.

        They are in crews of ``size``.

        -1 where one gets nowhere. No board gets further than with a larger figure, and one asked
        for before is seldom much larger: from there it goes back step by step.
        """
        busy, known = self._problem.busy_in(size), self._known_stops[size > 1]
        larger = min((figure for figure in known if figure >= most), default=None)
        if larger is None:
            stops = np.stack([_furthest(of_kind <= most) for of_kind in busy])
        else:
            stops = known[larger].copy()
            kinds, starts = np.nonzero(stops >= 0)
            while len(kinds):
                too_far = busy[kinds, starts, stops[kinds, starts]] > most
                kinds, starts = kinds[too_far], starts[too_far]
                stops[kinds, starts] -= 1
                inside = stops[kinds, starts] >= 0
                kinds, starts = kinds[inside], starts[inside]
        known[most] = stops
        return stops

    def _common_stops(self, pace: int, together: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the furthest node where all of a crew may stop, ``(crews, nodes)``."""
        problem = self._problem
        nodes = np.arange(problem.nodes)
        common = together.copy()
        sizes = np.array([len(crew) for crew in self.sets.crews])
        for size in range(2, problem.max_replicas + 1):
            fits = problem.busy_in(size) <= min(size * pace, FORBIDDEN - 1)
            # The furthest stop up to a node, of each kind from each start; 0, no stop, for none.
            up_to = np.maximum.accumulate(np.where(fits, nodes.astype(np.int16), 0), axis=2)
            of_size = np.flatnonzero(sizes == size)
            crews = np.array([self.sets.crews[index] for index in of_size]).reshape(-1, size)
            stop = np.maximum(common[of_size], 0)
            while True:
                nearer = np.minimum.reduce(
                    [up_to[crews[:, place, None], nodes, stop] for place in range(size)]
                )
                if (nearer == stop).all():
                    break
                stop = nearer
            common[of_size] = np.where(stop == 0, -1, stop)
        return common

    def _outlook(
        self, stops: list[NDArray[np.int32]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return how far it is from each node to the end, and how far each set's rest may go."""
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
        left = [
            count - used for count, used in zip(self._problem.capacity, self.sets.used, strict=True)
        ]
        credit = sum(boards * best for boards, best in zip(left, per_board, strict=True))
        # What a sum of many numbers may lose in its last places.
        return (progress[-1] - progress) * (1 - 1e-9), np.asarray(credit)

    def _line_up(self, pace: int, last_set: int, crew_to: NDArray[np.int32]) -> Route | NoRoute:
        """Return the cuts for the crews that lead to a set, in the order in which they came."""
        problem = self._problem
        crews = []
        while last_set:
            number = int(crew_to[last_set])
            crews.append(self.sets.crews[number])
            last_set -= int(self.sets.strides[number])
        crews.reverse()
        reached: list[NDArray[np.bool_]] = [np.zeros(problem.nodes, bool)]
        reached[0][0] = True
        for crew in crews:
            starts = np.flatnonzero(reached[-1])
            allowed = self._allowed(crew, pace, starts, slice(None))
            reached.append(np.any(allowed, axis=0))
        if not reached[-1][-1]:
            return NoRoute.UNKNOWN
        route = []
        stop = problem.nodes - 1
        for crew, before in zip(reversed(crews), reversed(reached[:-1]), strict=True):
            starts = np.flatnonzero(before)
            start = int(starts[self._allowed(crew, pace, starts, slice(stop, stop + 1))[:, 0]][-1])
            route.append(Step(start, stop, crew))
            stop = start
        return tuple(reversed(route))

    def _allowed(
        self, crew: tuple[int, ...], pace: int, starts: IntArray, stops: slice
    ) -> NDArray[np.bool_]:
        most = min(len(crew) * pace, FORBIDDEN - 1)
        busy = self._problem.busy_in(len(crew))
        result: NDArray[np.bool_] = np.logical_and.reduce(
            [busy[kind][starts, stops] <= most for kind in set(crew)]
        )
        return result


def crew_count(problem: Problem) -> int:
    """Return how many crews there may be."""
    return math.comb(problem.kinds + problem.max_replicas, problem.max_replicas) - 1


def _needs(crew: tuple[int, ...]) -> list[tuple[int, int]]:
    return list(Counter(crew).items())


def _furthest(fits: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the last column that is true in each row, -1 for none."""
    stops = fits.shape[1] - 1 - fits[:, ::-1].argmax(axis=1)
    stops[~fits.any(axis=1)] = -1
    result: NDArray[np.int32] = stops.astype(np.int32)
    return result
