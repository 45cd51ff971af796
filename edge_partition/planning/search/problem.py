"""Define the search problem: a path through the model's cuts, with a limited number of boards.

The terms of all searches:

- A *node* is a position between two operators where the model may be cut. The start and the end of
  the model are nodes too.
- A *step* is a stage: the operators from one node to a later node.
- A *route* is a path of steps from the first node to the last node.
- A *kind* is a group of boards whose speed, memory and other figures are equal. The searches count
  the boards of each kind.
- A *replica set* is the boards that serve a step: one board, or several boards that share the
  requests. A tuple with the kind of each board represents the set. Each board is in at most one
  replica set. Each replica set serves one step, except in :mod:`.shared_boards`.
- A *period* is the time between two results. The period of a route is the longest period of its
  replica sets. A route *meets* a period ``T`` if the period of the route is at most ``T``.
- The *cost* of a route is the sum of the costs of its steps. It is a latency or an energy.

Each board of a replica set gets requests in proportion to its speed. If a request occupies board
``k`` for ``b_k`` nanoseconds, the *share* of the board is ``T / b_k`` for a period of ``T``
nanoseconds. The set meets the period if the sum of its boards' shares is 1 or more
(:mod:`edge_partition.planning.shared_period`). Every further board shortens the set's period. A set
is *minimal* if it meets a period only with all of its boards. The searches need minimal sets only,
because a larger set never costs less.

All figures are integers. Sums of shares are computed with floating-point numbers. If such a sum is
so close to 1 that rounding errors matter, it is computed again with rational numbers. So all
comparisons are exact.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_partition.planning.shared_period import meets_period, shared_period_ns

if TYPE_CHECKING:
    from collections.abc import Iterable

IntArray: TypeAlias = NDArray[np.int64]
_Index: TypeAlias = "slice | IntArray"
_ALL = slice(None)

#: The busy time and cost of an infeasible step. The sum of three such numbers fits an int64.
FORBIDDEN = 1 << 61
#: Upper bound on the rounding error of a sum of shares.
SHARE_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Step:
    """A stage from node ``start`` to node ``stop``, and the kind of each board that serves it.

    Attributes:
        start: First node.
        stop: Last node.
        kinds: The kind of each board.
        shares: Index, in the route, of the first step on the same boards (:mod:`.shared_boards`).
            ``None`` if no earlier step is on these boards.
    """

    start: int
    stop: int
    kinds: tuple[int, ...]
    shares: int | None = None


Route: TypeAlias = tuple[Step, ...]


@dataclass(frozen=True)
class Problem:
    """A search problem: the possible steps, their busy times and costs, and the boards.

    Attributes:
        busy: ``(kinds, nodes, nodes)``, by kind, start and stop: the busy time, for which one
            request of the step occupies a board, in nanoseconds. It is 1 or more. It is
            :data:`FORBIDDEN` if a board of the kind cannot run the step, or if the stop is not
            after the start.
        cost: ``(kinds, nodes, nodes)``, by kind, start and stop: the cost of the step on a board.
            If ``busy`` is :data:`FORBIDDEN`, the cost is :data:`FORBIDDEN` too. The cost of a step
            on a replica set is the highest cost of the set's boards.
        capacity: ``(kinds,)``, number of boards of each kind.
        max_replicas: Largest allowed number of boards in a replica set.
        stages: Required number of steps, each on one board. ``None`` for any number.
        progress: ``(nodes,)``, work of the operators before each node, in any unit. The values
            never decrease. :mod:`.max_reach` is faster if differences of ``progress`` are about
            proportional to ``busy``. ``None``: the progress of a node is its index.
        no_replicas: ``(nodes, nodes)``, by start and stop: whether the step must have exactly one
            board, for example because the stage keeps state. ``None`` if there is no such step.
    """

    busy: IntArray
    cost: IntArray
    capacity: IntArray
    max_replicas: int = 1
    stages: int | None = None
    progress: IntArray | None = None
    no_replicas: NDArray[np.bool_] | None = None
    _shared_busy: IntArray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Lower ``max_replicas`` and ``capacity`` to the largest numbers that a route can use."""
        shared = self.busy
        if self.no_replicas is not None and self.no_replicas.any():
            shared = np.where(self.no_replicas, FORBIDDEN, self.busy)
        object.__setattr__(self, "_shared_busy", shared)
        max_replicas = 1 if self.stages is not None else self.max_replicas
        object.__setattr__(self, "max_replicas", min(max_replicas, int(self.capacity.sum())))
        most = (self.nodes - 1) * self.max_replicas
        object.__setattr__(self, "capacity", np.minimum(self.capacity, most))

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return int(self.busy.shape[1])

    @property
    def kinds(self) -> int:
        """Number of kinds of boards."""
        return int(self.busy.shape[0])

    def busy_in(self, size: int) -> IntArray:
        """Return the busy times of a board in a replica set of ``size`` boards.

        The array has the shape of :attr:`busy`. If ``size`` is above 1, the busy time of a step
        that must have exactly one board (:attr:`no_replicas`) is :data:`FORBIDDEN`.
        """
        return self.busy if size == 1 else self._shared_busy

    def period_of(self, route: Route) -> int:
        """Return the period of a route: the longest period of its replica sets, in nanoseconds."""
        groups: dict[int, list[Step]] = {}
        for index, step in enumerate(route):
            groups.setdefault(index if step.shares is None else step.shares, []).append(step)
        return max(
            shared_period_ns(
                sum(int(self.busy[kind, step.start, step.stop]) for step in steps)
                for kind in steps[0].kinds
            )
            for steps in groups.values()
        )

    def meets(
        self, kinds: tuple[int, ...], period: int, starts: _Index = _ALL, stops: _Index = _ALL
    ) -> NDArray[np.bool_]:
        """Return, for some steps, whether a replica set meets ``period``. The answers are exact.

        Args:
            kinds: The kinds of the set's boards.
            period: Longest allowed time between two results of a step, in nanoseconds.
            starts: The nodes where the steps start: a slice or an array.
            stops: The nodes where the steps stop: a slice or an array.

        Returns:
            If ``starts`` or ``stops`` is a slice: an array with a row for each start and a column
            for each stop. If both are arrays of equal length: an array of this length, whose item
            ``i`` is for the step from ``starts[i]`` to ``stops[i]``.
        """
        period, busy = min(period, FORBIDDEN - 1), self.busy_in(len(kinds))
        counts = Counter(kinds)
        if len(counts) == 1:
            # Equal boards meet the period if their busy time is at most their number times the
            # period.
            within: NDArray[np.bool_] = busy[kinds[0]][starts, stops] <= min(
                len(kinds) * period, FORBIDDEN - 1
            )
            return within
        tables = [busy[kind][starts, stops] for kind in counts]
        share = sum(
            float(period) * count / table
            for count, table in zip(counts.values(), tables, strict=True)
        )
        meets: NDArray[np.bool_] = share >= 1
        for table in tables:
            meets &= table < FORBIDDEN
        unsure = np.nonzero(np.abs(share - 1) < SHARE_TOLERANCE)
        for at in zip(*unsure, strict=True):
            busy_ns = [
                int(table[at])
                for count, table in zip(counts.values(), tables, strict=True)
                for _ in range(count)
            ]
            meets[at] = max(busy_ns) < FORBIDDEN and meets_period(busy_ns, period)
        return meets

    def cost_of(self, route: Route) -> int:
        """Return the cost of a route.

        The cost is the sum of the costs of its steps. The cost of a step is the highest cost of the
        step's boards.
        """
        return sum(
            max(int(self.cost[kind, step.start, step.stop]) for kind in step.kinds)
            for step in route
        )

    def boards_used(self, route: Route) -> IntArray:
        """Return the number of boards of each kind that the route uses, ``(kinds,)``.

        A board that serves several steps counts once.
        """
        used = Counter(kind for step in route if step.shares is None for kind in step.kinds)
        return np.array([used[kind] for kind in range(self.kinds)], np.int64)

    def is_feasible(self, route: Route) -> bool:
        """Return whether the route keeps to the limits of the problem.

        The limits are :attr:`capacity`, :attr:`stages` and :attr:`no_replicas`. The problem has no
        limit on the period or the cost.
        """
        if self.stages is not None and len(route) != self.stages:
            return False
        if self.no_replicas is not None and any(
            len(step.kinds) > 1 and self.no_replicas[step.start, step.stop] for step in route
        ):
            return False
        return bool((self.boards_used(route) <= self.capacity).all())

    def boards_needed(self, period: int) -> NDArray[np.float32]:
        """Return how many boards of a kind each step needs if all of its boards are of this kind.

        The number is a lower bound and may be a fraction. Every minimal replica set has this
        property: if ``n`` is the number for the kind of a board, the sum of ``1 / n`` over the
        boards of the set is 1 or more.

        Returns:
            ``(kinds, nodes, nodes)``, by kind, start and stop. The number is 1 if one board meets
            ``period``. It is 0 if no replica set with a board of this kind meets ``period``. In the
            remaining cases, it is the busy time divided by the period. If the problem has only one
            kind, this quotient is rounded up to a whole number.
        """
        needed: NDArray[np.float32] = (self.busy <= period).astype(np.float32)
        if self.max_replicas == 1:
            return needed
        shared = self.busy_in(2)
        for start in range(self.nodes - 1):
            busy = shared[:, start, start + 1 :]
            figure = busy / float(period)
            figure[busy >= FORBIDDEN] = math.inf
            largest = 1 / np.minimum.reduce(figure, axis=0)
            within = 1 / figure + (self.max_replicas - 1) * largest >= 1 - SHARE_TOLERANCE
            if self.kinds == 1:
                figure = np.ceil(figure - SHARE_TOLERANCE)
                within &= figure <= self.max_replicas
            else:
                # The figure is made a little smaller, so it stays a lower bound as a 32-bit number.
                figure = figure * (1 - 1e-6)
            row = needed[:, start, start + 1 :]
            row[...] = np.where((row == 0) & within & (busy < FORBIDDEN), figure, row)
        return needed

    def needs_replicas(self, period: int) -> bool:
        """Return whether some step may have a minimal replica set of two or more boards.

        A minimal replica set meets ``period`` only with all of its boards.
        """
        if self.max_replicas == 1 or period >= FORBIDDEN - 1:
            return False
        shared, most = self.busy_in(2), min(self.max_replicas * period, FORBIDDEN - 1)
        # In such a set, the busy time of every board is longer than the period, and the share of
        # the fastest board is at least 1 / max_replicas.
        return bool(((shared > period) & (shared <= most)).any())

    def restricted_to(self, nodes: Iterable[int]) -> Problem:
        """Return the problem with a part of its nodes.

        Args:
            nodes: Indexes of the nodes to keep, ascending.
        """
        at = np.array(list(nodes))
        kept = np.ix_(np.arange(self.kinds), at, at)
        progress = None if self.progress is None else self.progress[at]
        no_replicas = None if self.no_replicas is None else self.no_replicas[np.ix_(at, at)]
        return replace(
            self,
            busy=self.busy[kept],
            cost=self.cost[kept],
            progress=progress,
            no_replicas=no_replicas,
        )


@dataclass(frozen=True)
class SearchResult:
    """The result of a search: the best route found, and a lower bound.

    Attributes:
        route: The best route found; ``None`` if no route was found.
        value: Cost or period of the route, whichever the search minimizes. :data:`FORBIDDEN`
            without a route.
        bound: Lower bound on the cost or period of every route.
    """

    route: Route | None
    value: int
    bound: int

    @property
    def is_proven(self) -> bool:
        """Whether the route is proven optimal. Without a route: whether none is proven to exist."""
        return self.bound >= self.value
