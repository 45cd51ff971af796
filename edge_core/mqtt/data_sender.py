"""The sending half of the connection for activations; any thread may send."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from edge_core.errors import MessageTooLargeError
from edge_core.mqtt.connection import MQTT_MAXIMUM_PACKET_BYTES
from edge_core.mqtt.keep_alive import KeepAlive
from edge_core.mqtt.message import NO_RECEIPT
from edge_core.mqtt.outgoing_messages import Acknowledgements, OutgoingMessages
from edge_core.mqtt.packet_stream import publish_header
from edge_core.mqtt.wakeable_poll import WakeablePoll

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edge_core.contract.topics import Topic
    from edge_core.mqtt.data_session import DataSession
    from edge_core.mqtt.message import Receipt
    from edge_core.mqtt.outgoing_messages import Acknowledged
    from edge_core.mqtt.packet_stream import Buffer


class DataSender:
    """Sends messages, acknowledgements and other packets on the connection for activations.

    The calling thread writes a packet to the socket. If the socket does not take all bytes, later
    calls of ``DataConnection.step`` send the rest. The subclass ``DataConnection`` connects,
    receives and closes.

    Attributes:
        maximum_packet_size: Largest packet that the broker accepts, in bytes.
    """

    def __init__(self, keepalive_s: int) -> None:
        """Start without a connection.

        Args:
            keepalive_s: MQTT keep-alive, in seconds.
        """
        self.maximum_packet_size = MQTT_MAXIMUM_PACKET_BYTES
        self._session: DataSession | None = None
        #: Guards the session, the outgoing messages and the acknowledgements.
        self._sending = threading.Lock()
        self._outgoing = OutgoingMessages()
        self._acknowledgements = Acknowledgements()
        self._keep_alive = KeepAlive(keepalive_s)
        self._poll = WakeablePoll()

    @property
    def is_connected(self) -> bool:
        """Whether the broker has accepted the connection, and the client has noticed no loss."""
        return self._session is not None

    @property
    def keepalive_s(self) -> float:
        """MQTT keep-alive in seconds: the value that the broker set, or else the client's value."""
        return self._keep_alive.period_s

    @property
    def has_room(self) -> bool:
        """Whether the connection takes the next message without a wait.

        The value is also true while disconnected: the message is then lost without a wait.
        """
        session = self._session
        return session is None or not (session.writer.waiting_bytes or self._outgoing.is_full)

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
        """Send a message that the broker does not retain; while disconnected, the message is lost.

        Args:
            topic: Topic. Its kind sets the quality of service.
            payload: Buffers whose concatenation is the payload. The caller may change the buffers
                after this method has returned.
            response_topic: Topic for the answer.
            correlation_data: Request id. The answer contains the same id.
            expiry_s: Time for which the broker keeps the message for a disconnected receiver, in
                seconds. Values below 1 become 1. None: no limit.
            user: User properties, by name.
            answers: Receipt of the request that this message answers. The request's acknowledgement
                is sent right after this message, so the broker has the answer before it regards
                the request as done.
            on_acknowledged: Called with the broker's reason code, in the thread that calls
                ``DataConnection.step``.

        Raises:
            MessageTooLargeError: The packet is larger than the broker accepts.
            ValueError: A topic contains wildcards, or a property has more than 65,535 bytes.
        """
        views = [memoryview(part).cast("B") for part in payload]
        payload_bytes = sum(map(len, views))
        with self._sending:
            session = self._session
            packet_id = self._outgoing.next_packet_id() if topic.kind.qos else 0
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
            acknowledgement = self._acknowledgements.packet(answers)
            if packet_id:
                is_full = self._outgoing.is_full
                self._outgoing.add(packet_id, on_acknowledged)
                if is_full:
                    self._outgoing.hold([header, *map(bytes, views), acknowledgement])
                    return
            self._write(session, header, *views, acknowledgement)

    def acknowledge(self, receipt: Receipt) -> None:
        """Acknowledge a message.

        The acknowledgement is sent before the next packet, or in the next call of
        ``DataConnection.step``. If the client has reconnected after the message arrived, no
        acknowledgement is sent, and the broker sends the message again.
        """
        with self._sending:
            self._acknowledgements.add(receipt)

    def _begin_session(self, session: DataSession) -> None:
        """Send on ``session`` from now on; drop the messages of the previous session."""
        with self._sending:
            self._outgoing.start_over(session.receive_maximum)
            self._acknowledgements.start_over()
            self._keep_alive.start(session.keepalive_s, time.monotonic())
            self.maximum_packet_size = session.maximum_packet_bytes
            self._session = session

    def _end_session(self) -> DataSession | None:
        """Stop sending; return the session for the caller to close, or None without a session."""
        with self._sending:
            session, self._session = self._session, None
        return session

    def _send(self, make_packet: Callable[[int], bytes]) -> None:
        """While connected, send the packet that ``make_packet`` returns for a new packet id."""
        with self._sending:
            if self._session is not None:
                self._write(self._session, make_packet(self._outgoing.next_packet_id()))

    def _send_acknowledgements(self) -> None:
        if self._acknowledgements:
            with self._sending:
                if self._session is not None:
                    self._write(self._session)

    def _settle(self, packet_id: int) -> Acknowledged | None:
        """Record the broker's acknowledgement of a message; send the oldest held message, if any.

        Returns:
            The callback of the acknowledged message; None if the message has no callback.
        """
        with self._sending:
            callback, held = self._outgoing.settle(packet_id)
            if held and self._session is not None:
                self._write(self._session, *held)
        return callback

    def _write(self, session: DataSession, *parts: Buffer) -> None:
        """Send the collected acknowledgements, then ``parts``; ignore a broken connection.

        The next call of ``DataConnection.step`` notices a broken connection. The caller must hold
        ``_sending``. Without the lock, a reconnect could come in between, and an acknowledgement
        could be sent on a later connection than the one on which its message arrived.
        """
        self._keep_alive.sent_at = time.monotonic()
        with contextlib.suppress(OSError):
            session.writer.write(self._acknowledgements.take(), *parts)
        if session.writer.waiting_bytes:
            # The present step waits for arriving data only, and must also wait to send the rest.
            self._poll.wake()
