"""Find the route with the least period: the better result of an exact search and a local search.

A route is the stages of a model and their boards. :mod:`.least_period` finds the best route with at
most :attr:`~.problem.Problem.max_replicas` boards for each stage. :mod:`.many_replicas` is a local
search. It also finds routes with more boards for a stage, but it does not prove that they are the
best routes. :mod:`.period_bound` gives a lower bound on the period of all routes.

If no route has more than ``max_replicas`` boards for a stage, only :mod:`.least_period` searches.
If both modules search, the result is at least as fast as every route with at most ``max_replicas``
boards for each stage. The lower bound is valid for any number of replicas.
"""

from __future__ import annotations

from dataclasses import replace

from edge_partition.planning.search.least_period import find_least_period
from edge_partition.planning.search.many_replicas import find_many_replicas, improve_route
from edge_partition.planning.search.period_bound import bound_period
from edge_partition.planning.search.problem import FORBIDDEN, Problem, Route, SearchResult


def find_fastest(
    problem: Problem, unlimited: Problem | None, cost_limit: int | None = None
) -> SearchResult:
    """Return the route with the least period that the searches find.

    Args:
        problem: The problem for the exact search. It may have a limit on the replicas of a step.
        unlimited: The same problem without this limit. ``None`` if ``problem`` has no such limit.
        cost_limit: Largest allowed cost of a route; ``None`` for any cost.
    """
    if unlimited is None:
        found = find_least_period(problem, cost_limit=cost_limit)
        if found.is_proven:
            return found
        return replace(found, bound=min(found.value, max(found.bound, bound_period(problem)[0])))
    bound, prices = bound_period(unlimited)
    if bound >= FORBIDDEN:
        return SearchResult(None, FORBIDDEN, FORBIDDEN)

    def allowed(route: Route | None) -> Route | None:
        is_cheap = cost_limit is None or (route and unlimited.cost_of(route) <= cost_limit)
        return route if is_cheap else None

    many = allowed(find_many_replicas(unlimited, prices))
    few = find_least_period(
        problem, cost_limit=cost_limit, below=None if many is None else unlimited.period_of(many)
    )
    if few.route is None and many is None:
        # The cheapest route has no replicas. So if no route with few replicas is within the cost
        # limit, no route with more replicas is.
        return few
    routes = [many, few.route]
    if few.route is not None:
        routes.append(allowed(improve_route(unlimited, prices, few.route)))
    value, route = min(
        ((unlimited.period_of(route), route) for route in routes if route is not None),
        key=lambda found: found[0],
    )
    return SearchResult(route, value, min(value, bound))
