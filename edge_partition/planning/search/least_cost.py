"""The route with the least sum of costs that keeps a pace: exact, or with a proven bound.

A shortest path with limited resources (Irnich & Desaulniers, "Shortest Path Problems with Resource
Constraints", 2005). Subgradient steps raise the bound of :mod:`.relaxation`; a path that happens to
respect the limits is a candidate. If the bound meets the best candidate, that is the optimum.
Otherwise all ways are gone through, node by node, dropping of two that used the same boards the
dearer one, and what the bound proves unable to beat the candidate. Where that takes more than
``effort`` ways, the best candidate is returned together with the bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import numpy as np

from edge_partition.planning.search import board_sets
from edge_partition.planning.search.counted_kinds import find_counting
from edge_partition.planning.search.problem import FORBIDDEN, Found, Problem, Route, Step
from edge_partition.planning.search.relaxation import Relaxation, relax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_partition.planning.search.problem import IntArray

#: Ways that are looked at before the search gives up on a proof.
EFFORT = 4_000_000
#: Subgradient steps: more steps, fewer ways to go through.
ROUNDS = 40
#: A crew costs as much time as so many ways.
_CREW_EFFORT = 20
#: Every set of boards has a number in an int64, or the ways are not gone through.
_MOST_SETS = 1 << 62
#: (Step, count) pairs that the search with counted kinds looks at.
_COUNTING_EFFORT = 200_000_000
#: A pace that every board keeps.
ANY_PACE = FORBIDDEN - 1


def find_least_cost(
    problem: Problem,
    *,
    pace: int = ANY_PACE,
    known: Route | None = None,
    limit: int = FORBIDDEN - 1,
    effort: int = EFFORT,
    rounds: int = ROUNDS,
) -> Found:
    """Return the cheapest route that keeps ``pace``.

    Args:
        problem: What to search.
        pace: Nanoseconds between results.
        known: A route that keeps the pace and is within capacity, to start from.
        limit: Routes that cost more don't count.
        effort: As many ways are looked at; see the module's text.
        rounds: As many subgradient steps are taken.
    """
    sizes = problem.crew_sizes(pace)
    if known is None and int(sizes.max(initial=0)) <= 1:
        found = find_counting(problem, sizes > 0, _COUNTING_EFFORT)
        if found.is_proven:
            return found if found.value <= limit else Found(None, FORBIDDEN, FORBIDDEN)
    best = _Best(problem, limit, known)
    bound = _raise_bound(problem, sizes, best, rounds)
    if bound.bound >= best.value:
        return best.found(bound.bound)
    sets = board_sets.set_count(problem.capacity)
    if best.route is None and sets <= board_sets.MOST_SETS:
        route = board_sets.find_route(problem, pace)
        if route is None:
            return Found(None, FORBIDDEN, FORBIDDEN)
        best.offer(route)
    if sets > _MOST_SETS:
        return best.found(bound.bound)
    search = _Search(problem, sizes, bound, effort)
    best.offer(search.run(best.value - 1))
    return best.found(best.value if search.is_complete else bound.bound)


class _Best:
    """The best route so far; until there is one, its value is just beyond the limit."""

    def __init__(self, problem: Problem, limit: int, known: Route | None) -> None:
        self._problem = problem
        self.route: Route | None = None
        self.value = limit + 1
        self.offer(known)

    def offer(self, route: Route | None) -> None:
        """Take a route that keeps the pace, if it is within capacity and better."""
        if route is not None and self._problem.admits(route):
            cost = self._problem.cost_of(route)
            if cost < self.value:
                self.route, self.value = route, cost

    def found(self, bound: int) -> Found:
        """Return the result, where no route costs less than ``bound``."""
        if self.route is None:
            return Found(None, FORBIDDEN, bound if bound < self.value else FORBIDDEN)
        return Found(self.route, self.value, bound)


def _raise_bound(
    problem: Problem, sizes: NDArray[np.uint8], best: _Best, rounds: int
) -> Relaxation:
    """Return the relaxation with the highest bound, offering ``best`` the routes on the way."""
    price = np.zeros(problem.kinds, np.int64)
    highest = relax(problem, sizes, price)
    relaxation, step = highest, 0.0
    for round_index in range(rounds):
        route = relaxation.route
        best.offer(route)
        if route is None or highest.bound >= best.value:
            break
        overuse = problem.use_of(route) - problem.capacity
        step = step or max(1.0, problem.cost_of(route) / len(route))
        price = np.maximum(0, price + np.rint(step / (1 + round_index) * overuse).astype(np.int64))
        relaxation = relax(problem, sizes, price)
        highest = max(highest, relaxation, key=lambda found: found.bound)
    best.offer(relaxation.route)
    return highest


@dataclass(frozen=True)
class _Ways:
    """Ways to a node, no two of which used the same boards.

    Attributes:
        used: ``(ways,)``, the number of the set of used boards.
        cost: ``(ways,)``, so far.
        start: ``(ways,)``, the node before.
        parent: ``(ways,)``, the way to that node.
        crew: ``(ways,)``, the last step's crew.
    """

    used: IntArray
    cost: IntArray
    start: IntArray
    parent: IntArray
    crew: IntArray

    def take(self, kept: NDArray[np.int64] | NDArray[np.bool_]) -> _Ways:
        return _Ways(*(column[kept] for column in self.columns()))

    def columns(self) -> tuple[IntArray, ...]:
        return self.used, self.cost, self.start, self.parent, self.crew


class _Search:
    """Goes through all ways that the bound doesn't rule out."""

    def __init__(
        self, problem: Problem, sizes: NDArray[np.uint8], relaxation: Relaxation, effort: int
    ) -> None:
        self.is_complete = True
        self._problem = problem
        self._sizes = sizes
        self._relaxation = relaxation
        self._left_to_do = effort
        self._counts = problem.capacity + 1
        self._strides = np.array(
            [math.prod(self._counts[:kind].tolist()) for kind in range(problem.kinds)], np.int64
        )
        self._crews: list[tuple[int, ...]] = []
        self._crew_index: dict[tuple[int, ...], int] = {}
        self._waiting: list[list[_Ways]] = [[] for _ in range(problem.nodes)]

    def run(self, limit: int) -> Route | None:
        """Return the cheapest route that costs ``limit`` or less."""
        zero = np.zeros(1, np.int64)
        self._waiting[0] = [_Ways(zero, zero, zero, zero, zero)]
        reached: list[_Ways | None] = []
        for node, waiting in enumerate(self._waiting):
            ways = _merge(waiting) if waiting else None
            reached.append(ways)
            if ways is None or node == self._problem.nodes - 1:
                continue
            self._left_to_do -= len(ways.used)
            if self._left_to_do >= 0:
                self._expand(node, ways, limit)
            if self._left_to_do < 0:
                self.is_complete = False
                return None
        ends = reached[-1]
        # The bound leaves room for the price of boards that stay free, so it may let some pass.
        if ends is None or ends.cost.min() > limit:
            return None
        return self._trace(reached, int(ends.cost.argmin()))

    def _expand(self, node: int, ways: _Ways, limit: int) -> None:
        """Let ways go on from a node; stops where there is nothing left to do it with."""
        problem, price = self._problem, self._relaxation.price
        left = self._problem.capacity - ways.used[:, None] // self._strides % self._counts
        steps_left = np.zeros(len(left), np.int64)
        if problem.stages is not None:
            steps_left = problem.stages - (problem.capacity - left).sum(axis=1)
        # What is left of the limit, with the price of the boards that are still free.
        purse = limit - ways.cost + left @ price
        sizes = self._sizes[:, node, node + 1 :]
        for offset in np.flatnonzero(sizes.any(axis=0)).tolist():
            stop = node + 1 + offset
            rows = np.maximum(steps_left - 1, 0) if problem.stages is not None else steps_left
            to_go = self._relaxation.to_go[rows, stop]
            if problem.stages is not None:
                to_go = np.where(steps_left > 0, to_go, FORBIDDEN)
            rest = purse - to_go
            if rest.max() < 0:
                continue
            for crew in self._crews_of(sizes[:, offset], node, stop, int(rest.max())):
                self._left_to_do -= _CREW_EFFORT
                if self._left_to_do < 0:
                    return
                members = self._crews[crew]
                cost = max(int(problem.cost[kind, node, stop]) for kind in members)
                able = rest >= cost + int(price[list(members)].sum())
                for kind in set(members):
                    able &= left[:, kind] >= members.count(kind)
                going = np.flatnonzero(able)
                if not len(going):
                    continue
                self._left_to_do -= len(going)
                added = int(self._strides[list(members)].sum())
                self._waiting[stop].append(
                    _Ways(
                        ways.used[going] + added,
                        ways.cost[going] + cost,
                        np.full(len(going), node),
                        going,
                        np.full(len(going), crew),
                    )
                )

    def _crews_of(self, sizes: NDArray[np.uint8], node: int, stop: int, purse: int) -> list[int]:
        """Return the crews that keep the pace and no smaller one among them does."""
        cost, price = self._problem.cost[:, node, stop], self._relaxation.price
        found = []
        for size in range(1, int(sizes.max()) + 1):
            if size not in sizes:
                continue
            able = [
                kind
                for kind in np.flatnonzero((sizes > 0) & (sizes <= size)).tolist()
                if cost[kind] <= purse
            ]
            for crew in combinations_with_replacement(able, size):
                self._left_to_do -= 1
                if (
                    max(sizes[kind] for kind in crew) == size
                    and max(cost[kind] for kind in crew) + sum(price[kind] for kind in crew)
                    <= purse
                ):
                    found.append(self._number(crew))
        return found

    def _number(self, crew: tuple[int, ...]) -> int:
        if crew not in self._crew_index:
            self._crew_index[crew] = len(self._crews)
            self._crews.append(crew)
        return self._crew_index[crew]

    def _trace(self, reached: list[_Ways | None], way: int) -> Route:
        route: list[Step] = []
        node = len(reached) - 1
        while node:
            ways = reached[node]
            if ways is None:  # pragma: no cover - a way comes from a way
                raise AssertionError(node)
            start = int(ways.start[way])
            route.append(Step(start, node, self._crews[int(ways.crew[way])]))
            node, way = start, int(ways.parent[way])
        return tuple(reversed(route))


def _merge(parts: list[_Ways]) -> _Ways:
    """Keep the cheapest way of each set of used boards."""
    joined = _Ways(
        *(np.concatenate(column) for column in zip(*(p.columns() for p in parts), strict=True))
    )
    order = np.lexsort((joined.cost, joined.used))
    used = joined.used[order]
    first = np.ones(len(order), bool)
    first[1:] = used[1:] != used[:-1]
    return joined.take(order[first])
