"""A lower bound on the period of every plan, by prices for the boards' time.

Problem: no plan may be faster than the bound, with any number of replicas, and also if boards share
their time between stages. Method: give each kind of board a price ``y`` for its time, so that the
prices of all boards add up to 1. Work on a step at the cheapest board costs
``min over kinds of y * busy``. The sum of these costs along the cheapest path from the first node
to the last is a lower bound on the period (the dual of a linear program over the boards' shares of
time): in a period ``T``, each board has the time ``T``, so all boards together have time worth
``T``, and one request needs time worth the cost of its path. Subgradient steps of the prices'
logarithms raise the bound, and become shorter when they no longer help (Polyak, "Minimization of
unsmooth functionals", 1969). The steps use a part of the nodes. The bound itself comes from all
nodes.

Complexity: ``O(kinds * nodes**2)``. Guarantee: the bound is valid for any prices, but need not be
tight.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edge_partition.planning.search.problem import FORBIDDEN, Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_partition.planning.search.problem import IntArray

#: Most updates of the prices, and the relative gain that the first and the last update aim at. The
#: aim is halved after some updates without a higher bound.
_ROUNDS, _FIRST_AIM, _LEAST_AIM, _PATIENCE = 300, 0.3, 5e-4, 8
#: Nodes of the coarse problem that sets the prices.
_COARSE_NODES = 96
_ROUNDING = 1e-9


def bound_period(problem: Problem) -> tuple[int, NDArray[np.float64]]:
    """Return a lower bound on every period, in nanoseconds, and the price of each kind.

    The bound is at least :data:`FORBIDDEN` if no board can run some part of the model.
    """
    nodes = coarse_nodes(problem, _COARSE_NODES)
    coarse = problem.restricted_to(nodes).busy if len(nodes) < problem.nodes else problem.busy
    capacity = problem.capacity.astype(float)
    # First prices: in proportion to the boards' speed on their fastest steps.
    step_nodes = np.arange(len(nodes)) - np.arange(len(nodes))[:, None]
    price = (np.maximum(step_nodes, 0) / coarse).max(axis=(1, 2)) + 1e-18
    price /= price @ capacity
    best, best_price, aim, waited = 0.0, price, _FIRST_AIM, 0
    for _ in range(_ROUNDS):
        length, load = _cheapest_path(coarse, price)
        if not math.isfinite(length) or aim < _LEAST_AIM:
            break
        waited = 0 if length > best * (1 + aim / 1000) else waited + 1
        if length > best:
            best, best_price = length, price
        if waited == _PATIENCE:
            price, aim, waited = best_price, aim / 2, 0
            continue
        # The gradient by the logarithm of each price, with the sum of all prices kept.
        gradient = load * price / length - price * capacity
        price = price * np.exp(np.clip(aim * gradient / (gradient @ gradient + 1e-300), -9, 9))
        price /= price @ capacity
    length, _ = _cheapest_path(problem.busy, best_price)
    bound = math.ceil(length * (1 - _ROUNDING)) if math.isfinite(length) else FORBIDDEN
    return bound, best_price


def coarse_nodes(problem: Problem, count: int) -> list[int]:
    """Return about ``count`` nodes at equal distances, the first and the last among them."""
    nodes = np.linspace(0, problem.nodes - 1, min(count, problem.nodes)).round().astype(int)
    return [int(node) for node in np.unique(nodes)]


def _cheapest_path(busy: IntArray, price: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Return the cost of the cheapest path, and the time that it takes of each kind."""
    kinds, nodes, _ = busy.shape
    to_go = np.full(nodes, math.inf)
    to_go[-1] = 0
    choice = np.zeros((nodes, 2), np.int64)
    for node in range(nodes - 2, -1, -1):
        steps = busy[:, node, node + 1 :]
        cost = steps * price[:, None] + to_go[node + 1 :]
        cost[steps >= FORBIDDEN] = math.inf
        kind, offset = divmod(int(cost.argmin()), nodes - 1 - node)
        to_go[node] = cost[kind, offset]
        choice[node] = kind, node + 1 + offset
    load = np.zeros(kinds)
    node = 0
    while math.isfinite(to_go[0]) and node < nodes - 1:
        kind, stop = choice[node].tolist()
        load[kind] += busy[kind, node, stop]
        node = stop
    return float(to_go[0]), load


def cost_to_end(cost: IntArray, price: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cost of the cheapest path from each node to the last, ``(nodes,)``.

    Args:
        cost: ``(kinds, nodes, nodes)``, cost of each step; :data:`FORBIDDEN` where infeasible.
        price: ``(kinds,)``, factor of the cost of each kind.
    """
    nodes = cost.shape[1]
    to_go = np.full(nodes, math.inf)
    to_go[-1] = 0
    for node in range(nodes - 2, -1, -1):
        steps = cost[:, node, node + 1 :]
        priced = np.where(steps < FORBIDDEN, steps * price[:, None], math.inf)
        to_go[node] = (priced + to_go[node + 1 :]).min()
    return to_go
