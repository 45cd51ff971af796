"""Compute a lower bound on the period of every plan, from prices for the boards' time.

Problem: find a number that is not above the period of any plan. A plan may have any number of
replicas, and its boards may serve several stages.

Method: a nanosecond of a board has a price ``y``, which depends on the board's kind. The prices of
all boards add up to 1. So in a period of ``T`` nanoseconds, the time of all boards together is
worth ``T``. If one request of a step (a stage) occupies a board for ``busy`` nanoseconds, the step
costs ``y * busy`` on this board. The time that a request needs is therefore worth at least the cost
of the cheapest path of steps through the model. The boards finish one request in each period, so
``T`` is at least this cost. This bound is the dual of a linear program over the boards' shares of
time.

Subgradient updates of the logarithms of the prices raise the bound (Polyak, "Minimization of
unsmooth functionals", 1969). If several updates do not raise the bound, the next updates are
smaller. The updates use only a part of the nodes (the positions where the model may be cut). The
final bound uses all nodes.

Complexity: ``O(kinds * nodes**2)``.

Guarantee: the bound is valid for any prices, but it may be lower than the least period.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edge_partition.planning.search.problem import FORBIDDEN, Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_partition.planning.search.problem import IntArray

#: Largest number of updates of the prices. An update aims at a relative gain of the bound: at
#: ``_FIRST_AIM`` first. After ``_PATIENCE`` updates without a higher bound, the aim is halved. The
#: updates end when the aim is below ``_LEAST_AIM``.
_ROUNDS, _FIRST_AIM, _LEAST_AIM, _PATIENCE = 300, 0.3, 5e-4, 8
#: Number of nodes in the coarse problem, a part of the nodes from which the prices are computed.
_COARSE_NODES = 96
#: Relative amount by which the bound is lowered. It is larger than the bound's rounding errors.
_ROUNDING = 1e-9


def bound_period(problem: Problem) -> tuple[int, NDArray[np.float64]]:
    """Compute a lower bound on the period of every route.

    Returns:
        Two items. The first is the bound, in nanoseconds. It is at least :data:`FORBIDDEN` if no
        board can run some part of the model. The second, ``(kinds,)``, is the price of a nanosecond
        of a board of each kind.
    """
    nodes = coarse_nodes(problem, _COARSE_NODES)
    coarse = problem.restricted_to(nodes).busy if len(nodes) < problem.nodes else problem.busy
    capacity = problem.capacity.astype(float)
    # The first prices are proportional to the boards' speed on their fastest steps.
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
        # The gradient of the bound with respect to the logarithms of the prices. The second term
        # keeps the sum of all prices constant.
        gradient = load * price / length - price * capacity
        price = price * np.exp(np.clip(aim * gradient / (gradient @ gradient + 1e-300), -9, 9))
        price /= price @ capacity
    length, _ = _cheapest_path(problem.busy, best_price)
    bound = math.ceil(length * (1 - _ROUNDING)) if math.isfinite(length) else FORBIDDEN
    return bound, best_price


def coarse_nodes(problem: Problem, count: int) -> list[int]:
    """Return at most ``count`` nodes at about equal distances, from the first to the last node."""
    nodes = np.linspace(0, problem.nodes - 1, min(count, problem.nodes)).round().astype(int)
    return [int(node) for node in np.unique(nodes)]


def _cheapest_path(busy: IntArray, price: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Find the cheapest path from the first node to the last node.

    Returns:
        Two items. The first is the path's cost: the sum of ``time * price`` over its steps. The
        second, ``(kinds,)``, is the time for which one request on the path occupies boards of each
        kind, in nanoseconds.
    """
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
    """Return the cost of the cheapest path from each node to the last node, ``(nodes,)``.

    Args:
        cost: ``(kinds, nodes, nodes)``, cost of each step. :data:`FORBIDDEN` if the step is
            infeasible for the kind.
        price: ``(kinds,)``, the factor by which the costs of each kind are multiplied.
    """
    nodes = cost.shape[1]
    to_go = np.full(nodes, math.inf)
    to_go[-1] = 0
    for node in range(nodes - 2, -1, -1):
        steps = cost[:, node, node + 1 :]
        priced = np.where(steps < FORBIDDEN, steps * price[:, None], math.inf)
        to_go[node] = (priced + to_go[node + 1 :]).min()
    return to_go
