"""Subscribe to the topics that this board's deployments need."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from device_agent.locked_deployments import LockedDeployments
    from edge_core.contract.topics import Topic, Topics
    from edge_core.mqtt.connection import Connection, Message
    from edge_core.mqtt.data_connection import DataConnection


class Subscriptions:
    """The subscriptions of this board. Methods run in any thread.

    The data connection carries the requests to stages. The other connection carries everything
    else.
    """

    def __init__(
        self,
        connection: Connection,
        data: DataConnection,
        topics: Topics,
        deployments: LockedDeployments,
        on_message: Callable[[Message], None],
    ) -> None:
        """Create the subscriptions; :meth:`update` subscribes.

        Args:
            connection: The agent's connection for manifests and availabilities.
            data: The agent's connection for requests.
            topics: The topics of the fleet.
            deployments: The deployments of this board.
            on_message: Function that the network thread calls with each message of ``connection``.
        """
        self._connection = connection
        self._data = data
        self._topics = topics
        self._deployments = deployments
        self._on_message = on_message
        self._lock = threading.Lock()
        self._filters: set[Topic] = set()
        self._stage_filters: set[Topic] = set()
        #: Filters that several boards share.
        self._shared: set[Topic] = set()
        #: Stages that other boards serve too, by deployment and stage index.
        self._replicated: set[tuple[str, int]] = set()

    def update(self) -> None:
        """Subscribe to the topics that the deployments need, and unsubscribe from all others."""
        topics, device = self._topics, self._deployments.device
        with self._lock:
            with self._deployments.read() as held:
                wanted = {topics.manifest(name) for name in held.names()}
                wanted |= {topics.availability(board) for board in held.later_boards()}
                stages = held.stage_topics()
            self._shared = {
                topics.stage_subscription(*key, stage.sharers)
                for key, stage in stages.items()
                if stage.sharers > 1
            }
            alone = {topics.stage(*key) for key, stage in stages.items() if stage.sharers == 1}
            own = {
                topics.board_stage(*key, device) for key, stage in stages.items() if stage.is_own
            }
            self._replicated = {key for key, stage in stages.items() if stage.is_replicated}
            for topic_filter in self._filters - wanted:
                self._connection.unsubscribe(topic_filter)
            for topic_filter in wanted - self._filters:
                self._connection.subscribe(topic_filter, self._on_message)
            wanted_stages = self._shared | alone | own
            for topic_filter in self._stage_filters - wanted_stages:
                self._data.unsubscribe(topic_filter)
            for topic_filter in wanted_stages - self._stage_filters:
                self._data.subscribe(topic_filter)
            self._filters, self._stage_filters = wanted, wanted_stages

    def is_replicated(self, deployment: str, index: int) -> bool:
        """Return whether other boards serve the stage too."""
        return (deployment, index) in self._replicated

    def forget(self, deployment: str, index: int) -> None:
        """Unsubscribe from a stage that this board no longer has.

        The broker's session may still have the subscription of an earlier process of this agent.
        """
        with self._lock:
            for topic_filter in (
                self._topics.stage_subscription(deployment, index, 1),
                self._topics.stage_subscription(deployment, index, 2),
                self._topics.board_stage(deployment, index, self._deployments.device),
            ):
                # Another thread may have loaded the stage and subscribed to it meanwhile.
                if topic_filter not in self._stage_filters:
                    self._data.unsubscribe(topic_filter)

    def leave_shared(self) -> None:
        """Unsubscribe from shared topics, so that the other replicas get the requests."""
        with self._lock:
            for topic_filter in self._shared:
                self._data.unsubscribe(topic_filter)
