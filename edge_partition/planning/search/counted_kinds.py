"""The cheapest route of single boards: exact, as long as few kinds are in short supply.

Without limits on the boards a cheapest route is a shortest path. Where that uses a kind more often
than there are boards of it, the kind's uses are counted from then on, which makes every node as
many nodes as there are counts, and the path is sought again: decremental state space relaxation
(Righini & Salani, "New dynamic programming algorithms for the resource constrained elementary
shortest path problem", 2008). Each path costs no more than the true optimum, and the first that
keeps within the boards there are is the optimum.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edge_partition.planning.search.problem import FORBIDDEN, Found, Problem, Route, Step

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_partition.planning.search.problem import IntArray


def find_counting(problem: Problem, allowed: NDArray[np.bool_], effort: int) -> Found:
    """Return the cheapest route with one board a step, or the bound that was reached.

    Args:
        problem: With its costs.
        allowed: ``(kinds, nodes, nodes)``, the steps that a route may have.
        effort: As many (step, count) pairs are looked at in one search.
    """
    counted: set[int] = set()
    bound = -FORBIDDEN
    steps = problem.kinds * problem.nodes**2 // 2
    stages = 1 if problem.stages is None else problem.stages + 1
    while steps * stages * math.prod(int(problem.capacity[k]) + 1 for k in counted) <= effort:
        route, bound = _shortest(problem, allowed, sorted(counted))
        if route is None:
            return Found(None, FORBIDDEN, FORBIDDEN)
        if problem.admits(route):
            return Found(route, bound, bound)
        counted |= set(np.flatnonzero(problem.use_of(route) > problem.capacity).tolist())
    return Found(None, FORBIDDEN, bound)


def _shortest(
    problem: Problem, allowed: NDArray[np.bool_], counted: list[int]
) -> tuple[Route | None, int]:
    """Return the shortest path that keeps within the boards of ``counted`` kinds, and its cost."""
    last = problem.nodes - 1
    after, final = _states(problem, counted)
    to_go = np.full((problem.nodes, len(final)), FORBIDDEN, np.int64)
    to_go[last, final] = 0
    best_kind = np.zeros(to_go.shape, np.int16)
    best_stop = np.zeros(to_go.shape, np.int32)
    columns = np.arange(len(final))
    for node in range(last - 1, -1, -1):
        for kind in range(problem.kinds):
            stops = node + 1 + np.flatnonzero(allowed[kind, node, node + 1 :])
            if not len(stops):
                continue
            states, targets = after[kind]
            total = to_go[stops[:, None], targets] + problem.cost[kind, node, stops][:, None]
            choice = total.argmin(axis=0)
            least = total[choice, columns[: len(states)]]
            better = least < to_go[node, states]
            improved = states[better]
            to_go[node, improved] = least[better]
            best_kind[node, improved] = kind
            best_stop[node, improved] = stops[choice[better]]
    least_cost = int(to_go[0, 0])
    if least_cost >= FORBIDDEN:
        return None, FORBIDDEN
    route = []
    node = state = 0
    while node != last:
        kind, stop = int(best_kind[node, state]), int(best_stop[node, state])
        route.append(Step(node, stop, (kind,)))
        states, targets = after[kind]
        state = int(targets[np.searchsorted(states, state)])
        node = stop
    return tuple(route), least_cost


def _states(
    problem: Problem, counted: list[int]
) -> tuple[list[tuple[IntArray, IntArray]], NDArray[np.bool_]]:
    """Return, for each kind, the states from which it may be used and those it leads to.

    A state counts the uses of the counted kinds, and the steps where so many are asked for. State
    0 has none. Second, which states may be the last.
    """
    sizes = [int(problem.capacity[kind]) + 1 for kind in counted]
    stages = [] if problem.stages is None else [problem.stages + 1]
    shape = [*sizes, *stages]
    number = np.arange(math.prod(shape))
    index = np.indices(shape).reshape(len(shape), len(number))
    strides = [math.prod(shape[place + 1 :]) for place in range(len(shape))]
    after = []
    for kind in range(problem.kinds):
        used = [place for place, other in enumerate(counted) if other == kind]
        used += [len(sizes)] * len(stages)
        able = np.ones(len(number), bool)
        for place in used:
            able &= index[place] < shape[place] - 1
        states = np.flatnonzero(able)
        after.append((states, states + sum(strides[place] for place in used)))
    final = index[-1] == problem.stages if stages else np.ones(len(number), bool)
    return after, final
