"""Routes when boards are unlimited but priced: quick to find, and a bound on every real route.

Drop the limit on each kind's boards and charge a price for each use instead (Lagrangian relaxation:
Held & Karp, 1971). What is left is a plain shortest path over nodes in order, and its cost less the
price of all boards there are is a lower bound of the true optimum, whatever the prices.

A crew of kinds ``R`` costs ``max(cost of kind) + sum(price of kind)``, which is at least
``min over its kinds of (cost of kind + size * price of kind)``. So crews of one kind, each of the
smallest size that keeps the pace, bound all crews.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge_partition.planning.search.problem import FORBIDDEN, Problem, Route, Step

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_partition.planning.search.problem import IntArray


@dataclass(frozen=True)
class Relaxation:
    """The cheapest ways to the last node at given prices.

    Attributes:
        price: ``(kinds,)``, 0 or more, of each use of a board.
        to_go: ``(rows, nodes)``, the cost from each node to the last: one row for any number of
            steps; with exactly so many asked for, row ``s`` is for ``s`` more steps.
        bound: No route within capacity costs less; :data:`FORBIDDEN` or more: there is none.
        route: The cheapest at these prices, ``None`` when no route exists at any price.
    """

    price: IntArray
    to_go: IntArray
    bound: int
    route: Route | None


def relax(problem: Problem, sizes: NDArray[np.uint8], price: IntArray) -> Relaxation:
    """Return the relaxation of ``problem`` at ``price``.

    Args:
        problem: With its costs.
        sizes: The smallest crew of each kind for each step, 0 where there is none.
        price: ``(kinds,)``.
    """
    exact = problem.stages is not None
    to_go, choices = (_layered if exact else _in_order)(problem, sizes, price)
    row = problem.stages or 0
    least = int(to_go[row, 0])
    if least >= FORBIDDEN:
        return Relaxation(price, to_go, FORBIDDEN, None)
    route = []
    node = 0
    while node < problem.nodes - 1:
        kind, stop = (int(choice) for choice in choices[row][node])
        route.append(Step(node, stop, (kind,) * int(sizes[kind, node, stop])))
        node = stop
        row -= exact
    return Relaxation(price, to_go, least - int(price @ problem.capacity), tuple(route))


def _in_order(
    problem: Problem, sizes: NDArray[np.uint8], price: IntArray
) -> tuple[IntArray, list[IntArray]]:
    """Any number of steps: each node once, from the last to the first."""
    last = problem.nodes - 1
    to_go = np.full((1, problem.nodes), FORBIDDEN, np.int64)
    to_go[0, last] = 0
    choice = np.zeros((problem.nodes, 2), np.int64)
    for node in range(last - 1, -1, -1):
        size = sizes[:, node, node + 1 :]
        total = problem.cost[:, node, node + 1 :] + size * price[:, None] + to_go[0, node + 1 :]
        total[size == 0] = FORBIDDEN
        best = int(total.argmin())
        kind, stop = divmod(best, last - node)
        to_go[0, node] = min(FORBIDDEN, int(total[kind, stop]))
        choice[node] = kind, node + 1 + stop
    return to_go, [choice]


def _layered(
    problem: Problem, sizes: NDArray[np.uint8], price: IntArray
) -> tuple[IntArray, list[IntArray]]:
    """Exactly so many steps: one layer a step."""
    stages = problem.stages or 0
    total = np.where(sizes > 0, problem.cost + sizes * price[:, None, None], FORBIDDEN)
    kind = total.argmin(axis=0)
    cheapest = total.min(axis=0)
    to_go = np.full((stages + 1, problem.nodes), FORBIDDEN, np.int64)
    to_go[0, -1] = 0
    choices: list[IntArray] = [np.zeros((problem.nodes, 2), np.int64)]
    nodes = np.arange(problem.nodes)
    for layer in range(1, stages + 1):
        stop = (cheapest + to_go[layer - 1]).argmin(axis=1)
        to_go[layer] = np.minimum(cheapest[nodes, stop] + to_go[layer - 1, stop], FORBIDDEN)
        choices.append(np.stack([kind[nodes, stop], stop], axis=1))
    return to_go, choices
