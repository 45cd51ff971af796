"""The MQTT 5 connection of host, agents and monitor for all messages except activations.

Activations use another connection (:mod:`edge_core.mqtt.data_connection`).

The module hides paho-mqtt behind a small interface:

- :mod:`edge_core.mqtt.paho_client` sets paho's options, and gives the reason for each option.
- :mod:`edge_core.mqtt.subscriptions` subscribes again after every connect.
- The connection refuses a message that is larger than the broker's Maximum Packet Size. paho would
  send the message, and the broker would disconnect. With QoS 1, paho would then reconnect and send
  the message again, without end.
"""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from edge_core.errors import (
    BrokerRefusedError,
    BrokerUnreachableError,
    MessageTooLargeError,
)
from edge_core.mqtt.message import Message, Will, read_message
from edge_core.mqtt.paho_client import (
    connect_client,
    local_address,
    make_client,
    properties_bytes,
    publish_properties,
)
from edge_core.mqtt.subscriptions import Subscriptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import paho.mqtt.client as paho
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

    from edge_core.contract.topics import Topic
    from edge_core.mqtt.broker_address import BrokerAddress

__all__ = ["DEFAULT_KEEPALIVE_S", "Connection", "Message", "Will"]

DEFAULT_KEEPALIVE_S = 10

#: Upper bound of the size of a PUBLISH packet's fixed header, packet id and topic length together,
#: in bytes.
_HEADER_BYTES = 16
#: Largest size of an MQTT packet, in bytes (MQTT 5.0, section 2.1.4).
MQTT_MAXIMUM_PACKET_BYTES = 268_435_455
#: Text of paho's reason code for a connection that ended without a DISCONNECT packet.
_NO_REASON = "Unspecified error"
#: Reason code "Session taken over" of DISCONNECT (MQTT 5.0, section 3.14.2.1).
_SESSION_TAKEN_OVER = 0x8E


class Connection:
    """An MQTT 5 connection that reconnects by itself.

    Handlers run in the connection's network thread and must not block: the broker disconnects a
    client whose handler takes longer than 1.5 keep-alives. Other threads may call all methods. A
    handler must not call a method that waits: :meth:`open`, :meth:`close`,
    :meth:`publish_and_wait`, or :meth:`subscribe` with a ``timeout_s``.

    Attributes:
        address: Address of the broker.
        client_id: MQTT client id.
        maximum_packet_size: Largest packet that the broker accepts, in bytes.
    """

    def __init__(
        self,
        address: BrokerAddress,
        client_id: str,
        *,
        will: Will | None = None,
        session_expiry_s: int = 0,
        receive_maximum: int | None = None,
        keepalive_s: int = DEFAULT_KEEPALIVE_S,
        on_connected: Callable[[], None] | None = None,
        on_disconnected: Callable[[str], None] | None = None,
        on_taken_over: Callable[[], None] | None = None,
        on_unexpected: Callable[[Message], None] | None = None,
    ) -> None:
        """Create a connection without connecting; :meth:`open` connects.

        Args:
            address: Address of the broker.
            client_id: MQTT client id, unique at the broker. If a second client connects with the
                same id, the broker disconnects the first.
            will: Message that the broker publishes, retained, if this client's connection is lost.
            session_expiry_s: Time for which the broker keeps the subscriptions and QoS 1 messages
                of a disconnected client, in seconds; 0: the broker keeps nothing.
            receive_maximum: Largest number of QoS 1 messages that the broker sends before this
                client acknowledges one; None: 65,535.
            keepalive_s: MQTT keep-alive, in seconds. The broker disconnects a client that is silent
                for 1.5 times this time.
            on_connected: Called after every connect, when the client has sent SUBSCRIBE.
            on_disconnected: Called with the reason when the connection is lost.
            on_taken_over: Called when the broker says that another client connected with this
                client id. mosquitto 2.0.11 and rumqttd do not say this; they only close the
                connection.
            on_unexpected: Called with each message that matches no subscription of this process.
                The broker sends such messages if it kept the session of an earlier process with the
                same client id.

        Raises:
            BrokerAddressError: A certificate file or key file cannot be used.
        """
        self.address = address
        self.client_id = client_id
        self.maximum_packet_size = MQTT_MAXIMUM_PACKET_BYTES
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self._on_taken_over = on_taken_over
        self._answered = threading.Event()
        self._refused: str | None = None
        self._connection_number = 0
        self._closing = False
        self._client = make_client(address, client_id, will=will)
        self._client.on_connect = self._handle_connect
        self._client.on_disconnect = self._handle_disconnect
        if on_unexpected is not None:
            self._client.on_message = lambda _client, _userdata, message: on_unexpected(
                read_message(message)
            )
        self._subscriptions = Subscriptions(self._client, address.url)
        self._connect = partial(
            connect_client,
            self._client,
            address,
            keepalive_s=keepalive_s,
            session_expiry_s=session_expiry_s,
            receive_maximum=receive_maximum,
        )

    # Opening and closing

    def open(self, timeout_s: float = 10.0) -> None:
        """Connect and start the network thread.

        Raises:
            BrokerUnreachableError: The connection failed, or the broker did not answer within
                ``timeout_s``.
            BrokerRefusedError: The broker refused the connection.
        """
        self._connect()
        self._client.loop_start()
        if not self._answered.wait(timeout_s) or self._refused:
            self._stop()
            if self._refused:
                raise BrokerRefusedError(self.address.url, self._refused)
            raise BrokerUnreachableError(self.address.url, f"no answer within {timeout_s:g} s")

    def close(self, timeout_s: float = 2.0) -> None:
        """Wait at most ``timeout_s`` until all messages are sent, then disconnect."""
        deadline = time.monotonic() + timeout_s
        while self.is_connected and self._client.want_write() and time.monotonic() < deadline:
            time.sleep(0.005)
        self._stop()

    def _stop(self) -> None:
        self._closing = True
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_connected(self) -> bool:
        """Whether the broker has accepted the connection, and the client has noticed no loss."""
        return self._client.is_connected()

    @property
    def local_address(self) -> str | None:
        """IP address of the client's end of the connection; None while disconnected."""
        return local_address(self._client)

    # Sending

    def publish(
        self,
        topic: Topic,
        payload: bytes,
        *,
        response_topic: str | None = None,
        correlation_data: bytes = b"",
        expiry_s: int | None = None,
        user: Mapping[str, str] | None = None,
    ) -> paho.MQTTMessageInfo:
        """Send a message.

        While disconnected, a QoS 1 message is sent after the next connect, and a QoS 0 message is
        lost.

        Args:
            topic: Topic. Its kind sets the quality of service and whether the broker retains the
                message.
            payload: Payload; may be empty.
            response_topic: Topic for the answer.
            correlation_data: Request id. The answer contains the same id.
            expiry_s: Time for which the broker keeps the message for a disconnected receiver, in
                seconds. Values below 1 become 1. None: no limit.
            user: User properties, by name.

        Returns:
            paho's handle, with which a caller can wait for the broker's acknowledgement.

        Raises:
            MessageTooLargeError: The packet is larger than the broker accepts.
        """
        properties = publish_properties(
            response_topic=response_topic,
            correlation_data=correlation_data,
            expiry_s=None if expiry_s is None else max(1, expiry_s),
            user=user,
        )
        size_bytes = (
            _HEADER_BYTES + len(topic.encode()) + properties_bytes(properties) + len(payload)
        )
        if size_bytes > self.maximum_packet_size:
            raise MessageTooLargeError(topic, size_bytes, self.maximum_packet_size)
        return self._client.publish(topic, payload, topic.kind.qos, topic.kind.retained, properties)

    def publish_and_wait(self, topic: Topic, payload: bytes, *, timeout_s: float = 10.0) -> None:
        """Send a message and wait for the broker's acknowledgement.

        Raises:
            BrokerUnreachableError: The broker did not acknowledge the message within ``timeout_s``.
            MessageTooLargeError: The packet is larger than the broker accepts.
        """
        info = self.publish(topic, payload)
        try:
            info.wait_for_publish(timeout_s)
        except (RuntimeError, ValueError) as error:
            raise BrokerUnreachableError(self.address.url, str(error)) from None
        if not info.is_published():
            raise BrokerUnreachableError(
                self.address.url, f"no acknowledgement of a message within {timeout_s:g} s"
            )

    # Receiving

    def subscribe(
        self,
        topic_filter: Topic,
        handler: Callable[[Message], None],
        *,
        qos: int | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Call ``handler`` with each message that matches a filter, also after reconnects.

        Args:
            topic_filter: MQTT topic filter. The prefix ``$share/GROUP/`` makes the subscription
                shared: the broker sends each message to one client of the group.
            handler: Callback, which runs in the network thread.
            qos: Highest quality of service, 0 or 1; None: the topic's kind sets the value.
            timeout_s: Longest wait for the broker's answer, in seconds; None: do not wait.

        Raises:
            BrokerRefusedError: The access list forbids the subscription. Without ``timeout_s``, no
                error is raised.
            BrokerUnreachableError: The broker did not answer within ``timeout_s``.
        """
        self._subscriptions.add(
            topic_filter,
            lambda message: handler(read_message(message)),
            qos=topic_filter.kind.qos if qos is None else qos,
            timeout_s=timeout_s,
        )

    def unsubscribe(self, topic_filter: str) -> None:
        """Unsubscribe from a filter; its handler gets no more messages."""
        self._subscriptions.remove(topic_filter)

    # paho's callbacks, in the network thread

    def _handle_connect(
        self,
        _client: paho.Client,
        _userdata: Any,
        _flags: paho.ConnectFlags,
        code: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if code.is_failure:
            if self._connection_number == 0:
                self._refused = str(code)
                self._answered.set()
            return
        self._connection_number += 1
        limit = getattr(properties, "MaximumPacketSize", None)
        self.maximum_packet_size = limit or MQTT_MAXIMUM_PACKET_BYTES
        self._subscriptions.restore()
        self._answered.set()
        if self._on_connected is not None:
            self._on_connected()

    def _handle_disconnect(
        self,
        _client: paho.Client,
        _userdata: Any,
        _flags: paho.DisconnectFlags,
        code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if self._closing:
            return
        if code.value == _SESSION_TAKEN_OVER and self._on_taken_over is not None:
            self._closing = True
            self._client.disconnect()
            self._on_taken_over()
        elif self._on_disconnected is not None and self._connection_number:
            reason = str(code)
            self._on_disconnected("it closed the connection" if reason == _NO_REASON else reason)
