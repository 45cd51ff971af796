"""The route with the least pace: the fewest nanoseconds between results.

Whether a pace can be kept is asked again and again, halving what is between the largest known not
to work and the smallest known to work. Up to :data:`~.board_sets.MOST_SETS` sets of boards the
answer is exact (:mod:`.board_sets`); a limit on the cost, or more boards, needs
:mod:`.least_cost`, which may find no answer: then the bound stays where it is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edge_partition.planning.search import board_sets
from edge_partition.planning.search.furthest import MOST_CREWS, FurthestSearch, NoRoute, crew_count
from edge_partition.planning.search.least_cost import find_least_cost
from edge_partition.planning.search.problem import FORBIDDEN, Found, Problem

if TYPE_CHECKING:
    from edge_partition.planning.search.problem import IntArray, Route

#: Models with more nodes are first solved with so many of them, for a good pace to start from.
_COARSE_NODES = 24
#: And before that with so many times fewer, if those are more.
_COARSER = 7
#: A good route need be no better than this part of its pace.
_ROUGH = 64
#: Ways looked at for one pace, where sets of boards are too many to go through.
_EFFORT = 200_000


def find_least_pace(
    problem: Problem,
    *,
    cost_limit: int | None = None,
    is_rough: bool = False,
    like: FurthestSearch | None = None,
) -> Found:
    """Return the route with the least pace.

    Args:
        problem: What to search.
        cost_limit: Routes that cost more don't count.
        is_rough: A good route will do.
        like: The search of the same boards over more nodes, if there is one.
    """
    is_small = _has_few_sets(problem) and crew_count(problem) <= MOST_CREWS
    search = FurthestSearch(problem, like) if is_small else None
    known = _coarse_route(problem, cost_limit, search)
    is_guess = known is not None
    if known is None:
        known, is_certain = _keep(
            problem, search, FORBIDDEN - 1, cost_limit=cost_limit, is_rough=is_rough
        )
        if known is None:
            return Found(None, FORBIDDEN, FORBIDDEN if is_certain else 0)
    route, high = known, problem.pace_of(known)
    # No route has a pace below ``low``, if what the searches said is taken for certain.
    low, is_proven, proven, step = 0, True, 0, high // _ROUGH
    levels, is_best_likely = None, False
    while low < high - (high // _ROUGH if is_rough else 0):
        if is_guess:
            # Where some nodes were left out the best is a little better: go down in growing steps.
            pace = max(low, high - 1 - step)
            step *= 4
        else:
            if levels is None:
                levels = _levels(problem, low, high)
            within = levels[np.searchsorted(levels, low) : np.searchsorted(levels, high)]
            low = int(within[0]) if len(within) else high
            if low == high:
                break
            # Every other time it is asked whether the route is the best: it often is long before
            # all smaller paces are ruled out by halves.
            pace = int(within[-1 if is_best_likely else len(within) // 2])
            is_best_likely = not (is_best_likely or is_rough)
        better, is_certain = _keep(problem, search, pace, cost_limit=cost_limit, is_rough=is_rough)
        if better is not None:
            route, high = better, problem.pace_of(better)
        else:
            if is_proven and not is_certain:
                is_proven, proven = False, low
            is_guess, low = False, pace + 1
    return Found(route, high, high if is_proven else proven)


def _coarse_route(
    problem: Problem, cost_limit: int | None, search: FurthestSearch | None
) -> Route | None:
    """Return a good route over some of the nodes; ``None`` where there are few anyway."""
    if problem.nodes <= 2 * _COARSE_NODES:
        return None
    count = max(_COARSE_NODES, problem.nodes // _COARSER)
    nodes = np.unique(np.linspace(0, problem.nodes - 1, count).round().astype(int)).tolist()
    found = find_least_pace(
        problem.between(nodes), cost_limit=cost_limit, is_rough=True, like=search
    ).route
    return found and tuple(
        replace(step, start=nodes[step.start], stop=nodes[step.stop]) for step in found
    )


def _keep(
    problem: Problem,
    search: FurthestSearch | None,
    pace: int,
    *,
    cost_limit: int | None,
    is_rough: bool,
) -> tuple[Route | None, bool]:
    """Return a route that keeps ``pace``, and whether it is certain that there is none."""
    route: Route | NoRoute = NoRoute.UNKNOWN if search is None else search.find_route(pace)
    if route is NoRoute.UNKNOWN and not is_rough and _has_few_sets(problem):
        route = board_sets.find_route(problem, pace) or NoRoute.PROVEN
    if route is NoRoute.PROVEN:
        return None, True
    if not isinstance(route, NoRoute) and (
        cost_limit is None or problem.cost_of(route) <= cost_limit
    ):
        return route, True
    if search is not None and is_rough:
        return None, False
    if cost_limit is None:
        # The fewest steps are the likeliest to find the boards.
        even = replace(problem, cost=np.where(problem.cost < FORBIDDEN, 1, FORBIDDEN))
        found = find_least_cost(even, pace=pace, effort=_EFFORT)
    else:
        found = find_least_cost(problem, pace=pace, limit=cost_limit, effort=_EFFORT)
    return found.route, found.is_proven


def _has_few_sets(problem: Problem) -> bool:
    return board_sets.set_count(problem.capacity) <= board_sets.MOST_SETS


def _levels(problem: Problem, low: int, high: int) -> IntArray:
    """Return every pace in ``[low, high)`` that a step may have, ascending."""
    levels = []
    for size in range(1, problem.max_replicas + 1):
        busy = problem.busy_in(size)
        within = (busy > (low - 1) * size) & (busy <= min((high - 1) * size, FORBIDDEN - 1))
        levels.append(-(-busy[within] // size))
    return np.unique(np.concatenate(levels))
