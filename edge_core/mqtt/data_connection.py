"""The MQTT 5 connection for activations.

All other messages use :mod:`edge_core.mqtt.connection`, where paho-mqtt has a thread for the
socket. On the connection for activations, a single thread handles a request: it reads the socket,
runs the stage and writes the result.

- :meth:`DataConnection.step` waits for the socket, reads the packets that have arrived and calls
  the handlers. One thread at a time steps: the owner of the connection, or a stand-in thread while
  the owner is busy (:mod:`edge_core.mqtt.stand_in`).
- :meth:`DataSender.publish` writes in the calling thread. If the socket does not take all bytes,
  later steps send the rest. Before an owner sends another message, it waits
  until :attr:`DataSender.has_room` is true.
- There are two locks. The thread that steps holds ``_reading``. ``_sending`` guards the messages
  and acknowledgements that are to be sent. A thread that needs both locks takes ``_reading`` first.
  Callbacks run without ``_sending``.
- After a reconnect, the connection does not repeat messages that the broker has not acknowledged.
  An agent acknowledges a request only after its result. If the result is lost, the broker therefore
  sends the request again. A client sends its requests again itself.
"""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import mqtt5

from edge_core.errors import (
    BrokerRefusedError,
    BrokerUnreachableError,
    EdgePartitionError,
)
from edge_core.mqtt.connection import DEFAULT_KEEPALIVE_S
from edge_core.mqtt.data_sender import DataSender
from edge_core.mqtt.data_session import open_session
from edge_core.mqtt.data_subscriptions import DataSubscriptions
from edge_core.mqtt.message import Message
from edge_core.mqtt.wakeable_poll import READABLE, WRITABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_core.contract.topics import Topic
    from edge_core.mqtt.broker_address import BrokerAddress
    from edge_core.mqtt.data_session import DataSession
    from edge_core.mqtt.data_subscriptions import Handler
    from edge_core.mqtt.packet_stream import Buffer

#: Reason code of the broker for a message to whose topic no client has subscribed.
NO_SUBSCRIBERS = int(mqtt5.PubAckReasonCode.NO_MATCHING_SUBSCRIBERS)

_CONNECT_TIMEOUT_S = 5.0
#: First and longest pause between two attempts to connect, in seconds.
_RECONNECT_FIRST_S, _RECONNECT_MAX_S = 0.5, 8.0
_PINGREQ = b"\xc0\x00"


class DataConnection(DataSender):
    """An MQTT 5 connection without a thread of its own: its users receive by calling :meth:`step`.

    Attributes:
        address: Address of the broker.
        client_id: MQTT client id.
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
        """Create a connection without connecting; :meth:`open` or the first :meth:`step` connects.

        Args:
            address: Address of the broker.
            client_id: MQTT client id, unique at the broker. If a second client connects with the
                same id, the broker disconnects the first.
            session_expiry_s: Time for which the broker keeps the subscriptions and messages of a
                disconnected client, in seconds; 0: the broker keeps nothing.
            receive_maximum: Largest number of QoS 1 messages that the broker sends before this
                client acknowledges one; None: 65,535.
            keepalive_s: MQTT keep-alive, in seconds.
            on_message: Called with each message whose topic has no other handler.
            on_connected: Called after every connect. The argument says whether the broker kept the
                session.
            on_lost: Called with the reason when the connection is lost.
            on_refused: Called with a topic filter and the reason when the broker refuses the
                subscription.
        """
        super().__init__(keepalive_s)
        self.address = address
        self.client_id = client_id
        self._open_session = partial(
            open_session,
            address,
            client_id,
            keepalive_s=keepalive_s,
            session_expiry_s=session_expiry_s,
            receive_maximum=receive_maximum,
        )
        self._on_connected = on_connected
        self._on_lost = on_lost
        self._on_refused = on_refused
        self._retry_at, self._retry_pause_s = 0.0, _RECONNECT_FIRST_S
        self._reading = threading.RLock()
        self._subscriptions = DataSubscriptions(on_message)

    # Opening and closing

    def open(self, timeout_s: float = 10.0) -> None:
        """Connect, and wait for the broker's answers to the subscriptions.

        Raises:
            BrokerUnreachableError: The connection failed, or the broker did not answer within
                ``timeout_s``.
            BrokerRefusedError: The broker refused the connection or a subscription.
        """
        with self._reading:
            self._connect(timeout_s)
        self.wait_for_subscriptions(timeout_s)

    def wait_for_subscriptions(self, timeout_s: float) -> None:
        """Call :meth:`step` until the broker has answered all subscriptions.

        Raises:
            BrokerUnreachableError: The connection was lost, or the broker did not answer within
                ``timeout_s``.
            BrokerRefusedError: The broker refused a subscription.
        """
        deadline = time.monotonic() + timeout_s
        wanted = self._subscriptions
        while (
            not wanted.is_answered
            and self.is_connected
            and (left_s := deadline - time.monotonic()) > 0
        ):
            self.step(left_s)
        for topic_filter, reason in wanted.refused.items():
            raise BrokerRefusedError(
                self.address.url, f"no subscription to {topic_filter} ({reason})"
            )
        if not wanted.is_answered:
            raise BrokerUnreachableError(self.address.url, f"no answer within {timeout_s:g} s")

    def close(self, timeout_s: float = 2.0) -> None:
        """Send the data that is not sent yet, then disconnect.

        Args:
            timeout_s: Longest time for both, in seconds. Data that is not sent by then is lost.
        """
        deadline = time.monotonic() + timeout_s
        self.wake()
        with self._reading:
            while self._session is not None and time.monotonic() < deadline:
                self._send_acknowledgements()
                if not (self._session.writer.waiting_bytes or self._outgoing.has_held):
                    break
                self.step(0.05)
            self._retry_at = float("inf")
            session = self._end_session()
            if session is not None:
                self._poll.forget()
                session.end(max(0.0, deadline - time.monotonic()))

    # Waiting and receiving

    def step(self, timeout_s: float | None) -> None:
        """Wait until packets arrive, and call the handlers of these packets.

        While disconnected, the step waits until the next attempt to connect is due, and connects.
        If another thread steps during the whole ``timeout_s``, this step does nothing.

        Args:
            timeout_s: Longest wait, in seconds. None: no limit. The wait ends earlier when a packet
                arrives, when a ping is due, or when a thread calls :meth:`wake`. An attempt to
                connect may take five more seconds.
        """
        if not self._reading.acquire(timeout=-1 if timeout_s is None else timeout_s):
            return
        try:
            self._step(timeout_s)
        finally:
            self._reading.release()

    def wake(self) -> None:
        """End the wait in :meth:`step`; if no thread waits there, the next call does not wait."""
        self._poll.wake()

    def subscribe(
        self, topic_filter: Topic, handler: Handler | None = None, *, qos: int = 1
    ) -> None:
        """Subscribe to a topic filter, now and after every connect.

        Args:
            topic_filter: MQTT topic filter. The prefix ``$share/GROUP/`` makes the subscription
                shared: the broker sends each message to one client of the group.
            handler: Called with each message that matches, in the thread that calls :meth:`step`;
                None: the connection's ``on_message`` is called.
            qos: Highest quality of service, 0 or 1.
        """
        self._subscriptions.add(topic_filter, handler, qos)
        self._send(lambda packet_id: self._subscriptions.request(packet_id, [topic_filter]))

    def unsubscribe(self, topic_filter: str) -> None:
        """Unsubscribe from a filter; its handler gets no more messages."""
        self._subscriptions.remove(topic_filter)
        self._send(
            lambda packet_id: mqtt5.UnsubscribePacket(packet_id, [str(topic_filter)]).write()
        )

    # In the thread that steps

    def _step(self, timeout_s: float | None) -> None:
        session = self._session
        if session is None:
            self._try_again(timeout_s)
            return
        try:
            self._send_acknowledgements()
            due_s = max(0.0, self._keep_alive.due_at - time.monotonic())
            ready = self._poll.wait(
                due_s if timeout_s is None else min(timeout_s, due_s),
                for_room=session.writer.waiting_bytes > 0,
                least_bytes=1 if self._outgoing.is_full else session.reader.may_wait_for,
            )
            if ready & READABLE or not ready:
                # A few bytes cause no event: an acknowledgement, or the answer to a ping. The
                # thread reads them here.
                packets = session.reader.read()
                if packets or ready:
                    self._keep_alive.received_at = time.monotonic()
                for packet, payload in packets:
                    self._handle(packet, payload)
            if ready & WRITABLE:
                session.writer.flush()
            if time.monotonic() >= self._keep_alive.due_at:
                self._ping(session)
        except EOFError:
            self._lose("it closed the connection")
        except (OSError, ValueError) as error:
            self._lose(getattr(error, "strerror", None) or str(error))

    def _connect(self, timeout_s: float) -> None:
        session = self._open_session(timeout_s=timeout_s)
        self._subscriptions.start_over()
        self._begin_session(session)
        self._retry_pause_s = _RECONNECT_FIRST_S
        self._poll.watch(session.socket)
        filters = self._subscriptions.filters
        if filters:
            self._send(lambda packet_id: self._subscriptions.request(packet_id, filters))
        if self._on_connected is not None:
            self._on_connected(session.is_resumed)
        try:
            for packet, payload in session.early:
                self._handle(packet, payload)
        except OSError as error:
            self._lose(str(error))

    def _try_again(self, timeout_s: float | None) -> None:
        """Wait at most ``timeout_s`` for the next attempt to connect; when it is due, connect."""
        left_s = self._retry_at - time.monotonic()
        if left_s > 0:
            wait_s = left_s if timeout_s is None else min(left_s, timeout_s)
            self._poll.wait(min(wait_s, 3600))
            if wait_s < left_s or time.monotonic() < self._retry_at:
                return
        try:
            self._connect(_CONNECT_TIMEOUT_S)
        except EdgePartitionError:
            self._retry_at = time.monotonic() + self._retry_pause_s
            self._retry_pause_s = min(_RECONNECT_MAX_S, 2 * self._retry_pause_s)

    def _handle(self, packet: mqtt5.Packet, payload: Buffer) -> None:
        if isinstance(packet, mqtt5.PublishPacket):
            self._deliver(packet, payload)
        elif isinstance(packet, mqtt5.PubAckPacket):
            callback = self._settle(packet.packet_id)
            if callback is not None:
                callback(int(packet.reason_code))
        elif isinstance(packet, mqtt5.SubAckPacket):
            for topic_filter, reason in self._subscriptions.take_answer(packet):
                if self._on_refused is not None:
                    self._on_refused(topic_filter, reason)
        elif isinstance(packet, mqtt5.DisconnectPacket):
            raise ConnectionError(packet.reason_code.name.replace("_", " ").lower())

    def _deliver(self, packet: mqtt5.PublishPacket, payload: Buffer) -> None:
        handler = self._subscriptions.handler_of(packet.topic)
        if handler is None:
            return
        handler(
            Message(
                topic=packet.topic,
                payload=payload,
                response_topic=packet.response_topic,
                correlation_data=packet.correlation_data or b"",
                expiry_s=packet.message_expiry_interval,
                user=dict(packet.user_properties),
                retained=packet.retain,
                arrived=self._keep_alive.received_at,
                receipt=self._acknowledgements.receipt(packet.packet_id),
            )
        )

    def _ping(self, session: DataSession) -> None:
        self._keep_alive.note_ping(time.monotonic(), session.delivery())
        self._send(lambda _: _PINGREQ)

    def _lose(self, reason: str) -> None:
        self._retry_at = time.monotonic() + self._retry_pause_s
        session = self._end_session()
        if session is None:
            return
        self._poll.forget()
        session.close()
        if self._on_lost is not None:
            self._on_lost(reason)
