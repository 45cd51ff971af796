"""Find a fast route with any number of replicas for each step: a local search.

Problem: find a route (stages and their boards) with a short period, if a step (stage) may have many
replicas. :mod:`.least_period` tries all replica sets. So it is exact for small replica sets, but
there are too many large replica sets. If the model has few cuts and the fleet has many boards,
large replica sets are best. :mod:`.problem` defines the terms.

Method: a *split* is the cuts of a route and the boards of each step. For each number of steps, the
search starts from the cuts with the lowest price of the boards' time. :mod:`.period_bound` defines
this price. Then the search repeats two parts until the slowest step gets no faster:

1. Add unused boards to the slowest step. Move and exchange boards between steps.
2. Compute the best cuts for the boards of each step, exactly.

To leave local optima, the search exchanges random boards and moves random cuts (iterated local
search: Lourenco, Martin & Stutzle, 2003). The random numbers have a fixed seed, so equal problems
have equal answers. The search first uses a part of the nodes, and then the nodes around the cuts of
the best routes.

Complexity: ``O(steps * nodes**2 * kinds)`` for each round, with at most a few hundred nodes.

Guarantee: the route is feasible. Its period may be longer than the least period.
:func:`.period_bound.bound_period` gives a lower bound on the least period.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edge_partition.planning.search.period_bound import coarse_nodes
from edge_partition.planning.search.problem import FORBIDDEN, Problem, Route, Step

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_partition.planning.search.problem import IntArray

    FloatArray = NDArray[np.float64]

#: Number of nodes in the first problem, and number of nodes on each side of a cut in each of the
#: later problems.
_COARSE_NODES, _NEAR = 64, (12, 3)
#: Largest number of steps in the routes that the search tries.
_MOST_STEPS = 10
#: Largest number of rounds of the two parts, and of moves and exchanges in a round.
_ROUNDS, _MOVES = 12, 400
#: Number of splits that get random changes, and number of random changes of each.
_STARTS, _SHAKES = 4, 40
_HALF = 0.5
#: A large fleet's boards are added to steps in groups. A group is the fleet divided by this number.
_PARTS = 128
#: An improvement counts if the rate grows by more than this factor.
_IMPROVED = 1 + 1e-9


def find_many_replicas(problem: Problem, prices: FloatArray) -> Route | None:
    """Return the best route that the search finds; ``None`` if it finds none.

    Args:
        problem: The problem; its :attr:`~.problem.Problem.stages` must be ``None``.
        prices: ``(kinds,)``, price of a nanosecond of a board of each kind, as from
            :func:`.period_bound.bound_period`.
    """
    nodes = coarse_nodes(problem, _COARSE_NODES)
    coarse = _Search(problem.restricted_to(nodes), prices)
    most = min(_MOST_STEPS, len(nodes) - 1, int(problem.capacity.sum()))
    found = [coarse.improve(split) for split in coarse.cheapest_splits(most)]
    ranked = sorted((split for split in found if split is not None), key=coarse.period_of)
    routes = [_on_nodes(coarse.route_of(coarse.shake(split)), nodes) for split in ranked[:_STARTS]]
    routes = [improve_route(problem, prices, route) for route in routes]
    return min(routes, key=problem.period_of, default=None)


def improve_route(problem: Problem, prices: FloatArray, route: Route) -> Route:
    """Return a route that is no slower than ``route``, with cuts close to those of ``route``."""
    for near in _NEAR:
        route = _refine(problem, prices, route, near)
    return route


def _refine(problem: Problem, prices: FloatArray, route: Route, near: int) -> Route:
    """Return a route that is no slower than ``route``.

    Each of its cuts is at most ``near`` nodes away from a cut of ``route``.
    """
    around = {
        node for step in route[1:] for node in range(step.start - near, step.start + near + 1)
    }
    ends = {0, problem.nodes - 1}
    nodes = sorted(ends | {node for node in around if 0 < node < problem.nodes - 1})
    fine = _Search(problem.restricted_to(nodes), prices)
    number = {node: index for index, node in enumerate(nodes)}
    inside = tuple(
        replace(step, start=number[step.start], stop=number[step.stop]) for step in route
    )
    found = fine.improve(fine.split_of(inside))
    if found is None:
        return route
    return min(route, _on_nodes(fine.route_of(found), nodes), key=problem.period_of)


@dataclass(frozen=True)
class _Split:
    """The cuts of a route and the boards of each step.

    Attributes:
        nodes: ``(steps + 1,)``, the first node, the cuts and the last node.
        boards: ``(kinds, steps)``, number of boards of each kind on each step.
    """

    nodes: tuple[int, ...]
    boards: IntArray


class _Search:
    """The local search on one problem; see the module's docstring."""

    def __init__(self, problem: Problem, prices: FloatArray) -> None:
        self._problem = problem
        self._prices = prices
        #: ``(kinds, nodes, nodes)``, rate of a board on a step: results per nanosecond. 0 if the
        #: step is infeasible for the kind.
        self._rate = np.where(problem.busy < FORBIDDEN, 1 / problem.busy, 0)

    def cheapest_splits(self, most: int) -> list[_Split]:
        """Return, for each number of steps up to ``most``, the cuts with the lowest price.

        The price is the price of the boards' time, as in the module's docstring. The splits have no
        boards yet. A number of steps without a feasible split is left out.
        """
        busy = np.where(self._problem.busy < FORBIDDEN, self._problem.busy, np.inf)
        cost = (busy * self._prices[:, None, None]).min(axis=0)
        nodes = self._problem.nodes
        to_go = np.full(nodes, np.inf)
        to_go[-1] = 0
        stops: list[IntArray] = []
        splits = []
        for steps in range(1, most + 1):
            total = cost + to_go
            stops.append(total.argmin(axis=1))
            to_go = total.min(axis=1)
            if np.isfinite(to_go[0]):
                path = [0]
                for stop in reversed(stops):
                    path.append(int(stop[path[-1]]))
                boards = np.zeros((self._problem.kinds, steps), np.int64)
                splits.append(_Split(tuple(path), boards))
        return splits

    def split_of(self, route: Route) -> _Split:
        """Return a route's cuts and boards as a split."""
        boards = np.zeros((self._problem.kinds, len(route)), np.int64)
        for index, step in enumerate(route):
            for kind, count in Counter(step.kinds).items():
                boards[kind, index] = count
        return _Split((0, *(step.stop for step in route)), boards)

    def route_of(self, split: _Split) -> Route:
        """Return the route with a split's cuts and boards."""
        return tuple(
            Step(start, stop, tuple(np.repeat(np.arange(len(boards)), boards).tolist()))
            for start, stop, boards in zip(
                split.nodes, split.nodes[1:], split.boards.T, strict=False
            )
        )

    def period_of(self, split: _Split) -> float:
        """Return a split's period, in nanoseconds."""
        return float(1 / self._rates(split).min())

    def improve(self, split: _Split) -> _Split | None:
        """Improve the boards and the cuts of a split in rounds, until a round is no improvement.

        Returns:
            The best split. ``None`` if no split was found in which every step has a board.
        """
        best, best_rate = None, 0.0
        for _ in range(_ROUNDS):
            split = self._assign(split)
            rate = float(self._rates(split).min())
            if rate <= best_rate * _IMPROVED:
                break
            best, best_rate = split, rate
            split = self._place_cuts(split)
        return best

    def shake(self, best: _Split) -> _Split:
        """Change ``best`` at random several times, and return the best split that is found.

        A change exchanges boards between random steps and may move a random cut. Then the changed
        split is improved.
        """
        random = np.random.default_rng(len(best.nodes))
        steps = len(best.nodes) - 1
        for _ in range(_SHAKES if steps > 1 else 0):
            cuts, boards = list(best.nodes), best.boards.copy()
            if random.random() < _HALF:
                cut = int(random.integers(1, steps))
                cuts[cut] = int(random.integers(cuts[cut - 1] + 1, cuts[cut + 1]))
            for _ in range(int(random.integers(1, 4))):
                one, other = random.choice(steps, 2, replace=False).tolist()
                for source, target in ((one, other), (other, one)):
                    kinds = np.flatnonzero(boards[:, source])
                    if len(kinds):
                        kind = int(random.choice(kinds))
                        boards[kind, source] -= 1
                        boards[kind, target] += 1
            found = self.improve(_Split(tuple(cuts), boards))
            if found is not None and self.period_of(found) < self.period_of(best):
                best = found
        return best

    def _rate_of_kinds(self, split: _Split) -> FloatArray:
        """Return the rate of one board of each kind on each step, ``(kinds, steps)``.

        The rate is the number of results per nanosecond.
        """
        result: FloatArray = self._rate[:, split.nodes[:-1], split.nodes[1:]]
        return result

    def _rates(self, split: _Split) -> FloatArray:
        """Return the rate of all boards of each step together, ``(steps,)``."""
        rates: FloatArray = (self._rate_of_kinds(split) * split.boards).sum(axis=0)
        return rates

    def _assign(self, split: _Split) -> _Split:
        """Return the split with unused boards added to steps, and boards moved to slow steps."""
        rate = self._rate_of_kinds(split)
        steps = len(split.nodes) - 1
        # The last column is for unused boards. Their rate is 0.
        able = np.concatenate([rate, np.zeros((len(rate), 1))], axis=1)
        boards = np.zeros(able.shape, np.int64)
        boards[:, :steps] = np.where(rate > 0, split.boards, 0)
        boards[:, steps] = self._problem.capacity - boards.sum(axis=1)
        is_single = np.zeros(steps, bool)
        if self._problem.no_replicas is not None:
            is_single = self._problem.no_replicas[split.nodes[:-1], split.nodes[1:]]
        self._add_unused(boards, able, is_single)
        for _ in range(_MOVES):
            if not _move(boards, able, is_single):
                break
        return replace(split, boards=boards[:, :steps])

    def _add_unused(self, boards: IntArray, rate: FloatArray, is_single: NDArray[np.bool_]) -> None:
        """Add unused boards to whichever step is slowest, until no unused board helps.

        The function first adds boards of the kind with the highest rate on the step, relative to
        the price of the kind.

        Args:
            boards: ``(kinds, steps + 1)``, number of boards of each kind on each step. The last
                column is for the unused boards. The function changes this array.
            rate: ``(kinds, steps + 1)``, rate of one board of each kind on each step. The last
                column is 0.
            is_single: ``(steps,)``, whether the step must have exactly one board.
        """
        steps = boards.shape[1] - 1
        most = max(1, int(self._problem.capacity.sum()) // _PARTS)
        open_ = np.ones(steps, bool)
        while open_.any():
            rates = (boards * rate)[:, :steps].sum(axis=0)
            step = int(np.where(open_, rates, np.inf).argmin())
            value = np.where(boards[:, steps] > 0, rate[:, step] / self._prices, 0)
            kind = int(value.argmax())
            if value[kind] == 0 or (is_single[step] and boards[:, step].sum()):
                open_[step] = False
                continue
            count = 1 if is_single[step] else min(most, int(boards[kind, steps]))
            boards[kind, step] += count
            boards[kind, steps] -= count

    def _place_cuts(self, split: _Split) -> _Split:
        """Return the split with the best cuts. The boards of each step stay the same."""
        nodes = self._problem.nodes
        reached = np.zeros(nodes)
        reached[0] = np.inf
        starts = []
        for boards in split.boards.T:
            rate = np.tensordot(boards, self._rate, axes=1)
            if self._problem.no_replicas is not None and boards.sum() > 1:
                rate[self._problem.no_replicas] = 0
            through = np.minimum(reached[:, None], rate)
            starts.append(through.argmax(axis=0))
            reached = through.max(axis=0)
        if reached[-1] == 0:
            return split
        path = [nodes - 1]
        for start in reversed(starts):
            path.append(int(start[path[-1]]))
        return replace(split, nodes=tuple(reversed(path)))


def _move(boards: IntArray, rate: FloatArray, is_single: NDArray[np.bool_]) -> bool:
    """Make the slowest step faster: move a board to it, or exchange one of its boards.

    Nothing is changed if one of the two steps would then be as slow as the slowest step is now.

    Args:
        boards: ``(kinds, steps + 1)``, number of boards of each kind on each step. The last column
            is for the unused boards. The function changes this array.
        rate: ``(kinds, steps + 1)``, rate of one board of each kind on each step. The last column
            is 0.
        is_single: ``(steps,)``, whether the step must have exactly one board.

    Returns:
        Whether a board was moved or exchanged.
    """
    kinds, steps = len(boards), boards.shape[1] - 1
    rates = (boards * rate).sum(axis=0)
    rates[steps] = np.inf
    slowest = int(rates.argmin())
    gain = rate[:, slowest]
    # ``(kinds, steps + 1)``: the lower rate of two steps after a move of a board. The steps are the
    # slowest step and the step from which the board is moved.
    can_move = (boards > 0) & (gain[:, None] > 0)
    can_move[:, slowest] = False
    moved = np.minimum(rates - rate, rates[slowest] + gain[:, None])
    if is_single[slowest] and boards[:, slowest].any():
        can_move[:] = False
    moved = np.where(can_move, moved, 0)
    # ``(kinds, kinds, steps + 1)``: the lower rate of the two steps after an exchange. A board of
    # the first kind moves to the slowest step, and a board of the second kind leaves it.
    can_swap = (
        (boards[:, None] > 0) & (boards[None, :, slowest, None] > 0) & (gain > 0)[:, None, None]
    )
    can_swap &= (rate > 0)[None] | (np.arange(steps + 1) == steps)
    can_swap[:, :, slowest] = False
    swapped = np.minimum(
        rates - rate[:, None] + rate[None],
        rates[slowest] + gain[:, None, None] - gain[None, :, None],
    )
    swapped = np.where(can_swap, swapped, 0)
    best_move, best_swap = int(moved.argmax()), int(swapped.argmax())
    after = max(moved.flat[best_move], swapped.flat[best_swap])
    if after <= rates[slowest] * _IMPROVED:
        return False
    if moved.flat[best_move] >= after:
        kind, source = divmod(best_move, steps + 1)
        boards[kind, source] -= 1
        boards[kind, slowest] += 1
    else:
        kind, other, source = (int(at) for at in np.unravel_index(best_swap, swapped.shape))
        boards[kind, source] -= 1
        boards[kind, slowest] += 1
        boards[other, slowest] -= 1
        boards[other, source] += 1
    return kinds > 0


def _on_nodes(route: Route, nodes: list[int]) -> Route:
    """Return ``route`` with its starts and stops, which are indexes into ``nodes``, as nodes."""
    return tuple(replace(step, start=nodes[step.start], stop=nodes[step.stop]) for step in route)
