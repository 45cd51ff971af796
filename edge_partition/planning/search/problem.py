"""What is searched: ways from the first node to the last, each step a crew of boards.

Nodes are the positions where a model may be cut. A step ``i -> j`` is a stage, served by a *crew*:
one board, or several replicas that take requests in turn. A board whose processor and link are
busy for ``b`` nanoseconds a request keeps the pace ``T`` in a crew of ``r`` if ``b <= r * T``, for
it gets every ``r``-th request. Equal boards are one *kind* and are counted, not told apart.

All figures are whole numbers, so sums, comparisons and ties are exact.
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

#: The figure of a step that a board can't make. Three of them still fit an int64.
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
    """Which steps there are, and what they cost.

    Attributes:
        busy: ``(kinds, nodes, nodes)``, nanoseconds that a request of the step occupies a board of
            the kind; :data:`FORBIDDEN` where the board can't make the step, and where it does not
            go forward.
        cost: ``(kinds, nodes, nodes)``, what the step adds to the sum to be kept small where a
            board of the kind is the slowest of its crew; forbidden where ``busy`` is.
        capacity: ``(kinds,)``, how many boards of each kind there are.
        max_replicas: The largest crew.
        stages: Exactly so many steps, each by one board; ``None`` for any number.
        progress: ``(nodes,)``, never falling: how much of the way lies before each node, in any
            unit. The nearer to the steps' ``busy``, the quicker the search.
        alone: ``(nodes, nodes)``, the steps that one board serves and never replicas: stages that
            keep state; ``None`` for none.
    """

    busy: IntArray
    cost: IntArray
    capacity: IntArray
    max_replicas: int = 1
    stages: int | None = None
    progress: IntArray | None = None
    alone: NDArray[np.bool_] | None = None
    _shared_busy: IntArray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Leave out boards that no route could use."""
        shared = self.busy
        if self.alone is not None and self.alone.any():
            shared = np.where(self.alone, FORBIDDEN, self.busy)
        object.__setattr__(self, "_shared_busy", shared)
        crew = 1 if self.stages is not None else self.max_replicas
        object.__setattr__(self, "max_replicas", min(crew, int(self.capacity.sum())))
        most = (self.nodes - 1) * self.max_replicas
        object.__setattr__(self, "capacity", np.minimum(self.capacity, most))

    @property
    def nodes(self) -> int:
        """How many nodes there are."""
        return int(self.busy.shape[1])

    @property
    def kinds(self) -> int:
        """How many kinds there are."""
        return int(self.busy.shape[0])

    def busy_in(self, size: int) -> IntArray:
        """Return :attr:`busy` in a crew of ``size`` boards: forbidden where one must be alone."""
        return self.busy if size == 1 else self._shared_busy

    def pace_of(self, route: Route) -> int:
        """Return the nanoseconds between results: those of the slowest step."""
        return max(
            -(-max(int(self.busy[kind, step.start, step.stop]) for kind in step.kinds)
              // len(step.kinds))
            for step in route
        )  # fmt: skip

    def cost_of(self, route: Route) -> int:
        """Return the sum of the steps' costs, each that of its slowest board."""
        return sum(
            max(int(self.cost[kind, step.start, step.stop]) for kind in step.kinds)
            for step in route
        )

    def use_of(self, route: Route) -> IntArray:
        """Return how many boards of each kind are used, ``(kinds,)``."""
        used = Counter(kind for step in route for kind in step.kinds)
        return np.array([used[kind] for kind in range(self.kinds)], np.int64)

    def admits(self, route: Route) -> bool:
        """Whether there are the boards, and the stages are as many as asked for.

        And whether no step that must be served alone has replicas.
        """
        if self.stages is not None and len(route) != self.stages:
            return False
        if self.alone is not None and any(
            len(step.kinds) > 1 and self.alone[step.start, step.stop] for step in route
        ):
            return False
        return bool((self.use_of(route) <= self.capacity).all())

    def crew_sizes(self, pace: int) -> NDArray[np.uint8]:
        """Return the smallest crew in which a board keeps ``pace``, ``(kinds, nodes, nodes)``.

        0 where no crew is large enough.
        """
        sizes = np.zeros(self.busy.shape, np.uint8)
        for size in range(self.max_replicas, 0, -1):
            sizes[self.busy_in(size) <= min(size * pace, FORBIDDEN - 1)] = size
        return sizes

    def between(self, nodes: Iterable[int]) -> Problem:
        """Return the problem with these nodes alone."""
        at = np.array(list(nodes))
        kept = np.ix_(np.arange(self.kinds), at, at)
        progress = None if self.progress is None else self.progress[at]
        alone = None if self.alone is None else self.alone[np.ix_(at, at)]
        return replace(
            self, busy=self.busy[kept], cost=self.cost[kept], progress=progress, alone=alone
        )


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        route: The best route known, if any.
        value: Its cost or pace; :data:`FORBIDDEN` without a route.
        bound: No route has less.
    """

    route: Route | None
    value: int
    bound: int

    @property
    def is_proven(self) -> bool:
        """Whether the route is the best there is, or there is none."""
        return self.bound >= self.value
