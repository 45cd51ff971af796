"""The cheapest way to cover a row of positions with boards, each used at most once: exact.

The problem is a shortest path with limited resources (Irnich & Desaulniers, "Shortest Path
Problems with Resource Constraints", 2005). Nodes are the positions where a model may be cut, an
arc ``i -> j`` on a board of kind ``k`` is a stage, and a kind may be used as often as there are
boards of it. Three steps make it exact and quick:

1. Drop the limits and charge a price for each use of a kind instead (Lagrangian relaxation: Held &
   Karp, 1971). What is left is a plain shortest path, and its cost less the price of all boards is
   a lower bound of the true optimum, whatever the prices. Subgradient steps raise the bound; a path
   that happens to respect the limits is a candidate.
2. If the bound meets the best candidate, that candidate is the optimum.
3. Otherwise go through every set of used boards and position (one layer a stage), dropping only
   what the bound of step 1 proves unable to beat the candidate.

All costs are whole numbers, so sums, comparisons and ties are exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterator

IntArray: TypeAlias = NDArray[np.int64]

#: The cost of an arc that is not allowed. Three of them still fit an int64.
FORBIDDEN = 1 << 61

#: Subgradient steps before the enumeration. More steps, fewer labels.
_PRICE_ROUNDS = 60
#: The highest scarcity price: fine enough to tell kinds apart, far from overflow.
_PRICE_SCALE = 1 << 20
#: Labels a layer keeps in the quick look for a good path that goes before the full enumeration.
_BEAM = 256
#: Labels expanded at once, to bound the memory of a step.
_CHUNK = 1 << 14
#: Bits of a label's key that hold how often each kind was used, in each 64-bit word.
_WORD_BITS = 62


@dataclass(frozen=True)
class Arc:
    """A stage on a board of kind ``kind``, from node ``start`` to node ``stop``."""

    kind: int
    start: int
    stop: int


Route: TypeAlias = tuple[Arc, ...]


def find_path(
    allowed: NDArray[np.bool_], capacity: IntArray, *, stages: int | None = None
) -> Route | None:
    """Return any path from the first node to the last, or ``None`` when there is none.

    Args:
        allowed: ``(kinds, nodes, nodes)``, whether there is an arc from ``start`` to ``stop`` on a
            board of each kind. Arcs go forward only.
        capacity: ``(kinds,)``, how many boards of each kind there are.
        stages: Exactly so many arcs; ``None`` for any number.
    """
    if stages is None:
        allowed = _keep_useful_arcs(allowed)
    problem = _Problem.of(np.where(allowed, 0, FORBIDDEN), capacity, stages)
    price = _scarcity_prices(problem)
    if not isinstance(price, _Price):
        return price
    return _enumerate(problem, [price], 0, _BEAM) or _enumerate(problem, [price], 0)


def find_cheapest_path(
    cost: IntArray, capacity: IntArray, *, stages: int | None = None, known: Route | None = None
) -> Route | None:
    """Return a path from the first node to the last with the least sum of costs.

    Args:
        cost: ``(kinds, nodes, nodes)``, 0 or more, of each arc; :data:`FORBIDDEN` where there is
            none.
        capacity: As in :func:`find_path`.
        stages: As in :func:`find_path`.
        known: A path within the limits, to start from.

    Returns:
        The path, or ``None`` when there is none.
    """
    problem = _Problem.of(cost, capacity, stages)
    scarcity = _scarcity_prices(problem.without_costs())
    best = known if isinstance(scarcity, _Price) else scarcity
    if best is None and not isinstance(scarcity, _Price):
        return None
    limit = FORBIDDEN - 1 if best is None else problem.cost_of(best) - 1
    best_bound = _Price(np.zeros(len(capacity), np.int64), -FORBIDDEN)
    for price, path in _marginal_prices(problem):
        best_bound = max(best_bound, price, key=lambda found: found.bound)
        if problem.is_within_capacity(path) and problem.cost_of(path) <= limit:
            best, limit = path, problem.cost_of(path) - 1
        if best_bound.bound > limit:
            return best
    prices = [best_bound, *([scarcity] if isinstance(scarcity, _Price) else [])]
    near = _enumerate(problem, prices, limit, _BEAM)
    if near is not None:
        best, limit = near, problem.cost_of(near) - 1
    return _enumerate(problem, prices, limit) or best


def find_least_bottleneck(
    bottleneck: IntArray, capacity: IntArray, *, stages: int | None = None
) -> Route | None:
    """Return a path whose largest cost is the least possible, or ``None`` when there is no path.

    Args:
        bottleneck: As ``cost`` of :func:`find_cheapest_path`.
        capacity: As in :func:`find_path`.
        stages: As in :func:`find_path`.
    """
    best = find_path(bottleneck < FORBIDDEN, capacity, stages=stages)
    if best is None:
        return None
    levels = np.unique(bottleneck)
    low, high = 0, int(np.searchsorted(levels, _worst(bottleneck, best)))
    while low < high:
        middle = (low + high) // 2
        path = find_path(bottleneck <= levels[middle], capacity, stages=stages)
        if path is None:
            low = middle + 1
        else:
            best, high = path, int(np.searchsorted(levels, _worst(bottleneck, path)))
    return best


def _worst(bottleneck: IntArray, path: Route) -> int:
    return max(int(bottleneck[arc.kind, arc.start, arc.stop]) for arc in path)


def _keep_useful_arcs(allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Drop arcs whose board could as well have gone further, when only reaching the end matters.

    Node ``b`` is as good as an earlier node ``a`` when each arc from ``a`` beyond ``b`` is also
    there from ``b``, and each arc from ``a`` to a node before ``b`` leads where ``b`` is again as
    good. Whatever boards reach the end from ``a`` then do so from ``b``.
    """
    nodes = allowed.shape[1]
    packed: NDArray[np.uint8] = np.packbits(allowed, axis=2)
    beyond: NDArray[np.uint8] = np.packbits(np.triu(np.ones((nodes, nodes), bool), 1), axis=1)
    lacks = np.zeros((nodes, nodes), bool)
    for later in range(1, nodes):
        lacking: NDArray[np.uint8] = np.bitwise_and(beyond[later], np.bitwise_not(packed[:, later]))
        missing = packed[:, :later] & lacking.reshape(len(lacking), 1, -1)
        lacks[:later, later] = np.any(missing, axis=(0, 2))
    reachable: NDArray[np.bool_] = np.any(allowed, axis=0)
    good = np.eye(nodes, dtype=bool)
    for earlier in range(nodes - 2, -1, -1):
        # Columns are later nodes; a stop counts only where it lies before them.
        stops = np.flatnonzero(reachable[earlier])
        worse = (~good[stops] & (stops[:, None] < np.arange(nodes))).any(axis=0)
        good[earlier, earlier + 1 :] = ~(lacks[earlier] | worse)[earlier + 1 :]
    np.fill_diagonal(good, val=False)
    useful = allowed.copy()
    for stop in range(nodes - 1):
        useful[:, :, stop] &= ~allowed[:, :, good[stop]].any(axis=2)
    return useful


@dataclass(frozen=True)
class _Problem:
    """The arguments of a search, checked for consistency once.

    Attributes:
        cost: ``(kinds, nodes, nodes)``.
        capacity: ``(kinds,)``.
        layers: The most stages there may be.
        exact: Whether there must be so many.
    """

    cost: IntArray
    capacity: IntArray
    layers: int
    exact: bool

    @classmethod
    def of(cls, cost: IntArray, capacity: IntArray, stages: int | None) -> _Problem:
        most = cost.shape[1] - 1
        capacity = np.minimum(capacity, most)
        layers = min(int(capacity.sum()), most) if stages is None else stages
        return cls(cost, capacity, layers, stages is not None)

    def without_costs(self) -> _Problem:
        return replace(self, cost=np.where(self.cost < FORBIDDEN, 0, FORBIDDEN))

    def cost_of(self, path: Route) -> int:
        return sum(int(self.cost[arc.kind, arc.start, arc.stop]) for arc in path)

    def use_of(self, path: Route) -> IntArray:
        return np.bincount([arc.kind for arc in path], minlength=len(self.capacity))

    def is_within_capacity(self, path: Route) -> bool:
        return bool((self.use_of(path) <= self.capacity).all())


@dataclass(frozen=True)
class _Price:
    """What each use of a kind costs in a relaxation, and the lower bound this proves.

    Attributes:
        price: ``(kinds,)``, 0 or more.
        bound: No path within capacity costs less.
        counts_cost: Whether the arcs' own costs are part of the relaxation.
    """

    price: IntArray
    bound: int
    counts_cost: bool = True


def _scarcity_prices(problem: _Problem) -> _Price | Route | None:
    """Look for a path within capacity, costs aside; else for the prices that best rule paths out.

    If even the path of the least price costs more than all boards together, there is no path.
    Multiplicative weights (Arora, Hazan & Kale, 2012) raise the price of what the path overuses.

    Returns:
        A path; ``None`` if there is proof that none exists; otherwise prices.
    """
    weight = np.ones(len(problem.capacity))
    best, best_ratio = np.zeros(len(weight), np.int64), 0.0
    for round_index in range(_PRICE_ROUNDS):
        price = np.rint(weight / weight.max() * _PRICE_SCALE).astype(np.int64)
        relaxation = _relax(problem, price)
        least, purse = int(relaxation.to_go[problem.layers, 0]), int(price @ problem.capacity)
        if least > purse:
            return None
        path = relaxation.path()
        if problem.is_within_capacity(path):
            return path
        if least / purse > best_ratio:
            best, best_ratio = price, least / purse
        overuse = problem.use_of(path) / problem.capacity - 1
        weight *= np.exp(np.minimum(overuse, 4) / (2 + round_index) ** 0.5)
    return _Price(best, -FORBIDDEN, counts_cost=False)


def _marginal_prices(problem: _Problem) -> Iterator[tuple[_Price, Route]]:
    """Yield prices, and the path each makes cheapest, by subgradient steps that raise the bound."""
    price = np.zeros(len(problem.capacity), np.int64)
    step = 0.0
    for round_index in range(_PRICE_ROUNDS):
        relaxation = _relax(problem, price)
        path = relaxation.path()
        least = int(relaxation.to_go[problem.layers, 0])
        yield _Price(price, least - int(price @ problem.capacity)), path
        overuse = problem.use_of(path) - problem.capacity
        step = step or least / len(path)
        change = np.rint(step / (1 + round_index) * overuse).astype(np.int64)
        price = np.maximum(0, price + change)


@dataclass(frozen=True)
class _Relaxation:
    """The shortest paths to the last node when boards are unlimited but priced.

    Attributes:
        cheapest: ``(nodes, nodes)``, cost with price of each arc on its cheapest kind.
        kind_of: ``(nodes, nodes)``, which kind that is.
        to_go: ``(layers + 1, nodes)``, the cost from each node to the last with at most (or
            exactly) so many stages.
    """

    cheapest: IntArray
    kind_of: IntArray
    to_go: IntArray

    def path(self) -> Route:
        """Return the cheapest path from the first node."""
        arcs = []
        node, last = 0, len(self.cheapest) - 1
        for to_go in self.to_go[-2::-1]:
            if node == last:
                break
            stop = int((self.cheapest[node] + to_go).argmin())
            arcs.append(Arc(int(self.kind_of[node, stop]), node, stop))
            node = stop
        return tuple(arcs)


def _relax(problem: _Problem, price: IntArray) -> _Relaxation:
    priced = np.minimum(problem.cost + price[:, None, None], FORBIDDEN)
    kind_of = priced.argmin(axis=0)
    cheapest = priced.min(axis=0)
    to_go = np.full((problem.layers + 1, len(cheapest)), FORBIDDEN, np.int64)
    to_go[0, -1] = 0
    for layer in range(1, problem.layers + 1):
        to_go[layer] = np.minimum((cheapest + to_go[layer - 1]).min(axis=1), FORBIDDEN)
        if not problem.exact:
            to_go[layer, -1] = 0
            if (to_go[layer] == to_go[layer - 1]).all():
                to_go[layer:] = to_go[layer]
                break
    return _Relaxation(cheapest, kind_of, to_go)


@dataclass(frozen=True)
class _Layer:
    """Labels after a number of stages, distinct in (node, used).

    Attributes:
        node: ``(labels,)``.
        used: ``(labels, words)``, how often each kind was used, packed.
        cost: ``(labels,)``, so far.
        parent: ``(labels,)``, the label of the layer before.
        kind: ``(labels,)``, the board kind of the last stage.
    """

    node: IntArray
    used: IntArray
    cost: IntArray
    parent: IntArray
    kind: IntArray

    def columns(self) -> tuple[IntArray, ...]:
        return self.node, self.used, self.cost, self.parent, self.kind

    def take(self, labels: IntArray) -> _Layer:
        return _Layer(*(column[labels] for column in self.columns()))


def _enumerate(
    problem: _Problem, prices: list[_Price], limit: int, beam: int | None = None
) -> Route | None:
    """Go through all labels that no price rules out; see step 3 of the module's text.

    Args:
        problem: What to search.
        prices: The bounds.
        limit: Only paths that cost this much or less count.
        beam: Keep only so many labels a layer, the most promising: quick, and may miss paths.

    Returns:
        The cheapest path that costs ``limit`` or less, or ``None``.
    """
    cost, capacity = problem.cost, problem.capacity
    bounds = []
    for price in prices:
        priced = problem if price.counts_cost else problem.without_costs()
        bounds.append((price, priced.cost, _relax(priced, price.price).to_go))
    arcs = [_sparse(allowed) for allowed in cost < FORBIDDEN]
    packing = _Packing(capacity)
    last = cost.shape[1] - 1
    zero = np.zeros(1, np.int64)
    history = [_Layer(zero, np.zeros((1, packing.words), np.int64), zero, zero, zero)]
    best: Route | None = None
    for layers_left in range(problem.layers - 1, -1, -1):
        before = history[-1]
        left = capacity - packing.counts(before.used)
        # The cost so far and the prices of the boards still free bound what may follow.
        slacks = [
            (limit - before.cost if price.counts_cost else 0) + left @ price.price
            for price, _, _ in bounds
        ]
        parts = []
        for kind, (first, stops) in enumerate(arcs):
            starts = np.repeat(np.arange(last + 1), np.diff(first))
            needs = [
                costs[kind, starts, stops] + price.price[kind] + to_go[layers_left, stops]
                for price, costs, to_go in bounds
            ]
            going = np.flatnonzero(left[:, kind] > 0)
            for chunk in np.array_split(going, len(going) // _CHUNK + 1):
                node = before.node[chunk]
                counts = first[node + 1] - first[node]
                label = np.repeat(chunk, counts)
                before_run = np.cumsum(counts) - counts
                arc = np.arange(len(label)) + np.repeat(first[node] - before_run, counts)
                for need, slack in zip(needs, slacks, strict=True):
                    fits = need[arc] <= np.minimum(slack[label], FORBIDDEN - 1)
                    label, arc = label[fits], arc[fits]
                parts.append(
                    _Layer(
                        stops[arc],
                        before.used[label] + packing.one(kind),
                        before.cost[label] + cost[kind, starts[arc], stops[arc]],
                        label,
                        np.full(len(label), kind),
                    )
                )
        history.append(_merge(parts))
        if beam is not None and len(history[-1].node) > beam:
            after = history[-1]
            spare = (capacity - packing.counts(after.used)) @ bounds[0][0].price - after.cost
            spare -= bounds[0][2][layers_left][after.node]
            history[-1] = after.take(np.argpartition(-spare, beam)[:beam])
        ends = np.flatnonzero(history[-1].node == last)
        if len(ends):
            cheapest = int(ends[history[-1].cost[ends].argmin()])
            if history[-1].cost[cheapest] <= limit:
                limit = int(history[-1].cost[cheapest]) - 1
                best = _trace(history, cheapest)
        if limit < 0 or not len(history[-1].node):
            break
    return best


def _sparse(allowed: NDArray[np.bool_]) -> tuple[IntArray, IntArray]:
    """Return where each node's stops begin, ``(nodes + 1,)``, and the stops, row after row."""
    return np.concatenate([[0], np.cumsum(allowed.sum(axis=1))]), np.nonzero(allowed)[1]


def _merge(parts: list[_Layer]) -> _Layer:
    """Keep the cheapest label of each (node, used)."""
    joined = [
        np.concatenate(columns) for columns in zip(*(part.columns() for part in parts), strict=True)
    ]
    node, used, cost, parent, kind = joined
    order = np.lexsort((cost, *used.T, node))
    node, used = node[order], used[order]
    first = np.ones(len(order), bool)
    first[1:] = (node[1:] != node[:-1]) | (used[1:] != used[:-1]).any(axis=1)
    order = order[first]
    return _Layer(node[first], used[first], cost[order], parent[order], kind[order])


def _trace(history: list[_Layer], label: int) -> Route:
    arcs: list[Arc] = []
    for before, layer in zip(history[-2::-1], history[:0:-1], strict=True):
        parent = int(layer.parent[label])
        arcs.append(Arc(int(layer.kind[label]), int(before.node[parent]), int(layer.node[label])))
        label = parent
    return tuple(reversed(arcs))


class _Packing:
    """How often each kind was used, packed into as few 64-bit words as hold it."""

    def __init__(self, capacity: IntArray) -> None:
        self._fields: list[tuple[int, int, int]] = []
        word = shift = 0
        for count in capacity:
            bits = int(count).bit_length()
            if shift + bits > _WORD_BITS:
                word, shift = word + 1, 0
            self._fields.append((word, shift, (1 << bits) - 1))
            shift += bits
        self.words = word + 1

    def one(self, kind: int) -> IntArray:
        """Return what one more board of ``kind`` adds, ``(words,)``."""
        word, shift, _ = self._fields[kind]
        added = np.zeros(self.words, np.int64)
        added[word] = 1 << shift
        return added

    def counts(self, used: IntArray) -> IntArray:
        """Return how often each kind was used, ``(labels, kinds)``."""
        columns = [(used[:, word] >> shift) & mask for word, shift, mask in self._fields]
        return np.stack(columns, axis=1)
