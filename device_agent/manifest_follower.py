"""Apply the retained manifests that arrive, and publish manifests that the broker forgot."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from device_agent.presence import RETAINED_WAIT_S
from device_agent.publish_forgotten import publish_forgotten

if TYPE_CHECKING:
    from collections.abc import Callable

    from device_agent.locked_deployments import LockedDeployments
    from edge_core.contract.topics import Topics
    from edge_core.mqtt.agent_requests import AgentRequests
    from edge_core.mqtt.connection import Connection, Message


class ManifestFollower:
    """Passes manifests to the deployments, in the order in which the manifests arrive."""

    def __init__(
        self,
        connection: Connection,
        requests: AgentRequests,
        topics: Topics,
        deployments: LockedDeployments,
        *,
        device: str,
        on_changed: Callable[[str], None],
    ) -> None:
        """Create the follower; manifests that arrive before :meth:`start` are kept.

        Args:
            connection: The agent's connection.
            requests: Sender of ``status`` commands to other boards.
            topics: The topics of the fleet.
            deployments: The deployments of this board.
            device: This board's name.
            on_changed: Function that the network thread calls with the name of a deployment after a
                manifest changed the deployment.
        """
        self._connection = connection
        self._requests = requests
        self._topics = topics
        self._deployments = deployments
        self._device = device
        self._on_changed = on_changed
        self._lock = threading.Lock()
        #: Manifests that arrived before :meth:`start`; None after :meth:`start`.
        self._early: list[Message] | None = []
        #: Time of the next check for forgotten manifests, on the monotonic clock; None: no check.
        self._due_s: float | None = None

    def start(self) -> None:
        """Apply the manifests that arrived before this call; apply later ones when they arrive.

        The method does not call ``on_changed``, so the caller must save the deployments after this
        call.
        """
        with self._lock:
            for message in self._early or ():
                self._follow(message)
            self._early = None
        self._due_s = time.monotonic() + RETAINED_WAIT_S

    def connected(self) -> None:
        """Wait for all retained manifests again after a connect. Runs in the network thread."""
        with self._deployments.change() as held:
            held.expect_manifests()
        self._due_s = time.monotonic() + RETAINED_WAIT_S

    def manifest_arrived(self, message: Message) -> None:
        """Apply a manifest; before :meth:`start`, only keep it. Runs in the network thread."""
        with self._lock:
            if self._early is not None:
                self._early.append(message)
                return
        if self._follow(message):
            self._on_changed(self._topics.name_in(message.topic))

    def publish_due(self) -> None:
        """Publish the live manifests that the broker did not send soon after the last connect."""
        due_s = self._due_s
        if due_s is None or time.monotonic() < due_s or not self._connection.is_connected:
            return
        self._due_s = None
        with self._deployments.read() as held:
            forgotten = held.unconfirmed()
        publish_forgotten(forgotten, self._connection, self._requests, self._topics, self._device)

    def _follow(self, message: Message) -> bool:
        return self._deployments.manifest_arrived(
            self._topics.name_in(message.topic), message.payload
        )
