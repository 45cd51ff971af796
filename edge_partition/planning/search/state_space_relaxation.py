"""Find the cheapest route without replicas: decremental state space relaxation.

Problem: find the cheapest route (stages and their boards) with one board on each step (stage), and
with no more boards of each kind than the fleet has. :mod:`.problem` defines the terms.

Method: each run finds the cheapest path. The first run ignores how many boards the fleet has. If
its path uses too many boards of a kind, the next run counts the used boards of this kind in the
state of the search. More runs follow in the same way (Righini & Salani, "New dynamic programming
algorithms for the resource constrained elementary shortest path problem", 2008).

Complexity: ``O(kinds * nodes**2 * states)`` for a run. The number of states is the product of
``boards of the kind + 1`` over all counted kinds. A run that would exceed the work limit does not
start.

Guarantee: the cost of each run's path is a lower bound on the optimum. The first path for which the
fleet has enough boards is optimal. If the next run would exceed the work limit, the result is the
last lower bound without a route.
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
    """Return the cheapest route with one board on each step.

    If the search reaches its work limit, the result is only a lower bound on the cost.

    Args:
        problem: The problem to solve.
        allowed: ``(kinds, nodes, nodes)``, by kind, start and stop: whether a board of the kind may
            serve the step.
        work_limit: Largest number of (step, state) pairs in one run of the search. A state is the
            number of used boards of each counted kind.
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
    """Return the cheapest path that uses no more boards of the counted kinds than exist.

    Returns:
        Two items: the path and its cost. If no such path exists, they are ``None`` and
        :data:`FORBIDDEN`.
    """
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
    """Give each state of the search a number, and compute the transitions between the states.

    A state is the number of used boards of each counted kind. If ``problem.stages`` is given, the
    number of steps is also part of the state. State 0 is the state before the first step.

    Returns:
        Two items. The first has two arrays for each kind: the states in which one more board of the
        kind may be used, ascending, and the states that follow when this board is used. The second,
        ``(states,)``, is whether a route may end in each state.
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
