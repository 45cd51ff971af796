"""The subscriptions of this board, which follow its deployments."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from device_agent.locked_deployments import LockedDeployments
    from edge_core.contract.topics import Topic, Topics
    from edge_core.mqtt.connection import Connection, Message


class Subscriptions:
    """The topics of stages and manifests that this board needs. Methods run in any thread."""

    def __init__(
        self,
        connection: Connection,
        topics: Topics,
        deployments: LockedDeployments,
        on_message: Callable[[Message], None],
    ) -> None:
        """Create the subscriptions; :meth:`update` subscribes.

        Args:
            connection: The agent's connection.
            topics: The topics of the fleet.
            deployments: The deployments of this board.
            on_message: Callback in the network thread, for each message.
        """
        self._connection = connection
        self._topics = topics
        self._deployments = deployments
        self._on_message = on_message
        self._lock = threading.Lock()
        self._filters: set[Topic] = set()
        #: Filters of the stages that several boards serve, by deployment and stage index.
        self._shared: dict[tuple[str, int], Topic] = {}

    def update(self) -> None:
        """Subscribe to the topics that the deployments need, and unsubscribe from all others."""
        with self._lock:
            with self._deployments.read() as held:
                wanted = {self._topics.manifest(name) for name in held.names()}
                stages = held.stage_filters()
            self._shared = {}
            for (name, index), sharers in stages.items():
                topic_filter = self._topics.stage_subscription(name, index, sharers)
                wanted.add(topic_filter)
                if sharers > 1:
                    self._shared[name, index] = topic_filter
            for topic_filter in self._filters - wanted:
                self._connection.unsubscribe(topic_filter)
            for topic_filter in wanted - self._filters:
                self._connection.subscribe(topic_filter, self._on_message)
            self._filters = wanted

    def is_shared(self, deployment: str, index: int) -> bool:
        """Return whether other boards serve the stage too."""
        return (deployment, index) in self._shared

    def forget(self, deployment: str, index: int) -> None:
        """Unsubscribe from a stage that this board no longer has.

        The broker's session may still have the subscription of an earlier process of this agent.
        """
        for sharers in (1, 2):
            self._connection.unsubscribe(
                self._topics.stage_subscription(deployment, index, sharers)
            )

    def leave_shared(self) -> None:
        """Unsubscribe from stages with replicas, so that the other replicas get the requests."""
        with self._lock:
            for topic_filter in self._shared.values():
                self._connection.unsubscribe(topic_filter)
