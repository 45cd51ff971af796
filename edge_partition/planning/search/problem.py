"""The search problem: a resource-constrained path whose steps each take a replica set of boards.

Nodes are the positions where a model may be cut. A route is a path from the first node to the last.
A step ``i -> j`` of the route is a stage. Its *replica set* is one board, or several boards that
take requests in turn. The boards are the limited resource: each serves at most one step. Boards
with equal figures form one *kind*, and the search counts the boards of a kind.

A board in a replica set of ``r`` boards gets every ``r``-th request. If each request occupies the
board for ``b`` nanoseconds, the board meets a period of ``T`` nanoseconds when ``b <= r * T``.

All figures are integers, so sums, comparisons and ties are exact.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterable

IntArray: TypeAlias = NDArray[np.int64]

#: The figure of an infeasible step. The sum of three such figures fits an int64.
FORBIDDEN = 1 << 61


@dataclass(frozen=True)
class Step:
    """A stage from node ``start`` to node ``stop``, and the kind of each board that serves it."""

    start: int
    stop: int
    kinds: tuple[int, ...]


Route: TypeAlias = tuple[Step, ...]


@dataclass(frozen=True)
class Problem:
    """The feasible steps, their busy times and costs, and the boards.

    Attributes:
        busy: ``(kinds, nodes, nodes)``, nanoseconds that one request of the step occupies a board
            of the kind; :data:`FORBIDDEN` where the step is infeasible for the kind or does not go
            forward.
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
        """Return the period of the slowest step, in nanoseconds, rounded up."""
        return max(
            -(-max(int(self.busy[kind, step.start, step.stop]) for kind in step.kinds)
              // len(step.kinds))
            for step in route
        )  # fmt: skip

    def cost_of(self, route: Route) -> int:
        """Return the sum over steps of the highest cost in the step's replica set."""
        return sum(
            max(int(self.cost[kind, step.start, step.stop]) for kind in step.kinds)
            for step in route
        )

    def boards_used(self, route: Route) -> IntArray:
        """Return the number of boards of each kind that the route uses, ``(kinds,)``."""
        used = Counter(kind for step in route for kind in step.kinds)
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

    def least_replicas(self, period: int) -> NDArray[np.uint8]:
        """Return the size of the smallest replica set that meets ``period`` with equal boards.

        The result is ``(kinds, nodes, nodes)``, 0 where :attr:`max_replicas` boards are too few.
        """
        sizes = np.zeros(self.busy.shape, np.uint8)
        for size in range(self.max_replicas, 0, -1):
            sizes[self.busy_in(size) <= min(size * period, FORBIDDEN - 1)] = size
        return sizes

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
