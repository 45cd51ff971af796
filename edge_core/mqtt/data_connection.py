"""The connection that carries activations, beside the connection for everything else.

A request passes one thread: the thread that waits for requests reads the socket, runs the stage and
writes the result. paho-mqtt has a thread of its own for the socket.

- :meth:`DataConnection.step` waits for the socket, reads what has arrived and calls the handlers.
  One thread at a time steps: the owner of the connection, or a stand-in while the owner is busy
  (:mod:`edge_core.mqtt.stand_in`).
- :meth:`DataConnection.publish` writes in the calling thread. The steps that follow send what the
  socket did not take. An owner sends no further message until :attr:`DataConnection.has_room`.
- Locks are taken in this order: ``_reading`` by a step, ``_sending`` by a write, the writer's.
  Callbacks run without ``_sending``.
- A message that the broker has not acknowledged is not sent again after a reconnect. The request
  that led to the message was not acknowledged either, so the broker or the client sends that
  request again.
"""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, TypeAlias

import mqtt5
from paho.mqtt.client import topic_matches_sub

from edge_core.errors import (
    BrokerRefusedError,
    BrokerUnreachableError,
    EdgePartitionError,
    MessageTooLargeError,
)
from edge_core.mqtt.connection import DEFAULT_KEEPALIVE_S, MQTT_MAXIMUM_PACKET_BYTES
from edge_core.mqtt.data_session import open_session
from edge_core.mqtt.message import NO_RECEIPT, Message, Receipt
from edge_core.mqtt.packet_stream import publish_header
from edge_core.mqtt.subscriptions import FIRST_ERROR_CODE, topic_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edge_core.contract.topics import Topic
    from edge_core.mqtt.broker_address import BrokerAddress
    from edge_core.mqtt.data_session import DataSession
    from edge_core.mqtt.packet_stream import Buffer

    Handler: TypeAlias = Callable[[Message], None]
    #: Called with the broker's reason code for a message: 0 is success (MQTT 5.0, section 3.4.2.1).
    Acknowledged: TypeAlias = Callable[[int], None]

#: Reason code of a message that the broker took and that no client has subscribed to.
NO_SUBSCRIBERS = int(mqtt5.PubAckReasonCode.NO_MATCHING_SUBSCRIBERS)

_CONNECT_TIMEOUT_S = 5.0
#: Pauses between two tries to connect, in seconds.
_RECONNECT_FIRST_S, _RECONNECT_MAX_S = 0.5, 8.0
_LAST_PACKET_ID = 65535
_QOS = (mqtt5.QoS.AT_MOST_ONCE, mqtt5.QoS.AT_LEAST_ONCE)
_PUBACK = b"\x40\x02"
_PINGREQ = b"\xc0\x00"


class DataConnection:
    """A lean MQTT 5 connection without a thread of its own.

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
        session_expiry_s: int = 0,
        receive_maximum: int | None = None,
        keepalive_s: int = DEFAULT_KEEPALIVE_S,
        on_message: Handler | None = None,
        on_connected: Callable[[bool], None] | None = None,
        on_lost: Callable[[str], None] | None = None,
        on_refused: Callable[[str, str], None] | None = None,
    ) -> None:
        """Prepare a connection; :meth:`open`, or the first :meth:`step`, connects.

        Args:
            address: Address of the broker.
            client_id: Unique at the broker: a second client with the same id ends the first.
            session_expiry_s: Time for which the broker keeps subscriptions and messages of an
                absent client, in seconds; 0: the broker keeps nothing.
            receive_maximum: Most messages in flight to this client; None: 65,535.
            keepalive_s: MQTT keep-alive, in seconds.
            on_message: Callback for messages whose topic has no handler of its own.
            on_connected: Callback after every connect, with whether the broker kept the session.
            on_lost: Callback with the reason when the connection is lost.
            on_refused: Callback with a topic filter that the broker refuses, and the reason.
        """
        self.address = address
        self.client_id = client_id
        self.keepalive_s = self._keepalive_s = keepalive_s
        self.maximum_packet_size = MQTT_MAXIMUM_PACKET_BYTES
        self._session_expiry_s = session_expiry_s
        self._receive_maximum = receive_maximum
        self._on_message = on_message
        self._on_connected = on_connected
        self._on_lost = on_lost
        self._on_refused = on_refused
        self._session: DataSession | None = None
        self._connects = 0
        self._retry_at, self._retry_pause_s = 0.0, _RECONNECT_FIRST_S
        self._reading, self._sending = threading.RLock(), threading.Lock()
        self._packet_ids = itertools.cycle(range(1, _LAST_PACKET_ID + 1))
        #: Callbacks of the messages that the broker has not acknowledged, by packet id.
        self._unacknowledged: dict[int, Acknowledged | None] = {}
        #: Packets that wait because the broker has its most unacknowledged messages.
        self._held: deque[list[bytes]] = deque()
        self._acknowledgements: deque[bytes] = deque()
        #: Quality of service of each subscription.
        self._filters: dict[str, int] = {}
        self._handlers: dict[str, Handler] = {}
        self._requested: dict[int, list[str]] = {}
        self._refused: dict[str, str] = {}
        #: Times of the last data out, the last sign of the broker and the last ping, in seconds.
        self._sent_at = self._received_at = self._pinged_at = 0.0
        #: Bytes delivered and to be delivered at the last ping.
        self._delivery = 0, 0
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.settimeout(0)
        self._wake_out.settimeout(0)
        self._poll = select.poll()
        self._poll.register(self._wake_in, select.POLLIN)

    # Opening and closing

    def open(self, timeout_s: float = 10.0) -> None:
        """Connect, and wait for the broker's answers to the subscriptions.

        Raises:
            BrokerUnreachableError: The connection failed, or no answer within ``timeout_s``.
            BrokerRefusedError: The broker refused the connection or a subscription.
        """
        with self._reading:
            self._connect(timeout_s)
        self.wait_for_subscriptions(timeout_s)

    def wait_for_subscriptions(self, timeout_s: float) -> None:
        """Step until the broker has answered all subscriptions.

        Raises:
            BrokerUnreachableError: The connection was lost, or no answer within ``timeout_s``.
            BrokerRefusedError: The broker refused a subscription.
        """
        deadline = time.monotonic() + timeout_s
        while self._requested and self._session is not None and time.monotonic() < deadline:
            self.step(deadline - time.monotonic())
        if self._refused:
            topic_filter, reason = next(iter(self._refused.items()))
            raise BrokerRefusedError(self.address.url, f"subscribing to {topic_filter}: {reason}")
        if self._requested:
            raise BrokerUnreachableError(self.address.url, f"no answer within {timeout_s:g} s")

    def close(self, timeout_s: float = 2.0) -> None:
        """Send waiting data for at most ``timeout_s``, then disconnect."""
        deadline = time.monotonic() + timeout_s
        self.wake()
        with self._reading:
            while self._session is not None and time.monotonic() < deadline:
                self._send_acknowledgements(self._session)
                if not (self._session.writer.waiting_bytes or self._held):
                    break
                self.step(0.05)
            with self._sending:
                session, self._session = self._session, None
                self._retry_at = float("inf")
            if session is not None:
                self._poll.unregister(session.socket)
                session.end(max(0.0, deadline - time.monotonic()))

    @property
    def is_connected(self) -> bool:
        """Whether the broker accepted the connection and no loss is known."""
        return self._session is not None

    # Waiting and receiving

    def step(self, timeout_s: float | None) -> None:
        """Wait for the socket once, and call the handlers of what has arrived.

        Without a connection, the step waits for the next try to connect, and connects. If another
        thread steps for all this time, the step does nothing.

        Args:
            timeout_s: Longest wait, in seconds; None: until something arrives or :meth:`wake`. A
                try to connect may take five seconds more.
        """
        if not self._reading.acquire(timeout=-1 if timeout_s is None else timeout_s):
            return
        try:
            self._step(timeout_s)
        finally:
            self._reading.release()

    def wake(self) -> None:
        """End the wait of the step in progress, or of the next step."""
        with contextlib.suppress(OSError):  # A full socket wakes too.
            self._wake_out.send(b"!")

    def subscribe(
        self, topic_filter: Topic, handler: Handler | None = None, *, qos: int = 1
    ) -> None:
        """Subscribe, now and after every connect.

        Args:
            topic_filter: MQTT filter; ``$share/GROUP/`` in front makes the subscription shared.
            handler: Callback in the thread that steps; None: the connection's ``on_message``.
            qos: Highest quality of service, 0 or 1.
        """
        self._filters[topic_filter] = qos
        if handler is not None:
            self._handlers[topic_pattern(topic_filter)] = handler
        self._request([topic_filter])

    def unsubscribe(self, topic_filter: str) -> None:
        """End a subscription."""
        self._filters.pop(topic_filter, None)
        self._handlers.pop(topic_pattern(topic_filter), None)
        with self._sending:
            if self._session is not None:
                packet = mqtt5.UnsubscribePacket(self._next_packet_id(), [str(topic_filter)])
                self._write(self._session, packet.write())

    def acknowledge(self, receipt: Receipt) -> None:
        """Acknowledge a message, with the next packet or in the next step.

        After a reconnect the acknowledgement is dropped, because the broker sends the message
        again.
        """
        with self._sending:
            packet = self._puback(receipt)
            if packet:
                self._acknowledgements.append(packet)

    # Sending

    @property
    def has_room(self) -> bool:
        """Whether the socket took all data and the broker takes one more message."""
        session = self._session
        return session is None or not (
            session.writer.waiting_bytes
            or self._held
            or len(self._unacknowledged) >= session.receive_maximum
        )

    def publish(
        self,
        topic: Topic,
        *payload: Buffer,
        response_topic: str | None = None,
        correlation_data: bytes = b"",
        expiry_s: int | None = None,
        user: Mapping[str, str] | None = None,
        answers: Receipt = NO_RECEIPT,
        on_acknowledged: Acknowledged | None = None,
    ) -> None:
        """Send a message; without a connection the message is lost.

        Args:
            topic: Topic, whose kind sets the quality of service. Nothing is retained.
            payload: Buffers that make up the payload; free to change when this method returns.
            response_topic: Topic for the answer.
            correlation_data: Request id that the answer repeats.
            expiry_s: Time to live at the broker, in seconds; counts as at least 1.
            user: User properties.
            answers: The message that this one answers, which is acknowledged right behind. The
                broker reads both in order, so it has the answer when it reads the acknowledgement.
            on_acknowledged: Callback in the thread that steps, with the broker's reason code.

        Raises:
            MessageTooLargeError: The packet exceeds the broker's limit.
            ValueError: A topic has wildcards, or a property has more than 65,535 bytes.
        """
        views = [memoryview(part).cast("B") for part in payload]
        payload_bytes = sum(map(len, views))
        with self._sending:
            session = self._session
            packet_id = self._next_packet_id() if topic.kind.qos else 0
            header = publish_header(
                topic,
                payload_bytes,
                packet_id,
                response_topic=response_topic,
                correlation_data=correlation_data,
                expiry_s=None if expiry_s is None else max(1, expiry_s),
                user=(user or {}).items(),
            )
            size_bytes = len(header) + payload_bytes
            if size_bytes > self.maximum_packet_size:
                raise MessageTooLargeError(topic, size_bytes, self.maximum_packet_size)
            if session is None:
                return
            if packet_id:
                is_full = len(self._unacknowledged) >= session.receive_maximum
                self._unacknowledged[packet_id] = on_acknowledged
                if is_full:
                    self._held.append([header, *map(bytes, views), self._puback(answers)])
                    return
            self._write(session, header, *views, self._puback(answers))

    # In the thread that steps

    def _step(self, timeout_s: float | None) -> None:
        session = self._session
        if session is None:
            self._try_again(timeout_s)
            return
        try:
            self._send_acknowledgements(session)
            ready = self._wait(session, timeout_s)
            if ready & (select.POLLIN | select.POLLHUP | select.POLLERR):
                self._received_at = time.monotonic()
                for packet, payload in session.reader.read():
                    self._handle(packet, payload)
            if ready & select.POLLOUT:
                session.writer.flush()
            self._keep_alive(session)
        except EOFError:
            self._lose("it closed the connection")
        except (OSError, ValueError) as error:
            self._lose(getattr(error, "strerror", None) or str(error))

    def _connect(self, timeout_s: float) -> None:
        session = open_session(
            self.address,
            self.client_id,
            keepalive_s=self._keepalive_s,
            session_expiry_s=self._session_expiry_s,
            receive_maximum=self._receive_maximum,
            timeout_s=timeout_s,
        )
        with self._sending:
            self._connects += 1
            self._unacknowledged.clear()
            self._held.clear()
            self._acknowledgements.clear()
            self._requested.clear()
            self._refused.clear()
            self.maximum_packet_size = session.maximum_packet_bytes
            self.keepalive_s = session.keepalive_s or self._keepalive_s
            self._sent_at = self._received_at = self._pinged_at = time.monotonic()
            self._delivery = 0, 0
            self._retry_pause_s = _RECONNECT_FIRST_S
            self._session = session
        self._poll.register(session.socket, select.POLLIN)
        if self._filters:
            self._request(list(self._filters))
        if self._on_connected is not None:
            self._on_connected(session.is_resumed)
        try:
            for packet, payload in session.early:
                self._handle(packet, payload)
        except OSError as error:
            self._lose(str(error))

    def _try_again(self, timeout_s: float | None) -> None:
        """Wait for the next try to connect, at most ``timeout_s``, and connect."""
        left_s = self._retry_at - time.monotonic()
        if left_s > 0:
            wait_s = left_s if timeout_s is None else min(left_s, timeout_s)
            if self._poll.poll(min(wait_s, 3600) * 1000):
                self._clear_wake()
            if wait_s < left_s or time.monotonic() < self._retry_at:
                return
        try:
            self._connect(_CONNECT_TIMEOUT_S)
        except EdgePartitionError:
            self._retry_at = time.monotonic() + self._retry_pause_s
            self._retry_pause_s = min(_RECONNECT_MAX_S, 2 * self._retry_pause_s)

    def _wait(self, session: DataSession, timeout_s: float | None) -> int:
        """Return the events of the socket: POLLIN, POLLOUT or both; 0 after the timeout."""
        due_s = max(0.0, self._ping_due_at() - time.monotonic())
        wait_s = due_s if timeout_s is None else min(timeout_s, due_s)
        wanted = select.POLLIN | (select.POLLOUT if session.writer.waiting_bytes else 0)
        self._poll.modify(session.socket, wanted)
        ready = 0
        for descriptor, events in self._poll.poll(wait_s * 1000):
            if descriptor == self._wake_in.fileno():
                self._clear_wake()
            else:
                ready = events
        return ready

    def _clear_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_in.recv(4096)

    def _handle(self, packet: mqtt5.Packet, payload: Buffer) -> None:
        if isinstance(packet, mqtt5.PublishPacket):
            self._deliver(packet, payload)
        elif isinstance(packet, mqtt5.PubAckPacket):
            self._settle(packet)
        elif isinstance(packet, mqtt5.SubAckPacket):
            self._note_refusals(packet)
        elif isinstance(packet, mqtt5.DisconnectPacket):
            raise ConnectionError(packet.reason_code.name.replace("_", " ").lower())

    def _deliver(self, packet: mqtt5.PublishPacket, payload: Buffer) -> None:
        message = Message(
            topic=packet.topic,
            payload=payload,
            response_topic=packet.response_topic,
            correlation_data=packet.correlation_data or b"",
            expiry_s=packet.message_expiry_interval,
            user=dict(packet.user_properties),
            retained=packet.retain,
            arrived=self._received_at,
            receipt=Receipt(packet.packet_id or 0, self._connects),
        )
        handler = self._handlers.get(message.topic) or self._handler_by_filter(message.topic)
        if handler is not None:
            handler(message)

    def _handler_by_filter(self, topic: str) -> Handler | None:
        for pattern, handler in list(self._handlers.items()):
            if topic_matches_sub(pattern, topic):
                return handler
        return self._on_message

    def _settle(self, packet: mqtt5.PubAckPacket) -> None:
        with self._sending:
            if packet.packet_id not in self._unacknowledged:
                return
            callback = self._unacknowledged.pop(packet.packet_id)
            if self._held and self._session is not None:
                self._write(self._session, *self._held.popleft())
        if callback is not None:
            callback(int(packet.reason_code))

    def _note_refusals(self, packet: mqtt5.SubAckPacket) -> None:
        filters = self._requested.pop(packet.packet_id, [])
        for topic_filter, code in zip(filters, packet.reason_codes, strict=False):
            if int(code) >= FIRST_ERROR_CODE:
                reason = code.name.replace("_", " ").capitalize()
                self._refused[topic_filter] = reason
                if self._on_refused is not None:
                    self._on_refused(topic_filter, reason)

    def _keep_alive(self, session: DataSession) -> None:
        """Send a ping if one direction was silent for half a keep-alive; notice a silent broker.

        On a slow link, a ping waits behind a large message for longer than a keep-alive. While
        data from before the last ping is still under way, data delivered since then is a sign of
        the broker.
        """
        now = time.monotonic()
        if now < self._ping_due_at():
            return
        delivery = session.delivery()
        if delivery is not None:
            if self._delivery[0] < delivery[0] < self._delivery[1]:
                self._received_at = now
            self._delivery = delivery
        if now - self._received_at > 1.5 * self.keepalive_s:
            raise TimeoutError(f"no data for {now - self._received_at:.0f} s")
        self._pinged_at = now
        with self._sending:
            self._write(session, _PINGREQ)

    def _ping_due_at(self) -> float:
        silent_since = min(self._sent_at, self._received_at)
        return max(silent_since, self._pinged_at) + self.keepalive_s / 2

    def _lose(self, reason: str) -> None:
        with self._sending:
            session, self._session = self._session, None
            self._retry_at = time.monotonic() + self._retry_pause_s
        if session is None:
            return
        self._poll.unregister(session.socket)
        session.close()
        if self._on_lost is not None:
            self._on_lost(reason)

    # In any thread

    def _puback(self, receipt: Receipt) -> bytes:
        """Return the packet that acknowledges a message; empty if none is due."""
        if not receipt.packet_id or receipt.connection_number != self._connects:
            return b""
        return _PUBACK + receipt.packet_id.to_bytes(2, "big")

    def _next_packet_id(self) -> int:
        """Return an id that no message on its way has. The caller holds ``_sending``."""
        while (packet_id := next(self._packet_ids)) in self._unacknowledged:
            pass
        return packet_id

    def _request(self, filters: list[str]) -> None:
        """Ask the broker for subscriptions, if there is a connection."""
        wanted = [
            # Only messages that the broker had stored before count as retained.
            mqtt5.TopicFilter(
                str(item), max_qos=_QOS[self._filters.get(item, 1)], retain_as_published=False
            )
            for item in filters
        ]
        with self._sending:
            if self._session is not None:
                packet_id = self._next_packet_id()
                self._requested[packet_id] = filters
                self._write(self._session, mqtt5.SubscribePacket(packet_id, wanted).write())

    def _send_acknowledgements(self, session: DataSession) -> None:
        if self._acknowledgements:
            with self._sending:
                self._write(session)

    def _write(self, session: DataSession, *parts: Buffer) -> None:
        """Send acknowledgements and ``parts``; a broken connection is noticed by the next step.

        The caller holds ``_sending``, so no acknowledgement gets to an earlier or later connection.
        """
        acknowledgements = b"".join(self._acknowledgements)
        self._acknowledgements.clear()
        self._sent_at = time.monotonic()
        with contextlib.suppress(OSError):
            session.writer.write(acknowledgements, *parts)
        if session.writer.waiting_bytes:
            # The step in progress does not wait for room in the socket yet.
            self.wake()
