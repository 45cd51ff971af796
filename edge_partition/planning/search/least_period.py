"""Find the route with the least period, by a binary search over whole nanoseconds.

Problem: find the route (stages and their boards) with the least period, in nanoseconds. The cost of
the route may have a limit. :mod:`.problem` defines the terms.

Method: each test of the binary search asks whether any route meets a given period. Three modules
can answer:

- :mod:`.max_reach`, if the fleet is small enough (:func:`.board_sets.is_small`);
- :mod:`.board_sets`, if :mod:`.max_reach` does not know the answer;
- :mod:`.least_cost`, if the fleet is larger, or if the route found exceeds the limit on the cost.

Large problems are first solved with a part of the nodes. This gives a first upper bound on the
period. A test that finds a route lowers the upper bound to the period of the route. A test that
proves that no route exists raises the lower bound. If the proof is from :mod:`.max_reach`, the
search skips all longer periods for which the same proof is valid.

Complexity: at most about ``2 * log2(period in nanoseconds)`` tests.

Guarantee: the result is exact, unless :mod:`.least_cost` reaches its work limit. In this case, the
result is a route and a lower bound.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edge_partition.planning.search import board_sets
from edge_partition.planning.search.least_cost import find_least_cost
from edge_partition.planning.search.max_reach import MaxReachSearch, SearchStatus
from edge_partition.planning.search.problem import FORBIDDEN, Problem, SearchResult

if TYPE_CHECKING:
    from edge_partition.planning.search.problem import Route

#: Least number of nodes in the coarse problem, which has a part of the nodes and gives the first
#: upper bound.
_COARSE_NODES = 24
#: The number of all nodes divided by this factor is the number of nodes in the coarse problem, if
#: it is above :data:`_COARSE_NODES`.
_COARSE_FACTOR = 7
#: A heuristic search ends if upper and lower bound differ by at most the upper bound divided by
#: this number.
_HEURISTIC_DIVISOR = 64
#: Largest number of labels that :mod:`.least_cost` extends for one period.
_WORK_LIMIT = 200_000


def find_least_period(
    problem: Problem,
    *,
    cost_limit: int | None = None,
    below: int | None = None,
    is_heuristic: bool = False,
    reuse: MaxReachSearch | None = None,
) -> SearchResult:
    """Return the route with the least period.

    Args:
        problem: The problem to solve.
        cost_limit: Largest allowed cost of a route; ``None`` for any cost.
        below: Search only for routes with a period below this number of nanoseconds. If no such
            route exists, the result has no route. ``None`` for any period.
        is_heuristic: Whether a good route is enough. If so, the bound of the result is not valid.
        reuse: An earlier search for the same boards. Its tables are used again. ``None``: the
            tables are computed.
    """
    search = MaxReachSearch(problem, reuse) if board_sets.is_small(problem) else None
    known = _coarse_route(problem, cost_limit, search) if below is None else None
    is_guess = known is not None or below is not None
    if known is None:
        longest = FORBIDDEN - 1 if below is None else below - 1
        known, is_certain = _find_within(
            problem, search, longest, cost_limit=cost_limit, is_heuristic=is_heuristic
        )
        if known is None:
            return SearchResult(None, FORBIDDEN, FORBIDDEN if is_certain else 0)
    route, high = known, problem.period_of(known)
    # No route has a period below ``low``, if every test without a route was a proof. ``proven`` is
    # the value of ``low`` before the first test without a proof.
    low, is_proven, proven, step = 0, True, 0, high // _HEURISTIC_DIVISOR
    tests_high = False
    while low < high - (high // _HEURISTIC_DIVISOR if is_heuristic else 0):
        if is_guess:
            # The optimum is a little below the coarse problem's optimum, so the tested periods go
            # down in growing steps.
            period = max(low, high - 1 - step)
            step *= 4
        else:
            # The best route is often found long before the binary search ends. So every second test
            # is for a period 1 ns shorter than the best route's period, which may prove the route.
            period = high - 1 if tests_high else (low + high - 1) // 2
            tests_high = not (tests_high or is_heuristic)
        better, is_certain = _find_within(
            problem, search, period, cost_limit=cost_limit, is_heuristic=is_heuristic
        )
        if better is not None:
            route, high = better, problem.period_of(better)
        else:
            if is_proven and not is_certain:
                is_proven, proven = False, low
            is_guess, low = False, period + 1
            if search is not None and is_certain:
                low = min(high, max(low, search.next_period))
    return SearchResult(route, high, high if is_proven else proven)


def _coarse_route(
    problem: Problem, cost_limit: int | None, search: MaxReachSearch | None
) -> Route | None:
    """Return a good route whose cuts are chosen from only a part of the nodes.

    ``None`` if the problem has few nodes, or if no such route was found.
    """
    if problem.nodes <= 2 * _COARSE_NODES:
        return None
    count = max(_COARSE_NODES, problem.nodes // _COARSE_FACTOR)
    nodes = np.unique(np.linspace(0, problem.nodes - 1, count).round().astype(int)).tolist()
    found = find_least_period(
        problem.restricted_to(nodes), cost_limit=cost_limit, is_heuristic=True, reuse=search
    ).route
    return found and tuple(
        replace(step, start=nodes[step.start], stop=nodes[step.stop]) for step in found
    )


def _find_within(
    problem: Problem,
    search: MaxReachSearch | None,
    period: int,
    *,
    cost_limit: int | None,
    is_heuristic: bool,
) -> tuple[Route | None, bool]:
    """Return a route that meets ``period`` and ``cost_limit``, and whether the answer is certain.

    The route is ``None`` if no route was found. If this answer is certain, no such route exists.
    """
    route: Route | SearchStatus = (
        SearchStatus.UNKNOWN if search is None else search.find_route(period)
    )
    if route is SearchStatus.UNKNOWN and search is not None and not is_heuristic:
        route = board_sets.find_route(problem, period) or SearchStatus.INFEASIBLE
    if route is SearchStatus.INFEASIBLE:
        return None, True
    if not isinstance(route, SearchStatus) and (
        cost_limit is None or problem.cost_of(route) <= cost_limit
    ):
        return route, True
    if search is not None and is_heuristic:
        return None, False
    if cost_limit is None:
        # Each step costs 1, because a route with few steps is likely to have enough boards.
        unit_cost = replace(problem, cost=np.where(problem.cost < FORBIDDEN, 1, FORBIDDEN))
        found = find_least_cost(unit_cost, period=period, work_limit=_WORK_LIMIT)
    else:
        found = find_least_cost(
            problem, period=period, cost_limit=cost_limit, work_limit=_WORK_LIMIT
        )
    return found.route, found.is_proven
