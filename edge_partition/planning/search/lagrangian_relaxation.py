"""Compute a lower bound on the cost of every route, by Lagrangian relaxation.

Problem: find the cheapest route (stages and their boards) that uses no more boards of each kind
than the fleet has. :mod:`.problem` defines the terms.

Method: the limit on the boards of a kind is replaced by a price (Lagrange multiplier) for each
board of the kind that a step uses (Held & Karp, "The Traveling-Salesman Problem and Minimum
Spanning Trees: Part II", 1971). The relaxed problem is a shortest path in an acyclic graph. The
cost of the path minus the prices of all boards of the fleet is a lower bound on the optimum. This
is true for any prices that are not negative.

There are many replica sets, so the relaxed problem considers single kinds instead. Let a step have
the minimal replica set ``R``. The cost of the step with prices is ``max(cost) + sum(price)``, both
over the boards in ``R``. For each board in ``R``, let ``v`` be 1 divided by the number of boards
that the step needs if all boards are of this board's kind
(:meth:`~.problem.Problem.boards_needed`). The sum of ``v`` over the boards in ``R`` is 1 or more.
So ``sum(price) = sum(v * price / v)`` is at least the weighted mean of ``price / v`` with the
weights ``v``. Therefore the step costs at least the minimum of ``cost + price / v`` over the kinds
in ``R``. If the fleet has boards of only one kind, this minimum is the exact cost.

Complexity: ``O(kinds * nodes**2)`` for any number of steps, and
``O((kinds + stages) * nodes**2)`` for exactly ``stages`` steps.

Guarantee: the bound is valid, but it may be lower than the optimum. The route of the relaxed
problem may use more boards than the fleet has.
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
        price: ``(kinds,)``, price of a board of each kind for a step that uses it. 0 or more.
        cost_to_go: ``(rows, nodes)``, least cost, with prices, from each node to the last node. If
            the problem does not require a number of steps, there is only one row. If it does, row
            ``s`` is the least cost with exactly ``s`` steps to the last node.
        bound: Lower bound on the cost of every route that uses no more boards than the fleet has.
            It is at least :data:`FORBIDDEN` if no route exists even with unlimited boards.
        route: The cheapest route at these prices. ``None`` if no route exists even with unlimited
            boards.
    """

    price: IntArray
    cost_to_go: IntArray
    bound: int
    route: Route | None


def relax(
    problem: Problem, period: int, needed: NDArray[np.float32], price: IntArray
) -> Relaxation:
    """Return the solution of the relaxed problem at the prices ``price``.

    Args:
        problem: The problem to relax.
        period: Longest allowed time between two results of a step, in nanoseconds.
        needed: ``(kinds, nodes, nodes)``, the result of :meth:`~.problem.Problem.boards_needed` for
            ``period``.
        price: ``(kinds,)``, price of a board of each kind for a step that uses it. 0 or more.
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
    """Solve the relaxed problem for any number of steps, backwards from the last node.

    Returns:
        Two items. The first is ``cost_to_go`` of :class:`Relaxation`. The second is a list with one
        array, ``(nodes, 2)``: for each node, the kind and the stop of the best step from this node.
    """
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
    """Solve the relaxed problem for exactly ``problem.stages`` steps.

    Returns:
        Two items. The first is ``cost_to_go`` of :class:`Relaxation`. The second is a list with an
        array, ``(nodes, 2)``, for each number of steps to the last node: for each node, the kind
        and the stop of the best step from this node.
    """
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
    """Return a small replica set that contains a board of ``kind`` and meets ``period``.

    First, all boards of the set are of this kind. If such a set does not meet the period, the other
    boards are of the fastest kind. If such a set does not meet the period either, the result is the
    last set that was tried.
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
