"""Find a route for a request that has none. A route names one board for each stage.

Our own client sends a route with each request. Other MQTT clients send requests without a route to
the topic of stage 0, and the board that gets such a request finds the route.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from device_agent.refused_request import RefusedRequestError
from edge_core.contract.messages import ErrorCode

if TYPE_CHECKING:
    from edge_core.contract.manifest import Manifest, Stage

_MAX_ROUTE_CHARACTERS = 200


class RouteFinder:
    """Shares requests among the online boards of each stage, in proportion to their speed.

    The inference thread finds routes; the network thread notes availabilities.
    """

    def __init__(self, device: str) -> None:
        """Start with the assumption that all boards are online.

        Args:
            device: This board's name.
        """
        self._device = device
        self._lock = threading.Lock()
        self._offline: set[str] = set()
        #: Number of requests given to a board, by generation, stage index and board name.
        self._given: dict[tuple[str, int, str], int] = {}

    def note_availability(self, device: str, *, is_online: bool) -> None:
        """Note whether a board is online, as published by the board or its will."""
        with self._lock:
            if is_online:
                self._offline.discard(device)
            else:
                self._offline.add(device)
            # Without this reset, a board that comes back would get all requests until it has its
            # share of all earlier requests.
            self._given.clear()

    def find(self, manifest: Manifest, index: int) -> list[str]:
        """Return a route: the name of one board for each stage, in the order of the stages.

        This board serves stage ``index``. The request has already passed the stages before
        ``index``, so the names of their boards have no effect. If all boards of a stage are
        offline, the route names one of them, and the broker keeps the request for that board.
        """
        with self._lock:
            return [
                self._device if stage.index == index else self._choose(manifest.generation, stage)
                for stage in manifest.stages
            ]

    def _choose(self, generation: str, stage: Stage) -> str:
        """Return the online board that would finish all its requests first, this one included.

        The estimate assumes that all boards start to work at the same time. If all boards are
        offline, they count as online and equally fast.
        """
        if len(stage.devices) == 1:
            return stage.devices[0]
        online = [
            (device, max(1e-6, *times_ms))
            for device, times_ms in stage.board_times_ms().items()
            if device not in self._offline
        ]
        boards = online or [(device, 1.0) for device in stage.devices]
        device, _ = min(
            boards,
            key=lambda board: (
                (self._given.get((generation, stage.index, board[0]), 0) + 1) * board[1]
            ),
        )
        key = generation, stage.index, device
        self._given[key] = self._given.get(key, 0) + 1
        return device


def check_route(manifest: Manifest, route: str, following: int) -> str:
    """Return the board of stage ``following`` on a request's route.

    Args:
        manifest: Manifest of the request's generation.
        route: The request's route: a board for each stage, separated by commas.
        following: Index of the stage that gets the request next.

    Raises:
        RefusedRequestError: With ``bad-route``: the route does not fit the manifest.
    """
    boards, stages = route.split(","), manifest.stages
    if len(boards) != len(stages) or boards[following] not in stages[following].devices:
        raise RefusedRequestError(
            ErrorCode.BAD_ROUTE,
            f"The route {route[:_MAX_ROUTE_CHARACTERS]!r} does not fit {manifest.deployment}: "
            f"expected one board for each of {len(stages)} stages, and for stage {following} one "
            f"of {', '.join(stages[following].devices)}. Correct the route, or send the request "
            "without a route.",
        )
    return boards[following]
