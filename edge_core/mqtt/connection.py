"""The one place that talks MQTT: client options, reconnecting, subscriptions.

paho-mqtt behind a small surface, so that a faster transport can take its place. What is set and
why (measured figures: DESIGN, "How activations travel"):

- TCP_NODELAY: a QoS 1 round trip of 50 kB took 44 ms without it on one side, 0.9 ms with it.
- TCP_QUICKACK after each PUBACK, for brokers that can't set TCP_NODELAY (the embedded one): a
  QoS 1 round trip of 50 kB took 44 ms without it, 1.1 ms with it.
- A session expiry interval beside ``clean_start=False``: MQTT 5 keeps no session without it.
- The broker's Maximum Packet Size is checked before each publish: paho doesn't, and a QoS 1
  message over it sends paho into an endless loop of reconnecting and resending.
- Subscriptions are made again at every connect: a broker restarted without persistence has
  forgotten them.
- Acknowledgements are the receiver's to send where it asks for that (``manual_ack``), and never
  cross to a later connection, where the packet id may stand for another message.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
import uuid
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_core.errors import (
    BrokerRefusedError,
    BrokerUnreachableError,
    MessageTooLargeError,
)
from edge_core.mqtt.publish_packets import Client, PackedProperties

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from paho.mqtt.reasoncodes import ReasonCode

    from edge_core.mqtt.broker_address import BrokerAddress

DEFAULT_KEEPALIVE_S = 10

#: The largest packet MQTT can carry (MQTT 5.0, section 2.1.4).
_MQTT_MAXIMUM_PACKET_BYTES = 268_435_455
_RECONNECT_MIN_S = 1
_RECONNECT_MAX_S = 8
#: What paho says where the connection ended without a word; no broker's own reason.
_NO_REASON = "Unspecified error"
#: MQTT 5.0, section 3.14.2.1: DISCONNECT's "Session taken over".
_SESSION_TAKEN_OVER = 0x8E
_FIRST_ERROR_CODE = 0x80
#: Room for a PUBLISH packet's fixed header, packet id and the topic's length.
_HEADER_BYTES = 16


@dataclass(frozen=True)
class Message:
    """A message that arrived.

    Attributes:
        topic: Where it was published.
        payload: Its bytes.
        response_topic: Where the answer goes, if one is wanted.
        correlation_data: The request id, returned with the answer.
        expiry_s: Seconds it had left when the broker sent it, if it expires.
        user: User properties; of repeated keys the last.
        retained: It was kept by the broker and is not new.
        arrived: ``time.monotonic()`` at arrival.
    """

    topic: str
    payload: bytes | bytearray
    response_topic: str | None
    correlation_data: bytes
    expiry_s: int | None
    user: dict[str, str]
    retained: bool
    arrived: float
    _packet_id: int = 0
    _qos: int = 0
    _connection_number: int = 0


@dataclass(frozen=True)
class Will:
    """What the broker says for a client that is gone without a word (MQTT 5.0, 3.1.2.5)."""

    topic: str
    payload: bytes


class Connection:
    """An MQTT 5 connection that comes back by itself.

    Handlers run in the network thread: they must not block, since a callback longer than 1.5
    keep-alives gets the client disconnected. Methods may be called from any thread, but those
    that wait (``open``, ``timeout_s``) not from a handler.
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
        manual_ack: bool = False,
        on_connected: Callable[[], None] | None = None,
        on_disconnected: Callable[[str], None] | None = None,
        on_taken_over: Callable[[], None] | None = None,
        on_unexpected: Callable[[Message], None] | None = None,
    ) -> None:
        """Prepare a connection; :meth:`open` makes it.

        Args:
            address: The broker.
            client_id: Unique at the broker; a second client of the same id ends the first.
            will: Published by the broker, retained, when this client is lost.
            session_expiry_s: How long the broker keeps subscriptions and QoS 1 messages for
                this client while it is away, in seconds; 0: not at all.
            receive_maximum: QoS 1 messages the broker may send before one is acknowledged.
            keepalive_s: After 1.5 times this without a word the broker gives a client up.
            manual_ack: Messages are acknowledged by :meth:`acknowledge`, not on return of
                the handler.
            on_connected: Called at every connect, after the subscriptions were asked for.
            on_disconnected: Called with the reason when the connection is lost.
            on_taken_over: Called when the broker says that another client took this client id;
                mosquitto 2.0.11 and rumqttd only close the connection.
            on_unexpected: Called with messages that match none of this process's subscriptions:
                those that a session of an earlier process still asks for. With ``manual_ack``
                each holds a place of ``receive_maximum`` until it is acknowledged.
        """
        self.address = address
        self.client_id = client_id
        self._keepalive_s = keepalive_s
        self._session_expiry_s = session_expiry_s
        self._receive_maximum = receive_maximum
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self._on_taken_over = on_taken_over
        self._subscriptions: dict[str, int] = {}
        self._subscription_ids: dict[int, Future[ReasonCode]] = {}
        self._waiting_lock = threading.Lock()
        self._connected = threading.Event()
        self._refused: str | None = None
        self._connection_number = 0
        self._closing = False
        self.maximum_packet_size = _MQTT_MAXIMUM_PACKET_BYTES

        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=paho.MQTTv5,
            manual_ack=manual_ack,
        )
        client.connect_timeout = 5.0
        client.reconnect_delay_set(_RECONNECT_MIN_S, _RECONNECT_MAX_S)
        client.on_socket_open = _set_no_delay
        client.on_connect = self._handle_connect
        client.on_disconnect = self._handle_disconnect
        client.on_subscribe = self._handle_subscribe
        client.on_publish = _acknowledge_quickly
        if on_unexpected is not None:
            client.on_message = lambda _client, _userdata, message: on_unexpected(
                self._message(message)
            )
        if will is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=True)
        if address.tls:
            client.tls_set_context(address.tls_context())
        if address.username is not None:
            client.username_pw_set(address.username, address.password)
        self._client = client

    # Opening and closing

    def open(self, timeout_s: float = 10.0) -> None:
        """Connect and start the network thread.

        Raises:
            BrokerUnreachableError: Nobody listens there, or nobody answers within ``timeout_s``.
            BrokerRefusedError: The broker said no.
        """
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._session_expiry_s
        if self._receive_maximum is not None:
            properties.ReceiveMaximum = self._receive_maximum
        try:
            self._client.connect(
                self.address.host,
                self.address.port,
                keepalive=self._keepalive_s,
                clean_start=self._session_expiry_s == 0,
                properties=properties,
            )
        except ssl.SSLCertVerificationError as error:
            raise BrokerUnreachableError(
                self.address.url,
                f"its certificate is not trusted ({error.verify_message.rstrip('.')}); name the CA "
                "to trust by EDGE_PARTITION_CA_FILE",
            ) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise BrokerUnreachableError(self.address.url, reason) from None
        self._client.loop_start()
        if not self._connected.wait(timeout_s) or self._refused:
            self._stop()
            if self._refused:
                raise BrokerRefusedError(self.address.url, self._refused)
            raise BrokerUnreachableError(self.address.url, f"no answer within {timeout_s:g} s")

    def close(self, timeout_s: float = 2.0) -> None:
        """Disconnect in good order: what was published before is sent first."""
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
        """Whether the broker has accepted the connection and it is not known to be lost."""
        return self._client.is_connected()

    @property
    def local_address(self) -> str | None:
        """This end's IP address; None while there is no connection."""
        sock = self._client.socket()
        try:
            return str(sock.getsockname()[0]) if isinstance(sock, socket.socket) else None
        except OSError:
            return None

    # Sending

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        response_topic: str | None = None,
        correlation_data: bytes = b"",
        expiry_s: int | None = None,
        user: Mapping[str, str] | None = None,
    ) -> paho.MQTTMessageInfo:
        """Send a message; while disconnected, QoS 1 messages wait and QoS 0 messages are lost.

        Raises:
            MessageTooLargeError: The broker doesn't take packets of this size.
        """
        properties = PackedProperties(
            response_topic=response_topic,
            correlation_data=correlation_data,
            expiry_s=None if expiry_s is None else max(1, expiry_s),
            user=user,
        )
        packed_bytes = len(properties.pack())
        size_bytes = _HEADER_BYTES + len(topic.encode()) + packed_bytes + len(payload)
        if size_bytes > self.maximum_packet_size:
            raise MessageTooLargeError(topic, size_bytes, self.maximum_packet_size)
        return self._client.publish(topic, payload, qos, retain, properties)

    def publish_and_wait(
        self, topic: str, payload: bytes, *, retain: bool = False, timeout_s: float = 10.0
    ) -> None:
        """Send with QoS 1 and wait for the broker's word.

        Raises:
            BrokerUnreachableError: The broker did not acknowledge within ``timeout_s``.
        """
        info = self.publish(topic, payload, qos=1, retain=retain)
        try:
            info.wait_for_publish(timeout_s)
        except (RuntimeError, ValueError) as error:
            raise BrokerUnreachableError(self.address.url, str(error)) from None
        if not info.is_published():
            raise BrokerUnreachableError(
                self.address.url, f"no acknowledgement within {timeout_s:g} s"
            )

    # Receiving

    def subscribe(
        self,
        topic_filter: str,
        handler: Callable[[Message], None],
        *,
        qos: int = 1,
        timeout_s: float | None = None,
    ) -> None:
        """Call ``handler`` with each message that matches, now and after every reconnect.

        Args:
            topic_filter: MQTT filter; ``$share/GROUP/`` in front makes it shared.
            handler: Runs in the network thread.
            qos: The highest quality of service wanted.
            timeout_s: Wait this long for the broker's word; None: don't wait.

        Raises:
            BrokerRefusedError: The access list forbids it (only when waited for).
            BrokerUnreachableError: No answer in time (only when waited for).
        """
        self._client.message_callback_add(
            _plain_filter(topic_filter),
            lambda _client, _userdata, message: handler(self._message(message)),
        )
        answer: Future[ReasonCode] = Future()
        with self._waiting_lock:
            self._subscriptions[topic_filter] = qos
            _, packet_id = self._client.subscribe(topic_filter, qos)
            if timeout_s is None or packet_id is None:
                return
            self._subscription_ids[packet_id] = answer
        try:
            code = answer.result(timeout_s)
        except TimeoutError:
            raise BrokerUnreachableError(
                self.address.url, f"no answer within {timeout_s:g} s"
            ) from None
        if code.value >= _FIRST_ERROR_CODE:
            raise BrokerRefusedError(self.address.url, f"subscribing to {topic_filter}: {code}")

    def unsubscribe(self, topic_filter: str) -> None:
        """End a subscription."""
        with self._waiting_lock:
            self._subscriptions.pop(topic_filter, None)
        self._client.unsubscribe(topic_filter)
        self._client.message_callback_remove(_plain_filter(topic_filter))

    def retained(
        self, topic_filter: str, own_topic: str, *, timeout_s: float = 10.0
    ) -> dict[str, bytes]:
        """Return the retained messages that match a filter now, by topic; empty ones left out.

        A broker sends retained messages before later ones to the same subscriber, so a message
        to ``own_topic``, which nobody else uses, marks their end.

        Raises:
            BrokerRefusedError: The access list forbids a subscription.
            BrokerUnreachableError: The marker did not come back within ``timeout_s``.
        """
        found: dict[str, bytes] = {}
        marker, end = uuid.uuid4().bytes, threading.Event()

        def keep(message: Message) -> None:
            if message.retained and message.payload:
                found[message.topic] = bytes(message.payload)

        def finish(message: Message) -> None:
            if message.correlation_data == marker:
                end.set()

        marker_topic = f"{own_topic}/{marker.hex()}"
        try:
            # QoS 0: of QoS 1 messages mosquitto queues 1,000 and rumqttd sends 100, and the rest
            # is dropped in silence.
            self.subscribe(marker_topic, finish, qos=0, timeout_s=timeout_s)
            self.subscribe(topic_filter, keep, qos=0, timeout_s=timeout_s)
            self.publish(marker_topic, b"", correlation_data=marker)
            arrived = end.wait(timeout_s)
        finally:
            self.unsubscribe(topic_filter)
            self.unsubscribe(marker_topic)
        if not arrived:
            raise BrokerUnreachableError(self.address.url, f"no answer within {timeout_s:g} s")
        return found

    def acknowledge(self, message: Message) -> None:
        """Tell the broker that a message was dealt with; without ``manual_ack`` do nothing."""
        if message._connection_number == self._connection_number:  # noqa: SLF001
            self._client.ack(message._packet_id, message._qos)  # noqa: SLF001

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
                self._connected.set()
            return
        self._connection_number += 1
        limit = getattr(properties, "MaximumPacketSize", None)
        self.maximum_packet_size = limit or _MQTT_MAXIMUM_PACKET_BYTES
        with self._waiting_lock:
            subscriptions = list(self._subscriptions.items())
        if subscriptions:
            self._client.subscribe(subscriptions)
        self._connected.set()
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

    def _handle_subscribe(
        self,
        _client: paho.Client,
        _userdata: Any,
        packet_id: int,
        codes: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        with self._waiting_lock:
            answer = self._subscription_ids.pop(packet_id, None)
        if answer is not None:
            answer.set_result(codes[0])

    def _message(self, message: paho.MQTTMessage) -> Message:
        properties = message.properties
        return Message(
            topic=message.topic,
            payload=message.payload,
            response_topic=getattr(properties, "ResponseTopic", None),
            correlation_data=getattr(properties, "CorrelationData", b""),
            expiry_s=getattr(properties, "MessageExpiryInterval", None),
            user=dict(getattr(properties, "UserProperty", ())),
            retained=message.retain,
            arrived=time.monotonic(),
            _packet_id=message.mid,
            _qos=message.qos,
            _connection_number=self._connection_number,
        )


def _plain_filter(topic_filter: str) -> str:
    """Return what a shared subscription's messages match (MQTT 5.0, section 4.8.2)."""
    return topic_filter.split("/", 2)[2] if topic_filter.startswith("$share/") else topic_filter


def _set_no_delay(_client: paho.Client, _userdata: Any, sock: Any) -> None:
    if isinstance(sock, socket.socket):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _acknowledge_quickly(client: paho.Client, *_: object) -> None:
    # Linux takes the option back after a while, so it is set again with every PUBACK.
    sock = client.socket()
    if isinstance(sock, socket.socket) and hasattr(socket, "TCP_QUICKACK"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
