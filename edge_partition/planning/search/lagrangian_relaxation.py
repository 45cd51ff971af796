"""A lower bound on the cost of every route, by Lagrangian relaxation of the number of boards.

Problem: the cheapest route within the number of boards of each kind. Method: replace the limit on
each kind by a price (Lagrange multiplier) for each use of a board (Held & Karp, "The
Traveling-Salesman Problem and Minimum Spanning Trees: Part II", 1971). The relaxed problem is a
shortest path in an acyclic graph. Its cost less the price of all boards is a lower bound on the
optimum, for any prices of 0 or more. Complexity: ``O(kinds * nodes**2)`` for any number of steps;
``O((kinds + stages) * nodes**2)`` for exactly ``stages`` steps. The bound is valid but need not be
tight. The route may use more boards than the fleet has.

A bound for each kind bounds all replica sets. A minimal set with kinds ``R`` costs
``max(cost of kind) + sum(price of kind)``. Let ``v`` of a kind be the inverse of the boards needed
of this kind alone (:meth:`~.problem.Problem.boards_needed`). Over ``R``, the sum of ``v`` is 1 or
more, so ``sum(price) = sum(v * price / v)`` is at least a weighted mean of ``price / v``, and the
set costs at least ``min over its kinds of (cost of kind + price of kind / v)``. With boards of one
kind, the bound is the exact cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge_partition.planning.search.problem import FORBIDDEN, Problem, Route, Step
from edge_partition.planning.shared_period import meets_period

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_partition.planning.search.problem import IntArray


@dataclass(frozen=True)
class Relaxation:
    """The solution of the relaxed problem at given prices.

    Attributes:
        price: ``(kinds,)``, 0 or more, price of each use of a board.
        cost_to_go: ``(rows, nodes)``, least cost with prices from each node to the last. One row
            for any number of steps; with a required number of steps, row ``s`` is for ``s`` more
            steps.
        bound: Lower bound on the cost of every route within capacity. At least :data:`FORBIDDEN` if
            the problem is infeasible without limits on the boards.
        route: The cheapest route at these prices; ``None`` if there is none at any price.
    """

    price: IntArray
    cost_to_go: IntArray
    bound: int
    route: Route | None


def relax(
    problem: Problem, period: int, needed: NDArray[np.float32], price: IntArray
) -> Relaxation:
    """Return the relaxation of ``problem`` at ``price``.

    Args:
        problem: The problem to relax.
        period: Largest allowed period of a step, in nanoseconds.
        needed: ``(kinds, nodes, nodes)``, :meth:`~.problem.Problem.boards_needed` for ``period``.
        price: ``(kinds,)``, 0 or more.
    """
    exact = problem.stages is not None
    cost_to_go, choices = (_required_steps if exact else _any_steps)(problem, needed, price)
    row = problem.stages or 0
    least = int(cost_to_go[row, 0])
    if least >= FORBIDDEN:
        return Relaxation(price, cost_to_go, FORBIDDEN, None)
    route = []
    node = 0
    while node < problem.nodes - 1:
        kind, stop = (int(choice) for choice in choices[row][node])
        route.append(Step(node, stop, _replica_set(problem, period, kind, node, stop)))
        node = stop
        row -= exact
    return Relaxation(price, cost_to_go, least - int(price @ problem.capacity), tuple(route))


def _any_steps(
    problem: Problem, needed: NDArray[np.float32], price: IntArray
) -> tuple[IntArray, list[IntArray]]:
    """Solve for any number of steps, from the last node to the first."""
    last = problem.nodes - 1
    cost_to_go = np.full((1, problem.nodes), FORBIDDEN, np.int64)
    cost_to_go[0, last] = 0
    choice = np.zeros((problem.nodes, 2), np.int64)
    for node in range(last - 1, -1, -1):
        boards = needed[:, node, node + 1 :]
        total = problem.cost[:, node, node + 1 :] + cost_to_go[0, node + 1 :]
        if price.any():
            total += (boards * price[:, None]).astype(np.int64)
        total[boards == 0] = FORBIDDEN
        best = int(total.argmin())
        kind, stop = divmod(best, last - node)
        cost_to_go[0, node] = min(FORBIDDEN, int(total[kind, stop]))
        choice[node] = kind, node + 1 + stop
    return cost_to_go, [choice]


def _required_steps(
    problem: Problem, needed: NDArray[np.float32], price: IntArray
) -> tuple[IntArray, list[IntArray]]:
    """Solve for exactly ``problem.stages`` steps, one layer for each step."""
    stages = problem.stages or 0
    priced = (needed * price[:, None, None]).astype(np.int64)
    total = np.where(needed > 0, problem.cost + priced, FORBIDDEN)
    kind = total.argmin(axis=0)
    cheapest = total.min(axis=0)
    cost_to_go = np.full((stages + 1, problem.nodes), FORBIDDEN, np.int64)
    cost_to_go[0, -1] = 0
    choices: list[IntArray] = [np.zeros((problem.nodes, 2), np.int64)]
    nodes = np.arange(problem.nodes)
    for layer in range(1, stages + 1):
        stop = (cheapest + cost_to_go[layer - 1]).argmin(axis=1)
        cost_to_go[layer] = np.minimum(
            cheapest[nodes, stop] + cost_to_go[layer - 1, stop], FORBIDDEN
        )
        choices.append(np.stack([kind[nodes, stop], stop], axis=1))
    return cost_to_go, choices


def _replica_set(
    problem: Problem, period: int, kind: int, start: int, stop: int
) -> tuple[int, ...]:
    """Return a small replica set with a board of ``kind`` that meets ``period``, if there is one.

    The set's further boards are of the same kind, or else of the fastest kind.
    """
    busy = problem.busy_in(2)[:, start, stop].tolist()
    fastest = min(range(problem.kinds), key=lambda other: busy[other])
    for other in (kind, fastest):
        chosen = [kind]
        if problem.busy[kind, start, stop] <= period:
            return (kind,)
        while len(chosen) < problem.max_replicas:
            chosen.append(other)
            if meets_period((busy[board] for board in chosen), period):
                return tuple(chosen)
    return tuple(chosen)
