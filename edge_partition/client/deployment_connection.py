"""The client's connection to one deployment: its subscriptions, and the messages that it sends.

Handlers run in the thread that calls :meth:`DataConnection.step`.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Protocol

from edge_core.contract.manifest import Manifest
from edge_core.contract.messages import (
    ERROR,
    GENERATION,
    ROUTE,
    TRACE,
    decode_trace,
    encode_json,
)
from edge_core.contract.tensors import tensor_buffers
from edge_core.contract.topics import ONLINE, Topics
from edge_core.errors import BrokerUnreachableError
from edge_core.mqtt.data_connection import NO_SUBSCRIBERS, DataConnection
from edge_core.mqtt.subscriptions import FIRST_ERROR_CODE
from edge_partition.client.errors import UnknownDeploymentError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from edge_core.mqtt.broker_address import BrokerAddress
    from edge_core.mqtt.message import Message

#: Time for which the broker keeps a message or this client's session after the request's deadline,
#: in seconds.
EXPIRY_SLACK_S = 1
#: Least time between two reports to monitors, in seconds: short enough to watch a stream, and long
#: enough that reports slow no stream down.
_REPORT_EVERY_S = 1.0
#: Longest wait for the broker's answer to a subscription, in seconds.
_ANSWER_TIMEOUT_S = 10.0
#: Largest number of results that the broker sends before the client acknowledges one. A window's
#: largest size is smaller.
_RECEIVE_MAXIMUM = 256


class DeploymentHandlers(Protocol):
    """Callbacks of a :class:`DeploymentConnection`, in the thread that calls ``step``."""

    def handle_connected(self) -> None:
        """Called after each connect: the first connect and every reconnect."""

    def handle_result(self, message: Message) -> None:
        """Called when an answer to a request has arrived."""

    def handle_manifest(self, payload: bytes) -> None:
        """Called with the payload of each manifest message; empty after ``undeploy``."""

    def handle_availability(self, device: str, *, is_online: bool, is_new: bool) -> None:
        """Called when an availability arrives; ``is_new`` is false for a retained message."""

    def handle_refused(self, request_id: bytes, code: int) -> None:
        """Called if the broker passed a request to no board; ``code`` is the MQTT 5 reason code."""


class DeploymentConnection:
    """A client's connection to one deployment.

    Attributes:
        deployment: The deployment's name.
        data: The MQTT connection. The threads that wait for answers send and receive its packets.
    """

    def __init__(
        self,
        deployment: str,
        broker: BrokerAddress,
        handlers: DeploymentHandlers,
        *,
        prefix: str,
        timeout_s: float,
    ) -> None:
        """Prepare a connection; :meth:`open` connects.

        Args:
            deployment: The deployment's name.
            broker: The broker's address.
            handlers: Callbacks for events and messages.
            prefix: The first levels of all topics, such as ``edge/v1``.
            timeout_s: Time after which a request without an answer fails, in seconds. The broker
                keeps results for this time while the client is disconnected.
        """
        self.deployment = deployment
        self._handlers = handlers
        self._topics = Topics(prefix)
        client_id = f"edge-client-{uuid.uuid4().hex[:12]}"
        self._result_topic = self._topics.result(client_id)
        self._trace_topic = self._topics.trace(client_id)
        self._next_report = 0.0
        self._followed: set[str] = set()
        self.data = DataConnection(
            broker,
            client_id,
            session_expiry_s=int(timeout_s) + EXPIRY_SLACK_S,
            receive_maximum=_RECEIVE_MAXIMUM,
            on_connected=lambda _: handlers.handle_connected(),
        )

    @property
    def is_connected(self) -> bool:
        """Whether the broker accepted the connection, and the client has noticed no loss since."""
        return self.data.is_connected

    @property
    def url(self) -> str:
        """The broker's URL, without credentials."""
        return self.data.address.url

    def open(self) -> None:
        """Connect and subscribe to results.

        Raises:
            BrokerUnreachableError: No broker answers.
            BrokerRefusedError: The broker refuses the connection or a subscription.
        """
        self.data.subscribe(self._result_topic, self._handle_result)
        try:
            self.data.open()
        except BaseException:
            self.data.close()
            raise

    def close(self) -> None:
        """Disconnect."""
        self.data.close()

    def find_manifest(self) -> Manifest:
        """Read the deployment's manifest from the broker.

        Raises:
            UnknownDeploymentError: No deployment of this name is live.
            ManifestError: The manifest can't be read.
            BrokerUnreachableError: The broker does not answer.
            BrokerRefusedError: The broker refuses the subscription to manifests.
        """
        found: dict[str, bytes] = {}

        def keep(message: Message) -> None:
            if message.retained and message.payload:
                found[message.topic] = bytes(message.payload)

        every = self._topics.manifest("+")
        # With QoS 1, mosquitto queues at most 1,000 messages and rumqttd sends at most 100. Both
        # brokers drop further messages without an error. QoS 0 has no such limit.
        self.data.subscribe(every, keep, qos=0)
        try:
            self._wait_for_retained()
        finally:
            self.data.unsubscribe(every)
        mine = self._topics.manifest(self.deployment)
        if mine not in found:
            live = sorted(self._topics.name_in(topic) for topic in found)
            raise UnknownDeploymentError(self.deployment, live)
        return Manifest.from_json(found[mine])

    def follow(self, manifest: Manifest) -> None:
        """Subscribe to the deployment's manifest, and wait for its boards' availability.

        Raises:
            BrokerUnreachableError: The broker does not answer.
            BrokerRefusedError: The broker refuses a subscription.
        """
        self.data.subscribe(self._topics.manifest(self.deployment), self._handle_manifest)
        self.follow_boards(manifest)
        self._wait_for_retained()

    def follow_boards(self, manifest: Manifest) -> None:
        """Subscribe to the availability of each board of the manifest, once for each board."""
        boards = {name for stage in manifest.stages for name in stage.devices}
        for device in boards - self._followed:
            self.data.subscribe(self._topics.availability(device), self._handle_availability)
        self._followed |= boards

    def _wait_for_retained(self) -> None:
        """Receive messages until the retained messages of all subscriptions have arrived.

        A broker sends the retained messages before any later message. This method therefore sends a
        message to its own client. When that message arrives, the retained messages have arrived
        too.

        Raises:
            BrokerUnreachableError: The broker does not answer.
            BrokerRefusedError: The broker refuses a subscription.
        """
        marker_topic = self._result_topic.below(uuid.uuid4().hex)
        arrived: list[Message] = []
        self.data.subscribe(marker_topic, arrived.append, qos=0)
        try:
            self.data.wait_for_subscriptions(_ANSWER_TIMEOUT_S)
            self.data.publish(marker_topic)
            deadline = time.monotonic() + _ANSWER_TIMEOUT_S
            while not arrived:
                left_s = deadline - time.monotonic()
                if left_s <= 0 or not self.is_connected:
                    raise BrokerUnreachableError(
                        self.url, f"no answer within {_ANSWER_TIMEOUT_S:g} s"
                    )
                self.data.step(left_s)
        finally:
            self.data.unsubscribe(marker_topic)

    def send(
        self,
        manifest: Manifest,
        request_id: bytes,
        arrays: Mapping[str, np.ndarray],
        *,
        route: Sequence[str] | None,
        expiry_s: float,
    ) -> None:
        """Publish a request to the first stage.

        Args:
            manifest: The live manifest.
            request_id: Identifier of the request. Every answer to the request contains it.
            arrays: Array of each of the model's inputs, by input name.
            route: Name of the board of each stage, in stage order; None if the manifest needs no
                routes.
            expiry_s: Time until the request's deadline, in seconds.

        Raises:
            PayloadError: An array is missing, or has another shape or dtype.
            MessageTooLargeError: The broker doesn't take messages of this size.
        """
        user = {GENERATION: manifest.generation}
        topic = self._topics.stage(self.deployment, 0)
        if route is not None:
            user[ROUTE] = ",".join(route)
            topic = self._topics.board_stage(self.deployment, 0, route[0])
        self.data.publish(
            topic,
            *tensor_buffers(manifest.stages[0].inputs, arrays),
            response_topic=self._result_topic,
            correlation_data=request_id,
            expiry_s=int(expiry_s) + EXPIRY_SLACK_S,
            user=user,
            on_acknowledged=lambda code: self._check_taken(request_id, code),
        )

    def report(self, message: Message, latency_ms: float, now: float) -> None:
        """Publish an answered request's latency and trace for monitors, at most once per second.

        Monitors need this report because only the client knows a request's whole latency.

        Args:
            message: The answer.
            latency_ms: Time from submitting the request to its answer, in milliseconds.
            now: The present ``time.monotonic()``, in seconds.
        """
        if now < self._next_report:
            return
        self._next_report = now + _REPORT_EVERY_S
        report = {
            "request": message.correlation_data.hex(),
            "generation": message.user.get(GENERATION),
            "latency_ms": round(latency_ms, 3),
            "error": message.user.get(ERROR),
            "trace": [vars(stage) for stage in decode_trace(message.user.get(TRACE))],
        }
        self.data.publish(self._trace_topic, encode_json(report))

    def _check_taken(self, request_id: bytes, code: int) -> None:
        if code == NO_SUBSCRIBERS or code >= FIRST_ERROR_CODE:
            self._handlers.handle_refused(request_id, code)

    def _handle_result(self, message: Message) -> None:
        self.data.acknowledge(message.receipt)
        self._handlers.handle_result(message)

    def _handle_manifest(self, message: Message) -> None:
        self.data.acknowledge(message.receipt)
        self._handlers.handle_manifest(bytes(message.payload))

    def _handle_availability(self, message: Message) -> None:
        self.data.acknowledge(message.receipt)
        self._handlers.handle_availability(
            self._topics.name_in(message.topic),
            is_online=message.payload == ONLINE,
            is_new=not message.retained,
        )
