"""The one place that talks MQTT: client options, reconnecting, requests and replies.

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

import os
import re
import socket
import ssl
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_core.contract.messages import CommandError, ErrorCode, decode_json, encode_json
from edge_core.contract.topics import OFFLINE
from edge_core.errors import (
    BrokerRefusedError,
    BrokerUnreachableError,
    EdgePartitionError,
    MessageTooLargeError,
)
from edge_core.mqtt.publish_packets import Client, PackedProperties

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from paho.mqtt.reasoncodes import ReasonCode

DEFAULT_PORT = 1883
DEFAULT_TLS_PORT = 8883
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
#: In a reply's place: none will come.
_GONE = object()


class BrokerAddressError(EdgePartitionError):
    """A broker's URL or the files that go with it can't be used."""


class NoAnswerError(EdgePartitionError):
    """An agent did not answer a command.

    Attributes:
        device: The agent.
        command: What it was asked.
    """

    def __init__(self, device: str, command: str, text: str) -> None:
        self.device = device
        self.command = command
        super().__init__(text)


class RequestTimeoutError(NoAnswerError):
    """An agent did not answer a command in time.

    Attributes:
        timeout_s: How long the answer was awaited.
    """

    def __init__(self, device: str, command: str, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        super().__init__(
            device,
            command,
            f"Board {device} did not answer '{command}' within {timeout_s:g} s. "
            f"Check that its agent runs: `device-agent --name {device} ...`.",
        )


class AgentLostError(NoAnswerError):
    """The broker said that an agent is gone while its answer was awaited."""

    def __init__(self, device: str, command: str) -> None:
        super().__init__(
            device,
            command,
            f"Board {device} went offline before it answered '{command}': its agent ended or lost "
            "the broker. Its log says which, or the kernel's, if it ran out of memory: "
            "`dmesg | grep -i oom`.",
        )


@dataclass(frozen=True)
class BrokerAddress:
    """Where the broker is and how to prove who we are.

    Attributes:
        host: Name or address.
        port: TCP port.
        tls: ``mqtts``: TLS with the broker's certificate checked.
        username: Sent to the broker, where set.
        password: Sent to the broker, where set; never printed.
        ca_file: The certificates to trust instead of the system's.
        certificate_file: The client's own certificate.
        key_file: The key of ``certificate_file``.
    """

    host: str
    port: int
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None

    @classmethod
    def parse(
        cls,
        url: str,
        *,
        username: str | None = None,
        password_file: str | None = None,
        ca_file: str | None = None,
        certificate_file: str | None = None,
        key_file: str | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> BrokerAddress:
        """Read ``mqtt[s]://[USER@]HOST[:PORT]``; what is left out comes from the environment.

        ``EDGE_PARTITION_USERNAME``, ``_PASSWORD``, ``_PASSWORD_FILE``, ``_CA_FILE``,
        ``_CERTIFICATE_FILE`` and ``_KEY_FILE``.

        Raises:
            BrokerAddressError: The URL or a file can't be used.
        """
        expected = "expected mqtt://HOST:PORT or mqtts://HOST:PORT"
        shown = re.sub(r"//.*@", "//...@", url)  # A password that came along is not repeated.
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise BrokerAddressError(f"The broker's URL {shown!r}: {error}; {expected}.") from None
        if parts.scheme not in {"mqtt", "mqtts"} or not parts.hostname:
            raise BrokerAddressError(f"The broker's URL {shown!r} is not one; {expected}.")
        if parts.path not in {"", "/"} or parts.query or parts.fragment:
            raise BrokerAddressError(
                f"The broker's URL {shown!r} has more than a port; {expected}."
            )
        if parts.password is not None:
            raise BrokerAddressError(
                "A password in the broker's URL shows in process lists; put it into a file named "
                "by EDGE_PARTITION_PASSWORD_FILE instead."
            )
        password = environ.get("EDGE_PARTITION_PASSWORD")
        password_file = password_file or environ.get("EDGE_PARTITION_PASSWORD_FILE")
        if password_file:
            try:
                password = Path(password_file).read_text().rstrip("\n")
            except (OSError, UnicodeDecodeError) as error:
                raise BrokerAddressError(f"The password file can't be read: {error}.") from None
        tls = parts.scheme == "mqtts"
        return cls(
            host=parts.hostname,
            port=port if port is not None else (DEFAULT_TLS_PORT if tls else DEFAULT_PORT),
            tls=tls,
            username=parts.username or username or environ.get("EDGE_PARTITION_USERNAME"),
            password=password,
            ca_file=ca_file or environ.get("EDGE_PARTITION_CA_FILE"),
            certificate_file=certificate_file or environ.get("EDGE_PARTITION_CERTIFICATE_FILE"),
            key_file=key_file or environ.get("EDGE_PARTITION_KEY_FILE"),
        )

    @property
    def url(self) -> str:
        """The address without secrets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"

    def _tls_context(self) -> ssl.SSLContext:
        # Neither call names the file in its error.
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise BrokerAddressError(
                f"The CA file {self.ca_file} can't be used: {error}; expected PEM certificates."
            ) from None
        if self.certificate_file:
            try:
                context.load_cert_chain(self.certificate_file, self.key_file)
            except OSError as error:
                raise BrokerAddressError(
                    f"The certificate {self.certificate_file} with the key "
                    f"{self.key_file or 'in the same file'} can't be used: {error}; expected PEM."
                ) from None
        return context


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
    that wait (``open``, ``wait=True``, ``request``) not from a handler.
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
        self._subscription_ids: dict[int, _Waiter] = {}
        self._waiting_lock = threading.Lock()
        #: By request id: which agent is asked, and who waits.
        self._replies: dict[bytes, tuple[str, _Waiter]] = {}
        self._reply_topic: str | None = None
        #: Agents whose availability is listened to, and whether the broker says they are gone.
        self._gone: dict[str, bool] = {}
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
            client.tls_set_context(address._tls_context())  # noqa: SLF001
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
        waiter = _Waiter()
        with self._waiting_lock:
            self._subscriptions[topic_filter] = qos
            _, packet_id = self._client.subscribe(topic_filter, qos)
            if timeout_s is None or packet_id is None:
                return
            self._subscription_ids[packet_id] = waiter
        code = waiter.wait(timeout_s)
        if code is None:
            raise BrokerUnreachableError(self.address.url, f"no answer within {timeout_s:g} s")
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
        marker, end = uuid.uuid4().bytes, _Waiter()

        def keep(message: Message) -> None:
            if message.retained and message.payload:
                found[message.topic] = bytes(message.payload)

        def finish(message: Message) -> None:
            if message.correlation_data == marker:
                end.set(marker)

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
        if arrived is None:
            raise BrokerUnreachableError(self.address.url, f"no answer within {timeout_s:g} s")
        return found

    def acknowledge(self, message: Message) -> None:
        """Tell the broker that a message was dealt with; without ``manual_ack`` do nothing."""
        if message._connection_number == self._connection_number:  # noqa: SLF001
            self._client.ack(message._packet_id, message._qos)  # noqa: SLF001

    # Requests

    def request(
        self,
        topic: str,
        command: dict[str, Any],
        *,
        device: str,
        reply_topic: str,
        availability_topic: str | None = None,
        timeout_s: float = 10.0,
    ) -> dict[str, Any]:
        """Send a command and return its answer.

        Args:
            topic: Where the agent takes commands.
            command: What it is to do.
            device: The agent.
            reply_topic: Where it is to answer.
            availability_topic: Where the broker says ``offline`` for an agent that is gone, which
                ends the wait; None: nobody listens there.
            timeout_s: How long to wait.

        Raises:
            CommandError: The agent refused, or the answer is not JSON.
            RequestTimeoutError: No answer within ``timeout_s``.
            AgentLostError: The agent is offline.
            MessageTooLargeError: The command doesn't fit into one packet.
        """
        if self._reply_topic != reply_topic:
            self.subscribe(reply_topic, self._handle_reply, timeout_s=timeout_s)
            self._reply_topic = reply_topic
        request_id = uuid.uuid4().bytes
        waiter = _Waiter()
        with self._waiting_lock:
            self._replies[request_id] = (device, waiter)
        try:
            if availability_topic is not None:
                self._watch(availability_topic, device, timeout_s)
            if self._gone.get(device):
                raise AgentLostError(device, str(command.get("command")))
            self.publish(
                topic,
                encode_json(command),
                response_topic=reply_topic,
                correlation_data=request_id,
                expiry_s=max(1, int(timeout_s)),
            )
            payload = waiter.wait(timeout_s)
        finally:
            with self._waiting_lock:
                self._replies.pop(request_id, None)
        if payload is None:
            raise RequestTimeoutError(device, str(command.get("command")), timeout_s)
        if payload is _GONE:
            raise AgentLostError(device, str(command.get("command")))
        answer = decode_json(payload)
        if not answer.get("ok"):
            code = answer.get("code")
            known = code if code in list(ErrorCode) else ErrorCode.BAD_COMMAND
            raise CommandError(ErrorCode(known), str(answer.get("reason", "no reason given")))
        return answer

    def _handle_reply(self, message: Message) -> None:
        # Otherwise each reply would hold a place of the receive maximum for good.
        self.acknowledge(message)
        with self._waiting_lock:
            _, waiter = self._replies.get(message.correlation_data, (None, None))
        if waiter is not None:
            waiter.set(message.payload)

    def _watch(self, availability_topic: str, device: str, timeout_s: float) -> None:
        """From now on, end the wait for an agent's answer when the broker says it is gone."""

        def learn(message: Message) -> None:
            self.acknowledge(message)
            is_gone = message.payload == OFFLINE
            with self._waiting_lock:
                self._gone[device] = is_gone
                waiters = [waiter for asked, waiter in self._replies.values() if asked == device]
            for waiter in waiters if is_gone else ():
                waiter.set(_GONE)

        with self._waiting_lock:
            if device in self._gone:
                return
            self._gone[device] = False
        self.subscribe(availability_topic, learn, timeout_s=timeout_s)

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
            waiter = self._subscription_ids.pop(packet_id, None)
        if waiter is not None:
            waiter.set(codes[0])

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


class _Waiter:
    """One value, handed from the network thread to a waiting one."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._value: Any = None

    def set(self, value: Any) -> None:
        self._value = value
        self._ready.set()

    def wait(self, timeout_s: float) -> Any:
        return self._value if self._ready.wait(timeout_s) else None


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
