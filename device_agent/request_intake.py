"""Receive requests on the connection for activations, and give them to the inference thread.

Methods that begin with an underscore run in the inference thread, or in the stand-in that reads the
socket during a long inference (:mod:`edge_core.mqtt.stand_in`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from device_agent.find_route import RouteFinder
from device_agent.worker import Worker
from edge_core.contract.messages import RECEIVE_MAXIMUM, SESSION_EXPIRY_S, ErrorCode
from edge_core.mqtt.data_connection import DataConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from device_agent.config import Config
    from device_agent.deployments import ServedStage
    from device_agent.subscriptions import Subscriptions
    from device_agent.telemetry.stats import Stats
    from edge_core.contract.topics import Topics
    from edge_core.mqtt.broker_address import BrokerAddress
    from edge_core.mqtt.connection import Message

_LOG = logging.getLogger("device-agent")


class RequestIntake:
    """Receives requests from the broker and gives them to the worker, which answers them.

    Attributes:
        connection: The connection for activations.
        worker: The inference thread.
        finder: Finder of the boards that serve a request without a route.
        is_loaded: Whether the deployments on disk are loaded. From then on, the board knows which
            stages it has, and unsubscribes from a stage it lacks when a request for it arrives.
        is_stopping: Whether the agent is stopping and answers no new requests.
    """

    def __init__(
        self,
        config: Config,
        address: BrokerAddress,
        topics: Topics,
        *,
        served_stages: Callable[[], Mapping[tuple[str, int], ServedStage]],
        subscriptions: Callable[[], Subscriptions],
        stats: Stats,
    ) -> None:
        """Create the connection and the worker; the worker's thread connects.

        Args:
            config: Options of the agent.
            address: The broker's address.
            topics: The topics of the fleet.
            served_stages: Function that returns the loaded stages that answer requests, by
                deployment and stage index.
            subscriptions: Function that returns the agent's subscriptions.
            stats: Counters and times of the stages.
        """
        self.is_loaded = self.is_stopping = False
        self.finder = RouteFinder(config.name)
        self._device = config.name
        self._topics = topics
        self._served_stages = served_stages
        self._subscriptions = subscriptions
        self.connection = DataConnection(
            address,
            f"edge-agent-{config.name}-data",
            session_expiry_s=SESSION_EXPIRY_S,
            receive_maximum=RECEIVE_MAXIMUM,
            keepalive_s=config.keepalive,
            on_message=self._request_arrived,
            on_connected=self._connected,
            on_refused=self._subscription_refused,
        )
        self.worker = Worker(
            self.connection,
            topics,
            config.name,
            served_stages=served_stages,
            stats=stats,
            finder=self.finder,
        )

    def _connected(self, is_resumed: bool) -> None:
        if is_resumed:
            self.worker.drop_queue()

    def _subscription_refused(self, topic_filter: str, reason: str) -> None:
        _LOG.warning(
            "the broker at %s refused the subscription to %s: %s. Check the broker's access list.",
            self.connection.address.url,
            topic_filter,
            reason,
        )

    def _request_arrived(self, message: Message) -> None:
        # An exception would end the inference thread.
        try:
            match message.topic[len(self._topics.prefix) + 1 :].split("/"):
                case ["deployment", name, "stage", index, *_] if index.isdecimal():
                    self._take(name, int(index), message)
                case _:
                    _LOG.warning("dropped a message on the unexpected topic %r", message.topic)
                    self.connection.acknowledge(message.receipt)
        except Exception:  # noqa: BLE001
            _LOG.exception("cannot handle the message on the topic %s", message.topic)
            self.connection.acknowledge(message.receipt)

    def _take(self, name: str, index: int, message: Message) -> None:
        if not self.is_stopping:
            if self.is_loaded and (name, index) not in self._served_stages():
                self._subscriptions().forget(name, index)
            self.worker.submit(name, index, message)
        elif self._subscriptions().is_replicated(name, index):
            self.worker.refuse(
                name,
                index,
                message,
                ErrorCode.STOPPING,
                f"Board {self._device} is stopping. Send the request again: other boards serve "
                f"stage {index}.",
            )
        # Requests that only this board serves stay with the broker until the agent starts again.
