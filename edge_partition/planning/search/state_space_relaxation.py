"""The cheapest route without replicas: decremental state space relaxation.

Problem: the cheapest route with one board on each step, within the number of boards of each kind.
Method: a cheapest route that ignores the numbers of boards is a shortest path. If the path uses
more boards of a kind than there are, the state also counts the uses of that kind, and the search
runs again (Righini & Salani, "New dynamic programming algorithms for the resource constrained
elementary shortest path problem", 2008). Complexity of one run: ``O(kinds * nodes**2)`` times the
product of ``boards + 1`` over the counted kinds; a run above the work limit does not start.
Guarantee: each path's cost is a lower bound, and the first path within the boards is optimal. At
the work limit, the result is the last lower bound.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edge_partition.planning.search.problem import FORBIDDEN, Problem, Route, SearchResult, Step

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_partition.planning.search.problem import IntArray


def find_without_replicas(
    problem: Problem, allowed: NDArray[np.bool_], work_limit: int
) -> SearchResult:
    """Return the cheapest route with one board on each step, or a lower bound.

    Args:
        problem: The problem to solve.
        allowed: ``(kinds, nodes, nodes)``, the feasible steps.
        work_limit: Number of (step, state) pairs in one run of the search.
    """
    counted: set[int] = set()
    bound = -FORBIDDEN
    steps = problem.kinds * problem.nodes**2 // 2
    stages = 1 if problem.stages is None else problem.stages + 1
    while steps * stages * math.prod(int(problem.capacity[k]) + 1 for k in counted) <= work_limit:
        route, bound = _shortest(problem, allowed, sorted(counted))
        if route is None:
            return SearchResult(None, FORBIDDEN, FORBIDDEN)
        if problem.is_feasible(route):
            return SearchResult(route, bound, bound)
        counted |= set(np.flatnonzero(problem.boards_used(route) > problem.capacity).tolist())
    return SearchResult(None, FORBIDDEN, bound)


def _shortest(
    problem: Problem, allowed: NDArray[np.bool_], counted: list[int]
) -> tuple[Route | None, int]:
    """Return the shortest path within the boards of the counted kinds, and its cost."""
    last = problem.nodes - 1
    transitions, final = _states(problem, counted)
    cost_to_go = np.full((problem.nodes, len(final)), FORBIDDEN, np.int64)
    cost_to_go[last, final] = 0
    best_kind = np.zeros(cost_to_go.shape, np.int16)
    best_stop = np.zeros(cost_to_go.shape, np.int32)
    columns = np.arange(len(final))
    for node in range(last - 1, -1, -1):
        for kind in range(problem.kinds):
            stops = node + 1 + np.flatnonzero(allowed[kind, node, node + 1 :])
            if not len(stops):
                continue
            states, targets = transitions[kind]
            total = cost_to_go[stops[:, None], targets] + problem.cost[kind, node, stops][:, None]
            choice = total.argmin(axis=0)
            least = total[choice, columns[: len(states)]]
            better = least < cost_to_go[node, states]
            improved = states[better]
            cost_to_go[node, improved] = least[better]
            best_kind[node, improved] = kind
            best_stop[node, improved] = stops[choice[better]]
    least_cost = int(cost_to_go[0, 0])
    if least_cost >= FORBIDDEN:
        return None, FORBIDDEN
    route = []
    node = state = 0
    while node != last:
        kind, stop = int(best_kind[node, state]), int(best_stop[node, state])
        route.append(Step(node, stop, (kind,)))
        states, targets = transitions[kind]
        state = int(targets[np.searchsorted(states, state)])
        node = stop
    return tuple(route), least_cost


def _states(
    problem: Problem, counted: list[int]
) -> tuple[list[tuple[IntArray, IntArray]], NDArray[np.bool_]]:
    """Return the transitions of the state for each kind, and the states allowed at the last node.

    A state counts the used boards of the counted kinds and, where ``problem.stages`` is given, the
    steps. State 0 is the state before the first step. The transitions of a kind are the states in
    which one more board of the kind may be used, ascending, and their successors.
    """
    sizes = [int(problem.capacity[kind]) + 1 for kind in counted]
    stages = [] if problem.stages is None else [problem.stages + 1]
    shape = [*sizes, *stages]
    number = np.arange(math.prod(shape))
    index = np.indices(shape).reshape(len(shape), len(number))
    strides = [math.prod(shape[place + 1 :]) for place in range(len(shape))]
    transitions = []
    for kind in range(problem.kinds):
        used = [place for place, other in enumerate(counted) if other == kind]
        used += [len(sizes)] * len(stages)
        able = np.ones(len(number), bool)
        for place in used:
            able &= index[place] < shape[place] - 1
        states = np.flatnonzero(able)
        transitions.append((states, states + sum(strides[place] for place in used)))
    final = index[-1] == problem.stages if stages else np.ones(len(number), bool)
    return transitions, final
