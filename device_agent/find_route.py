"""A route for a request that names none: one board for each stage.

Our own client sends a route with each request. Other MQTT clients send a request to the topic of
stage 0, and the first board finds the route.
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
        """Start with all boards online.

        Args:
            device: This board's name.
        """
        self._device = device
        self._lock = threading.Lock()
        self._offline: set[str] = set()
        #: Requests given to each board, by generation, stage and board.
        self._given: dict[tuple[str, int, str], int] = {}

    def note_availability(self, device: str, *, is_online: bool) -> None:
        """Note whether a board is online, as published by the board or its will."""
        with self._lock:
            if is_online:
                self._offline.discard(device)
            else:
                self._offline.add(device)
            # A board that comes back would otherwise get all requests that it missed.
            self._given.clear()

    def find(self, manifest: Manifest, index: int) -> list[str]:
        """Return a board for each stage; this board serves stage ``index``.

        Stages before ``index`` get any of their boards. If all boards of a stage are offline, the
        broker keeps the request for one of these boards.
        """
        with self._lock:
            return [
                self._device if stage.index == index else self._choose(manifest.generation, stage)
                for stage in manifest.stages
            ]

    def _choose(self, generation: str, stage: Stage) -> str:
        """Return the board that is the first to be done, if all boards started at the same time."""
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
        manifest: The manifest that the request names.
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
            f"expected a board for each of {len(stages)} stages, and for stage {following} one of "
            f"{', '.join(stages[following].devices)}.",
        )
    return boards[following]
