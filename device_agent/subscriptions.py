"""The topics that this board listens to, kept equal to what its deployments need."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from device_agent.locked_deployments import LockedDeployments
    from edge_core.contract.topics import Topic, Topics
    from edge_core.mqtt.connection import Connection, Message


class Subscriptions:
    """Subscribes to stages and manifests. Methods may be called from any thread."""

    def __init__(
        self, connection: Connection, topics: Topics, on_message: Callable[[Message], None]
    ) -> None:
        """Subscribe to nothing yet.

        Args:
            connection: To subscribe with.
            topics: The topics' names.
            on_message: Called in the network thread with each message.
        """
        self._connection = connection
        self._topics = topics
        self._on_message = on_message
        self._lock = threading.Lock()
        self._filters: set[Topic] = set()
        #: Filters of stages that several boards share, by deployment and stage index.
        self._shared: dict[tuple[str, int], Topic] = {}

    def update(self, deployments: LockedDeployments) -> None:
        """Listen to what ``deployments`` need, and to nothing else."""
        with self._lock:
            with deployments.read() as held:
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
        """Return whether other boards answer a stage's messages too."""
        return (deployment, index) in self._shared

    def forget(self, deployment: str, index: int) -> None:
        """End what the broker's session still holds of a stage that left this board."""
        for sharers in (1, 2):
            self._connection.unsubscribe(
                self._topics.stage_subscription(deployment, index, sharers)
            )

    def leave_shared(self) -> None:
        """Leave the stages that other boards serve too; their messages then go to those boards."""
        with self._lock:
            for topic_filter in self._shared.values():
                self._connection.unsubscribe(topic_filter)
