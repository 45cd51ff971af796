"""Find routes whose boards serve several steps that are not neighbours: a depth-first search.

Problem: find a route (stages and their boards) in which a replica set may serve several steps
(stages), at most :data:`MOST_STEPS_ON_A_BOARD`. Each board of the set then serves all of these
steps. Its busy time, memory and storage are the sums over the steps. Neighbouring steps on the same
boards are not considered, because one step instead of both needs one message less and no more
memory. Several steps on a board can be better if the model has few cuts, or if a fast board has too
little memory for the middle of the model. :mod:`.problem` defines the terms.

Method: the search appends steps from the first node to the last node. A step is on a replica set
that the route already uses, or on boards that the route does not use yet. A partial route is
dropped if a replica set exceeds a limit. A partial route is also dropped if a lower bound on all
its complete routes is not below the value (cost or period) of the best route so far. The lower
bound on the cost is the cost of the partial route plus the cost of the cheapest path to the last
node. The lower bound on the period is the same sum, with prices of :mod:`.period_bound` as costs.

Complexity: exponential, at most :data:`WORK_LIMIT` appended steps.

Guarantee: if the search uses all nodes and ends within the work limit, the result is the optimum of
all routes with at most ``max_replicas`` boards for each step. If not, the result is the best route
found, and a lower bound on all routes with or without shared boards.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edge_partition.planning.search.board_sets import replica_set_counts, replica_sets
from edge_partition.planning.search.period_bound import bound_period, cost_to_end
from edge_partition.planning.search.problem import FORBIDDEN, Problem, Route, SearchResult, Step
from edge_partition.planning.shared_period import shared_period_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray


#: Largest number of steps that a board serves, and largest number of steps that a search appends.
MOST_STEPS_ON_A_BOARD, WORK_LIMIT = 3, 60_000
#: Largest number of nodes, and largest number of replica sets, that a complete search supports.
_MOST_NODES, _MOST_SETS = 24, 64
#: Number of nodes, and largest number of appended steps, of a search on a part of the nodes.
_FEW_NODES, _FEW_STEPS = 20, 8_000
#: Spacings of the nodes in further searches near the best cuts. Each of these searches uses five
#: nodes around each cut.
_NEAR = (9, 3, 1)
#: A search on a part of the nodes must lower the value by at least the value divided by this
#: number. Smaller gains are not worth the additional stages, messages and latency.
_LEAST_GAIN = 50
#: Factor that lowers a lower bound by more than its rounding errors.
_ROUNDING = 1 - 1e-9


@dataclass(frozen=True)
class Supply:
    """Memory and storage that the steps need and that the boards have, in bytes.

    The agent's own memory is subtracted from both figures, because a board needs it only once for
    all of its steps.

    Attributes:
        needed: ``(resources, nodes, nodes)``, bytes that each step needs of each resource.
        available: ``(resources, kinds)``, bytes of each resource that a board of each kind has.
    """

    needed: NDArray[np.float64]
    available: NDArray[np.float64]


def share_boards(
    problem: Problem,
    supply: Supply,
    known: SearchResult,
    *,
    by_cost: bool,
    period: int,
    cost_limit: int,
) -> SearchResult:
    """Search for a route with shared boards that is better than the route of ``known``.

    A shared board serves several steps.

    Args:
        problem: The problem; its :attr:`~.problem.Problem.stages` must be ``None``.
        supply: Memory and storage that the steps need and that the boards have.
        known: The result of a search without shared boards.
        by_cost: Whether the cost is minimized instead of the period.
        period: Longest allowed period of a route, in nanoseconds.
        cost_limit: Largest allowed cost.

    Returns:
        The better route, or the route of ``known`` if the search finds no better route. The bound
        holds for routes with and without shared boards.
    """
    bound, prices = bound_period(problem)
    cost_bound = cost_to_end(problem.cost, np.ones(problem.kinds))[0]
    least = math.floor(cost_bound) if cost_bound < FORBIDDEN else FORBIDDEN
    lower = min(known.value, least if by_cost else bound)
    if known.value <= lower or bound > period or least > cost_limit:
        return replace(known, bound=known.value)
    sets: list[tuple[int, ...]] = []
    if replica_set_counts(problem.capacity, problem.max_replicas)[-1] <= _MOST_SETS:
        sets = replica_sets(problem.capacity.tolist(), problem.max_replicas)
    is_complete = False
    if problem.nodes <= _MOST_NODES and sets:
        search = _Search(problem, supply, prices, sets, WORK_LIMIT)
        best = search.run(known.value, period, cost_limit, by_cost=by_cost)
        is_complete = search.is_complete and known.is_proven
    else:

        def find(nodes: list[int], of: list[tuple[int, ...]], below: int) -> Route | None:
            part = Supply(supply.needed[:, nodes][:, :, nodes], supply.available)
            search = _Search(problem.restricted_to(nodes), part, prices, of, _FEW_STEPS)
            found = search.run(below, period, cost_limit, by_cost=by_cost)
            return found and tuple(
                replace(step, start=nodes[step.start], stop=nodes[step.stop]) for step in found
            )

        value_of = problem.cost_of if by_cost else problem.period_of
        best = _search_partly(problem, find, value_of, sets, known)
    if best is None:
        # Without a route in ``known``, its bound stays, also after an incomplete search.
        return replace(known, bound=lower if known.route and not is_complete else known.bound)
    value = problem.cost_of(best) if by_cost else problem.period_of(best)
    return SearchResult(best, value, value if is_complete else min(lower, value))


def _search_partly(
    problem: Problem,
    find: Callable[[list[int], list[tuple[int, ...]], int], Route | None],
    value_of: Callable[[Route], int],
    sets: list[tuple[int, ...]],
    known: SearchResult,
) -> Route | None:
    """Search on a part of the nodes: first evenly spaced, then near the best cuts.

    Args:
        problem: The problem with all nodes.
        find: A function with three arguments: the nodes where steps may stop, the replica sets that
            may serve steps, and a value. It returns the best route with a lower value, or ``None``
            if it finds no such route.
        value_of: A function that returns a route's cost or period, whichever is minimized.
        sets: All replica sets. If there are too many, the list is empty, and the search uses single
            boards instead.
        known: The result of a search without shared boards.

    Returns:
        The best route, or ``None`` if no route has a lower value than ``known``.
    """
    route, value, best = known.route or (), known.value, None
    value -= value // _LEAST_GAIN if route else 0
    spread = np.linspace(0, problem.nodes - 1, _FEW_NODES).round().astype(int).tolist()
    nodes = sorted({*spread, *(step.start for step in route)})
    few = list(dict.fromkeys(step.kinds for step in route))
    for tried in (few, sets or [(kind,) for kind in range(problem.kinds)]):
        found = find(nodes, tried, value)
        if found is not None:
            best, value = found, value_of(found)
    for width in _NEAR if best else ():
        cuts = [step.start for step in best or ()][1:]
        near = {cut + offset * width for cut in cuts for offset in (-2, -1, 0, 1, 2)}
        nodes = sorted({0, problem.nodes - 1, *near} & set(range(problem.nodes)))
        found = find(nodes, list(dict.fromkeys(step.kinds for step in best or ())), value)
        if found is not None:
            best, value = found, value_of(found)
    return best


@dataclass(frozen=True)
class _Group:
    """A replica set of a partial route, with totals over the steps that the set serves.

    Attributes:
        first: Index, in the route, of the first step that the set serves.
        kinds: The kinds of the set's boards.
        steps: Number of steps that the set serves.
        busy: For each board of the set, the time for which one request occupies the board in all of
            these steps together, in nanoseconds.
        needed: For each resource of :class:`Supply`, the bytes that all of these steps need.
    """

    first: int
    kinds: tuple[int, ...]
    steps: int
    busy: tuple[int, ...]
    needed: tuple[float, ...]


@dataclass(frozen=True)
class _Partial:
    """A partial route from the first node.

    Attributes:
        node: The node where the last step stops.
        route: The steps.
        groups: The replica sets of the route.
        last: The replica set of the last step. ``None`` if the route has no steps yet.
        priced: Lower bound on the price of the boards' time for all steps. :mod:`.period_bound`
            defines the prices.
        cost: Cost of all steps.
    """

    node: int = 0
    route: Route = ()
    groups: tuple[_Group, ...] = ()
    last: _Group | None = None
    priced: float = 0.0
    cost: int = 0


class _Search:
    """The depth-first search over the nodes of a problem.

    Attributes:
        is_complete: Whether the search has ended within its work limit.
    """

    def __init__(
        self,
        problem: Problem,
        supply: Supply,
        prices: NDArray[np.float64],
        sets: list[tuple[int, ...]],
        work_limit: int,
    ) -> None:
        self.is_complete = True
        self._problem = problem
        self._sets = sets
        self._work_left = work_limit
        self._busy: list[list[list[int]]] = problem.busy.tolist()
        self._cost: list[list[list[int]]] = problem.cost.tolist()
        self._needed: list[list[list[float]]] = supply.needed.tolist()
        self._available: list[list[float]] = supply.available.tolist()
        self._prices: list[float] = prices.tolist()
        self._priced_end = (cost_to_end(problem.busy, prices) * _ROUNDING).tolist()
        self._cost_end = cost_to_end(problem.cost, np.ones(problem.kinds)).tolist()
        self._capacity: list[int] = problem.capacity.tolist()
        self._single = problem.no_replicas
        self._period = self._cost_limit = 0
        self._by_cost = False
        self._best: Route | None = None

    def run(self, value: int, period: int, cost_limit: int, *, by_cost: bool) -> Route | None:
        """Return the best route with a value below ``value``; ``None`` if there is none.

        Args:
            value: A cost if ``by_cost`` is true, else a period in nanoseconds.
            period: Longest allowed period of a route, in nanoseconds.
            cost_limit: Largest allowed cost.
            by_cost: Whether the cost is minimized instead of the period.
        """
        self._by_cost = by_cost
        self._period = period if by_cost else min(period, value - 1)
        self._cost_limit = min(cost_limit, value - 1) if by_cost else cost_limit
        self._extend(_Partial())
        return self._best

    def _extend(self, partial: _Partial) -> None:
        """Append each possible step to a partial route, and continue with each extended route."""
        last_node = self._problem.nodes - 1
        if partial.node == last_node:
            self._accept(partial)
            return
        for stop in range(last_node, partial.node, -1):
            for group, step in self._steps(partial, stop):
                self._work_left -= 1
                if self._work_left < 0:
                    self.is_complete = False
                    return
                extended = self._append(partial, group, step)
                if extended is not None:
                    self._extend(extended)

    def _steps(self, partial: _Partial, stop: int) -> Iterator[tuple[_Group, Step]]:
        """Yield each replica set that may serve the next step of ``partial``, and this step.

        The step is from the node that ``partial`` has reached to node ``stop``.
        """
        node = partial.node
        for group in partial.groups:
            if group is not partial.last and group.steps < MOST_STEPS_ON_A_BOARD:
                yield group, Step(node, stop, group.kinds, group.first)
        used = Counter(kind for group in partial.groups for kind in group.kinds)
        for kinds in self._sets:
            if all(used[kind] + kinds.count(kind) <= self._capacity[kind] for kind in set(kinds)):
                empty = (0.0,) * len(self._needed)
                group = _Group(len(partial.route), kinds, 0, (0,) * len(kinds), empty)
                yield group, Step(node, stop, kinds)

    def _append(self, partial: _Partial, group: _Group, step: Step) -> _Partial | None:
        """Return the partial route with one more step, or ``None`` if this route is dropped.

        The route is dropped if it exceeds a limit, or if it cannot become better than the best
        route so far.
        """
        extended = self._add(group, step)
        if extended is None:
            return None
        node, stop = step.start, step.stop
        priced = partial.priced + min(
            self._prices[kind] * self._busy[kind][node][stop] for kind in group.kinds
        )
        cost = partial.cost + max(self._cost[kind][node][stop] for kind in group.kinds)
        if (
            priced + self._priced_end[stop] > self._period
            or cost + self._cost_end[stop] > self._cost_limit
        ):
            return None
        others = tuple(other for other in partial.groups if other is not group)
        groups = (*others, extended)
        return _Partial(stop, (*partial.route, step), groups, extended, priced, cost)

    def _add(self, group: _Group, step: Step) -> _Group | None:
        """Return the replica set with one more step, or ``None`` if it then exceeds a limit."""
        node, stop = step.start, step.stop
        if self._single is not None and len(group.kinds) > 1 and self._single[node, stop]:
            return None
        added = [self._busy[kind][node][stop] for kind in group.kinds]
        if max(added) >= FORBIDDEN:
            return None
        busy = tuple(so_far + more for so_far, more in zip(group.busy, added, strict=True))
        if shared_period_ns(busy) > self._period:
            return None
        needed = tuple(
            so_far + of[node][stop] for so_far, of in zip(group.needed, self._needed, strict=True)
        )
        if group.steps and any(
            size_bytes > available[kind]
            for size_bytes, available in zip(needed, self._available, strict=True)
            for kind in group.kinds
        ):
            return None
        return _Group(group.first, group.kinds, group.steps + 1, busy, needed)

    def _accept(self, partial: _Partial) -> None:
        self._best = partial.route
        if self._by_cost:
            self._cost_limit = partial.cost - 1
        else:
            self._period = self._problem.period_of(partial.route) - 1
