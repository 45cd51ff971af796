"""The boards that a request passes, as the client chooses them: one board for each stage.

The client knows for each board which unanswered requests have the board in their route, and how
long a request takes there. Each stage gets the board that would end the request first: the board
with the least ``(outstanding + 1) * time`` (join the shortest expected delay). A board that serves
several stages counts the requests of all its stages. A board without service is not chosen while
another board of the stage has service.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_partition.planning.read_plan import PipelineTimes, ReplicaTimes

    Route: TypeAlias = tuple[ReplicaTimes, ...]


class RouteChooser:
    """The routes of one client."""

    def __init__(self, plan: PipelineTimes) -> None:
        self._stages = plan.stages
        #: For each board, the time that its unanswered requests take, in milliseconds.
        self._outstanding_ms = dict.fromkeys(plan.devices, 0.0)
        #: Boards without service.
        self._away: set[str] = set()
        self._routes: dict[int, Route] = {}

    def fail(self, device: str) -> None:
        """Choose ``device`` no longer where there is another board."""
        self._away.add(device)

    def restore(self, device: str) -> None:
        """Choose ``device`` again."""
        self._away.discard(device)

    def choose(self, number: int) -> Route:
        """Return the route of a request that is sent, also if it is sent again."""
        self.end(number)
        route = tuple(self._best(stage) for stage in self._stages)
        for times in route:
            self._outstanding_ms[times.device] += times.full_load_ms
        self._routes[number] = route
        return route

    def end(self, number: int) -> None:
        """Count a request no longer, because it has an outcome."""
        for times in self._routes.pop(number, ()):
            self._outstanding_ms[times.device] -= times.full_load_ms

    def stranded(self) -> list[int]:
        """Return the requests with a board without service where there is one with service."""
        passable = {
            index
            for index, stage in enumerate(self._stages)
            if any(times.device not in self._away for times in stage)
        }
        return [
            number
            for number, route in self._routes.items()
            if any(times.device in self._away and index in passable
                   for index, times in enumerate(route))
        ]  # fmt: skip

    def _best(self, stage: Sequence[ReplicaTimes]) -> ReplicaTimes:
        able = [times for times in stage if times.device not in self._away] or stage
        return min(able, key=lambda times: self._outstanding_ms[times.device] + times.full_load_ms)
