"""Find the cheapest route that meets a period: a labelling algorithm with Lagrangian bounds.

Problem: find the cheapest route (stages and their boards) that meets a period. This is a shortest
path problem with resource constraints (Irnich & Desaulniers, "Shortest Path Problems with Resource
Constraints", 2005). The resources are the boards of each kind. :mod:`.problem` defines the terms.

Method: if no step needs replicas, :mod:`.state_space_relaxation` searches first, within a work
limit. If :mod:`.state_space_relaxation` gives no answer, the search has two parts:

1. Subgradient updates maximize the lower bound of :mod:`.lagrangian_relaxation`. The incumbent is
   the cheapest feasible route so far. If the lower bound reaches the incumbent's cost, the
   incumbent is optimal, and the search ends.
2. A labelling search extends partial routes (labels) node by node. If two labels at the same node
   use the same number of boards of each kind, the more expensive label is dropped. A label is also
   dropped if its lower bound is not below the incumbent's cost.

Complexity: exponential in the number of kinds in the worst case, at most ``work_limit`` labels.

Guarantee: the result is exact, with two exceptions. The search may reach ``work_limit``, or the
fleet may have too many board sets to give each a number of type int64. In these cases, the result
is the incumbent and the Lagrangian lower bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from edge_partition.planning.search import board_sets
from edge_partition.planning.search.lagrangian_relaxation import Relaxation, relax
from edge_partition.planning.search.minimal_sets import minimal_sets
from edge_partition.planning.search.problem import FORBIDDEN, Problem, Route, SearchResult, Step
from edge_partition.planning.search.state_space_relaxation import find_without_replicas

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_partition.planning.search.problem import IntArray

#: Number of labels that the search extends before it stops without a proof.
WORK_LIMIT = 4_000_000
#: Number of subgradient steps. More steps give a higher bound, and a higher bound fewer labels.
ROUNDS = 40
#: Work of extending labels by one replica set, counted in labels.
_REPLICA_SET_WORK = 20
#: Largest number of board sets whose numbers fit an int64.
_MAX_NUMBERED_SETS = 1 << 62
#: Largest number of (step, state) pairs in one run of the search without replicas.
_STATE_SPACE_WORK_LIMIT = 200_000_000
#: A period that every feasible step meets.
ANY_PERIOD = FORBIDDEN - 1


def find_least_cost(
    problem: Problem,
    *,
    period: int = ANY_PERIOD,
    known: Route | None = None,
    cost_limit: int = FORBIDDEN - 1,
    work_limit: int = WORK_LIMIT,
    rounds: int = ROUNDS,
) -> SearchResult:
    """Return the cheapest route that meets ``period``.

    Args:
        problem: The problem to solve.
        period: Longest allowed time between two results of a step, in nanoseconds.
        known: A feasible route that meets ``period``. The search looks for cheaper routes. ``None``
            if no route is known.
        cost_limit: Largest allowed cost of a route.
        work_limit: Largest number of labels (partial routes) that the search extends.
        rounds: Largest number of subgradient updates of the lower bound.
    """
    if known is None and not problem.needs_replicas(period):
        found = find_without_replicas(problem, problem.busy <= period, _STATE_SPACE_WORK_LIMIT)
        if found.is_proven:
            return found if found.value <= cost_limit else SearchResult(None, FORBIDDEN, FORBIDDEN)
    incumbent = _Incumbent(problem, period, cost_limit, known)
    needed = problem.boards_needed(period)
    relaxation = _maximize_bound(problem, period, needed, incumbent, rounds)
    if relaxation.bound >= incumbent.value:
        return incumbent.result(relaxation.bound)
    if incumbent.route is None and board_sets.is_small(problem):
        route = board_sets.find_route(problem, period)
        if route is None:
            return SearchResult(None, FORBIDDEN, FORBIDDEN)
        incumbent.offer(route)
    if board_sets.board_set_count(problem.capacity) > _MAX_NUMBERED_SETS:
        return incumbent.result(relaxation.bound)
    search = _LabelSearch(problem, period, needed, relaxation, work_limit)
    incumbent.offer(search.run(incumbent.value - 1))
    return incumbent.result(incumbent.value if search.is_complete else relaxation.bound)


class _Incumbent:
    """The cheapest feasible route so far.

    Attributes:
        route: The route, or ``None``.
        value: Cost of the route. If there is no route yet, the cost limit plus 1.
    """

    def __init__(self, problem: Problem, period: int, cost_limit: int, known: Route | None) -> None:
        self._problem = problem
        self._period = period
        self.route: Route | None = None
        self.value = cost_limit + 1
        self.offer(known)

    def offer(self, route: Route | None) -> None:
        """Replace the incumbent by ``route`` if ``route`` is feasible and cheaper."""
        if (
            route is not None
            and self._problem.is_feasible(route)
            and (cost := self._problem.cost_of(route)) < self.value
            and self._problem.period_of(route) <= self._period
        ):
            self.route, self.value = route, cost

    def result(self, bound: int) -> SearchResult:
        """Return the search's result; ``bound`` is a lower bound on the cost of every route."""
        if self.route is None:
            return SearchResult(None, FORBIDDEN, bound if bound < self.value else FORBIDDEN)
        return SearchResult(self.route, self.value, bound)


def _maximize_bound(
    problem: Problem,
    period: int,
    needed: NDArray[np.float32],
    incumbent: _Incumbent,
    rounds: int,
) -> Relaxation:
    """Return the relaxation with the highest lower bound that subgradient updates find.

    The route of each relaxation replaces the incumbent if the route is feasible and cheaper.
    """
    price = np.zeros(problem.kinds, np.int64)
    highest = relax(problem, period, needed, price)
    relaxation, step = highest, 0.0
    for round_index in range(rounds):
        route = relaxation.route
        incumbent.offer(route)
        if route is None or highest.bound >= incumbent.value:
            break
        overuse = problem.boards_used(route) - problem.capacity
        step = step or max(1.0, problem.cost_of(route) / len(route))
        price = np.maximum(0, price + np.rint(step / (1 + round_index) * overuse).astype(np.int64))
        relaxation = relax(problem, period, needed, price)
        highest = max(highest, relaxation, key=lambda found: found.bound)
    incumbent.offer(relaxation.route)
    return highest


@dataclass(frozen=True)
class _Labels:
    """The labels of a node: partial routes from the first node to this node.

    Each attribute is an array with one item for each label.

    Attributes:
        used: The boards that the partial route uses, as the number of a board set:
            ``sum(boards of kind * stride of kind)``.
        cost: Cost of the partial route.
        start: Node where the last step starts.
        parent: Index, at node ``start``, of the label to which the last step was added.
        replica_set: Index of the last step's replica set in the search's list of replica sets.
    """

    used: IntArray
    cost: IntArray
    start: IntArray
    parent: IntArray
    replica_set: IntArray

    def take(self, kept: NDArray[np.int64] | NDArray[np.bool_]) -> _Labels:
        return _Labels(*(column[kept] for column in self.columns()))

    def columns(self) -> tuple[IntArray, ...]:
        return self.used, self.cost, self.start, self.parent, self.replica_set


class _LabelSearch:
    """The labelling search; see the module's docstring.

    Attributes:
        is_complete: Whether the search has ended within its work limit.
    """

    def __init__(
        self,
        problem: Problem,
        period: int,
        needed: NDArray[np.float32],
        relaxation: Relaxation,
        work_limit: int,
    ) -> None:
        self.is_complete = True
        self._problem = problem
        self._period = period
        self._needed = needed
        self._relaxation = relaxation
        self._work_left = work_limit
        self._counts = problem.capacity + 1
        self._strides = np.array(
            [math.prod(self._counts[:kind].tolist()) for kind in range(problem.kinds)], np.int64
        )
        self._replica_sets: list[tuple[int, ...]] = []
        self._replica_set_numbers: dict[tuple[int, ...], int] = {}
        self._pending: list[list[_Labels]] = [[] for _ in range(problem.nodes)]

    def run(self, cost_limit: int) -> Route | None:
        """Return the cheapest route with a cost of at most ``cost_limit``.

        ``None`` if no such route was found. If the search is complete, no such route exists.
        """
        zero = np.zeros(1, np.int64)
        self._pending[0] = [_Labels(zero, zero, zero, zero, zero)]
        reached: list[_Labels | None] = []
        for node, pending in enumerate(self._pending):
            labels = _drop_dominated(pending) if pending else None
            reached.append(labels)
            if labels is None or node == self._problem.nodes - 1:
                continue
            self._work_left -= len(labels.used)
            if self._work_left >= 0:
                self._extend(node, labels, cost_limit)
            if self._work_left < 0:
                self.is_complete = False
                return None
        complete = reached[-1]
        # The bound subtracts the price of unused boards, so routes above the limit may remain.
        if complete is None or complete.cost.min() > cost_limit:
            return None
        return self._trace(reached, int(complete.cost.argmin()))

    def _extend(self, node: int, labels: _Labels, cost_limit: int) -> None:
        """Extend the labels of a node by every possible step, up to the work limit."""
        problem, price = self._problem, self._relaxation.price
        left = self._problem.capacity - labels.used[:, None] // self._strides % self._counts
        steps_left = np.zeros(len(left), np.int64)
        if problem.stages is not None:
            steps_left = problem.stages - (problem.capacity - left).sum(axis=1)
        # The budget of a label is the cost limit less the label's cost, plus the price of the
        # boards that the label leaves unused.
        budget = cost_limit - labels.cost + left @ price
        for offset in np.flatnonzero(self._needed[:, node, node + 1 :].any(axis=0)).tolist():
            stop = node + 1 + offset
            rows = np.maximum(steps_left - 1, 0) if problem.stages is not None else steps_left
            cost_to_go = self._relaxation.cost_to_go[rows, stop]
            if problem.stages is not None:
                cost_to_go = np.where(steps_left > 0, cost_to_go, FORBIDDEN)
            step_budget = budget - cost_to_go
            if step_budget.max() < 0:
                continue
            for number in self._replica_sets_for(node, stop, int(step_budget.max())):
                self._work_left -= _REPLICA_SET_WORK
                if self._work_left < 0:
                    return
                kinds = self._replica_sets[number]
                cost = max(int(problem.cost[kind, node, stop]) for kind in kinds)
                able = step_budget >= cost + int(price[list(kinds)].sum())
                for kind in set(kinds):
                    able &= left[:, kind] >= kinds.count(kind)
                extended = np.flatnonzero(able)
                if not len(extended):
                    continue
                self._work_left -= len(extended)
                added = int(self._strides[list(kinds)].sum())
                self._pending[stop].append(
                    _Labels(
                        labels.used[extended] + added,
                        labels.cost[extended] + cost,
                        np.full(len(extended), node),
                        extended,
                        np.full(len(extended), number),
                    )
                )

    def _replica_sets_for(self, node: int, stop: int, budget: int) -> list[int]:
        """Return the minimal replica sets for a step whose cost with prices is within ``budget``.

        The step is from ``node`` to ``stop``. The cost with prices is the cost of the step plus the
        prices of the set's boards. A replica set is returned as its index in the search's list.
        """
        cost = self._problem.cost[:, node, stop].tolist()
        able = [
            kind
            for kind in np.flatnonzero(self._needed[:, node, stop]).tolist()
            if cost[kind] <= budget
        ]
        alone = [kind for kind in able if self._problem.busy[kind, node, stop] <= self._period]
        busy = self._problem.busy_in(2)[:, node, stop].tolist()
        shared = {kind: busy[kind] for kind in able if self._period < busy[kind] < FORBIDDEN}
        found = []
        for kinds in chain(
            ((kind,) for kind in alone),
            minimal_sets(shared, self._period, self._problem.max_replicas),
        ):
            self._work_left -= 1
            priced = sum(int(self._relaxation.price[kind]) for kind in kinds)
            if max(cost[kind] for kind in kinds) + priced <= budget:
                found.append(self._number(kinds))
            if self._work_left < 0:
                break
        return found

    def _number(self, kinds: tuple[int, ...]) -> int:
        if kinds not in self._replica_set_numbers:
            self._replica_set_numbers[kinds] = len(self._replica_sets)
            self._replica_sets.append(kinds)
        return self._replica_set_numbers[kinds]

    def _trace(self, reached: list[_Labels | None], label: int) -> Route:
        route: list[Step] = []
        node = len(reached) - 1
        while node:
            labels = reached[node]
            if labels is None:  # pragma: no cover - every label's parent exists
                raise AssertionError(node)
            start = int(labels.start[label])
            kinds = self._replica_sets[int(labels.replica_set[label])]
            route.append(Step(start, node, kinds))
            node, label = start, int(labels.parent[label])
        return tuple(reversed(route))


def _drop_dominated(parts: list[_Labels]) -> _Labels:
    """Return only the cheapest of all labels that use the same number of boards of each kind."""
    joined = _Labels(
        *(np.concatenate(column) for column in zip(*(p.columns() for p in parts), strict=True))
    )
    order = np.lexsort((joined.cost, joined.used))
    used = joined.used[order]
    first = np.ones(len(order), bool)
    first[1:] = used[1:] != used[:-1]
    return joined.take(order[first])
