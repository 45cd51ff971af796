"""The search problem: a resource-constrained path whose steps each take a replica set of boards.

Nodes are the positions where a model may be cut. A route is a path from the first node to the last.
A step ``i -> j`` of the route is a stage. Its *replica set* is one board, or several boards that
share the requests. The boards are the limited resource: each serves at most one step, except in
:mod:`.shared_boards`. Boards with
equal figures form one *kind*, and the search counts the boards of a kind.

Each board of a replica set gets requests in proportion to its speed. If a request occupies board
``k`` for ``b_k`` nanoseconds, the set meets a period of ``T`` nanoseconds when the sum of the
boards' *shares* ``T / b_k`` is 1 or more (:mod:`edge_partition.planning.shared_period`). Every
further board shortens the period. A set is *minimal* if it meets the period only with all its
boards. The searches need minimal sets only, because a smaller set never costs more.

All figures are integers. Shares are computed as floating-point numbers, and sums of shares that are
too close to 1 for these are compared as rational numbers, so comparisons and ties are exact.
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

#: The figure of an infeasible step. The sum of three such figures fits an int64.
FORBIDDEN = 1 << 61
#: The rounding error of a sum of shares is less than this number.
SHARE_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Step:
    """A stage from node ``start`` to node ``stop``, and the kind of each board that serves it.

    Attributes:
        start: First node.
        stop: Last node.
        kinds: The kind of each board.
        shares: Index of the route's earlier step on the same boards, the first such step; ``None``
            for boards of its own (:mod:`.shared_boards`).
    """

    start: int
    stop: int
    kinds: tuple[int, ...]
    shares: int | None = None


Route: TypeAlias = tuple[Step, ...]


@dataclass(frozen=True)
class Problem:
    """The feasible steps, their busy times and costs, and the boards.

    Attributes:
        busy: ``(kinds, nodes, nodes)``, nanoseconds, 1 or more, that one request of the step
            occupies a board of the kind; :data:`FORBIDDEN` where the step is infeasible for the
            kind or does not go forward.
        cost: ``(kinds, nodes, nodes)``, the step's cost if this kind has the highest cost in the
            replica set; :data:`FORBIDDEN` where ``busy`` is :data:`FORBIDDEN`. A search minimizes
            the sum over steps.
        capacity: ``(kinds,)``, number of boards of each kind.
        max_replicas: Number of boards in the largest replica set.
        stages: Required number of steps, each on one board; ``None`` for any number.
        progress: ``(nodes,)``, non-decreasing: the work before each node, in any unit. The search
            is faster if differences of ``progress`` are close to proportional to ``busy``.
        no_replicas: ``(nodes, nodes)``, the steps that must have exactly one board, such as stages
            that keep state; ``None`` for none.
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
        """Return :attr:`busy` for a replica set of ``size`` boards.

        With ``size`` above 1, the steps in :attr:`no_replicas` are :data:`FORBIDDEN`.
        """
        return self.busy if size == 1 else self._shared_busy

    def period_of(self, route: Route) -> int:
        """Return the period of the slowest set of boards, in nanoseconds, rounded up."""
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
        """Return whether a replica set meets ``period`` at each step; exact.

        Args:
            kinds: The kinds of the set's boards.
            period: Nanoseconds.
            starts: The rows of the result: nodes where the steps start.
            stops: The columns of the result: nodes where the steps stop.
        """
        period, busy = min(period, FORBIDDEN - 1), self.busy_in(len(kinds))
        counts = Counter(kinds)
        if len(counts) == 1:
            # Equal boards: the busy time may be the period times their number.
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
        """Return the sum over steps of the highest cost in the step's replica set."""
        return sum(
            max(int(self.cost[kind, step.start, step.stop]) for kind in step.kinds)
            for step in route
        )

    def boards_used(self, route: Route) -> IntArray:
        """Return the number of boards of each kind that the route uses, ``(kinds,)``."""
        used = Counter(kind for step in route if step.shares is None for kind in step.kinds)
        return np.array([used[kind] for kind in range(self.kinds)], np.int64)

    def is_feasible(self, route: Route) -> bool:
        """Whether the route respects :attr:`capacity`, :attr:`stages` and :attr:`no_replicas`."""
        if self.stages is not None and len(route) != self.stages:
            return False
        if self.no_replicas is not None and any(
            len(step.kinds) > 1 and self.no_replicas[step.start, step.stop] for step in route
        ):
            return False
        return bool((self.boards_used(route) <= self.capacity).all())

    def boards_needed(self, period: int) -> NDArray[np.float32]:
        """Return a lower bound on the boards of a minimal set, counted in boards of one kind.

        The result is ``(kinds, nodes, nodes)``: 1 where one board meets ``period``, else the busy
        time over the period, the inverse of the board's share; 0 where no replica set with a board
        of the kind meets ``period``. In every minimal set, the inverses of these figures add up to
        1 or more. If all boards are equal, the figure is a whole number.
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
                # Rounded down, so that the bound stays a bound as a 32-bit number.
                figure = figure * (1 - 1e-6)
            row = needed[:, start, start + 1 :]
            row[...] = np.where((row == 0) & within & (busy < FORBIDDEN), figure, row)
        return needed

    def needs_replicas(self, period: int) -> bool:
        """Return whether a minimal set of two boards or more may exist for any step."""
        if self.max_replicas == 1 or period >= FORBIDDEN - 1:
            return False
        shared, most = self.busy_in(2), min(self.max_replicas * period, FORBIDDEN - 1)
        # In such a set every board is slower than the period, and the fastest board's share is at
        # least 1 / max_replicas.
        return bool(((shared > period) & (shared <= most)).any())

    def restricted_to(self, nodes: Iterable[int]) -> Problem:
        """Return the problem on the given nodes only; ``nodes`` is ascending."""
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
    """The best route of a search, and a lower bound.

    Attributes:
        route: The best known route; ``None`` if no route is known.
        value: Cost or period of the route; :data:`FORBIDDEN` without a route.
        bound: Lower bound on the cost or period of every route.
    """

    route: Route | None
    value: int
    bound: int

    @property
    def is_proven(self) -> bool:
        """Whether the route is proven optimal, or the problem is proven infeasible."""
        return self.bound >= self.value
