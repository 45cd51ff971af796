"""The fastest route with any number of replicas, from the exact search and the local search.

:mod:`.least_period` is exact over routes with at most :attr:`~.problem.Problem.max_replicas` boards
for each step. :mod:`.many_replicas` finds routes with more boards for a step, without a proof.
:mod:`.period_bound` bounds all of them. The result is the best route of both searches. Guarantee:
exact without the local search; with the local search, a route that is at least as fast as every
route with few replicas, and a lower bound for any number of replicas.
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
        problem: The problem with few replicas for each step.
        unlimited: The same problem with any number of replicas, or ``None`` if ``problem`` is the
            whole problem.
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
        # A cheap route needs no replicas, so a proof for few replicas is a proof for any number.
        return few
    routes = [many, few.route]
    if few.route is not None:
        routes.append(allowed(improve_route(unlimited, prices, few.route)))
    value, route = min(
        ((unlimited.period_of(route), route) for route in routes if route is not None),
        key=lambda found: found[0],
    )
    return SearchResult(route, value, min(value, bound))
