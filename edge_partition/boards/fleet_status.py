"""The fleet as the broker and the agents know it: boards, profiles, live manifests.

This module only reads: it changes nothing on the boards or at the broker.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from edge_core.contract.manifest import Manifest
from edge_core.contract.messages import CommandError, decode_json
from edge_core.contract.topics import ONLINE
from edge_core.errors import ManifestError
from edge_core.mqtt.agent_requests import NoAnswerError
from edge_partition.boards.board_client import COMMAND_TIMEOUT_S, BoardClient

STATUS_TIMEOUT_S = 3.0


@dataclass(frozen=True)
class BoardStatus:
    """State of one board.

    Attributes:
        device: The board's name.
        online: Whether the board is online at the broker and its agent answers.
        profile: The fields of the agent's profile message; empty if there is no valid message.
        deployments: For each deployment on the board, a dict with the fields ``deployment``,
            ``generation``, ``state`` and ``stages``.
    """

    device: str
    online: bool
    profile: dict[str, Any] = field(default_factory=dict)
    deployments: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class FleetStatus:
    """State of the whole fleet.

    Attributes:
        boards: All boards that were ever online at the broker, sorted by name.
        manifests: The manifests of the live deployments, sorted by deployment.
    """

    boards: tuple[BoardStatus, ...]
    manifests: tuple[Manifest, ...]


class FleetReader(BoardClient):
    """A connection that asks the broker and the boards for their state. A context manager."""

    def status(self) -> FleetStatus:
        """Return all boards with their state, and the manifests of the live deployments."""
        availability = self._retained(self._topics.availability("+"))
        profiles = self._retained(self._topics.profile("+"))
        boards = []
        for topic in sorted(availability):
            device = self._topics.name_in(topic)
            deployments: tuple[dict[str, Any], ...] = ()
            online = availability[topic] == ONLINE
            if online:
                try:
                    deployments = self._deployments_on(device, STATUS_TIMEOUT_S)
                except (CommandError, NoAnswerError):
                    online = False
            profile = _read_profile(profiles.get(self._topics.profile(device), b"{}"))
            boards.append(BoardStatus(device, online, profile, deployments))
        return FleetStatus(tuple(boards), tuple(self._manifests().values()))

    def _deployments_on(
        self, device: str, timeout_s: float = COMMAND_TIMEOUT_S
    ) -> tuple[dict[str, Any], ...]:
        """Ask a board for its deployments.

        Raises:
            CommandError: The board refuses to answer.
            NoAnswerError: The board is offline, or doesn't answer in time.
        """
        answer = self._ask(device, {"command": "status"}, timeout_s)
        return tuple(answer.get("deployments", ()))

    def _holds(self, device: str, deployment: str) -> bool:
        """Ask a board whether it has a part of a deployment."""
        return any(item.get("deployment") == deployment for item in self._deployments_on(device))

    def _manifests(self) -> dict[str, Manifest]:
        """Return the manifests of the live deployments, by deployment name.

        Manifests that can't be read are left out.
        """
        manifests = {}
        found = self._retained(self._topics.manifest("+"))
        for topic in sorted(found):
            try:
                manifests[self._topics.name_in(topic)] = Manifest.from_json(found[topic])
            except ManifestError:
                continue
        return manifests


def _read_profile(payload: bytes) -> dict[str, Any]:
    try:
        return decode_json(payload)
    except CommandError:
        return {}
