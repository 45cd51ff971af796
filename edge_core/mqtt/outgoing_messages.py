"""Acknowledgements of sent and of received messages, on the connection for activations.

This module uses no socket and no clock. The connection holds a lock during each call.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeAlias

from edge_core.mqtt.message import Receipt

if TYPE_CHECKING:
    from collections.abc import Callable

    #: Called with the broker's reason code for a message: 0 is success (MQTT 5.0, section 3.4.2.1).
    Acknowledged: TypeAlias = Callable[[int], None]

_LAST_PACKET_ID = 65535
_PUBACK = b"\x40\x02"


class OutgoingMessages:
    """QoS 1 messages that the broker has not acknowledged yet.

    A broker limits the number of sent messages without an acknowledgement (Receive Maximum, MQTT
    5.0, section 4.9). At the limit, further messages are held: they are sent later. Each
    acknowledgement releases one held message.
    """

    def __init__(self) -> None:
        """Start without messages."""
        # A number, because itertools.cycle would keep all 65,535 of them: 2.3 MB.
        self._last_id = 0
        self._callbacks: dict[int, Acknowledged | None] = {}
        self._held: deque[list[bytes]] = deque()
        self._limit = _LAST_PACKET_ID

    def start_over(self, limit: int) -> None:
        """Remove all messages; called after a connect.

        Args:
            limit: Largest number of messages without an acknowledgement that the broker accepts.
        """
        self._callbacks.clear()
        self._held.clear()
        self._limit = limit

    @property
    def is_full(self) -> bool:
        """Whether the number of messages without an acknowledgement is at the broker's limit."""
        return len(self._callbacks) >= self._limit

    @property
    def has_held(self) -> bool:
        """Whether at least one message is held."""
        return bool(self._held)

    def next_packet_id(self) -> int:
        """Return a packet id from 1 to 65,535 that no message of this object uses."""
        while True:
            self._last_id = self._last_id % _LAST_PACKET_ID + 1
            if self._last_id not in self._callbacks:
                return self._last_id

    def add(self, packet_id: int, on_acknowledged: Acknowledged | None) -> None:
        """Add a message that the broker has not acknowledged yet.

        Args:
            packet_id: Packet id of the message.
            on_acknowledged: Callback for the acknowledgement; None: no callback.
        """
        self._callbacks[packet_id] = on_acknowledged

    def hold(self, packet: list[bytes]) -> None:
        """Hold the parts of a packet until :meth:`settle` returns them."""
        self._held.append(packet)

    def settle(self, packet_id: int) -> tuple[Acknowledged | None, list[bytes]]:
        """Remove a message that the broker has acknowledged.

        Returns:
            The message's callback, or None; and the parts of the oldest held packet, which the
            caller sends now. The list of parts is empty if no packet is held, or if no message has
            this packet id.
        """
        if packet_id not in self._callbacks:
            return None, []
        return self._callbacks.pop(packet_id), self._held.popleft() if self._held else []


class Acknowledgements:
    """Acknowledgements of received messages, collected until the client sends its next packet."""

    def __init__(self) -> None:
        """Start without acknowledgements, before the first connect."""
        self._connection_number = 0
        self._waiting: list[bytes] = []

    def start_over(self) -> None:
        """Begin the next connection; drop the acknowledgements of the previous connection.

        On the next connection, the broker sends messages without an acknowledgement again.
        """
        self._connection_number += 1
        self._waiting.clear()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def receipt(self, packet_id: int | None) -> Receipt:
        """Return the receipt, for :meth:`add`, of a message that just arrived from the broker.

        Args:
            packet_id: Packet id of the message; None for a message with quality of service 0.
        """
        return Receipt(packet_id or 0, self._connection_number)

    def packet(self, receipt: Receipt) -> bytes:
        """Return the PUBACK packet for a message.

        The return value is empty if the message needs no acknowledgement, or if the message arrived
        on an earlier connection.
        """
        if not receipt.packet_id or receipt.connection_number != self._connection_number:
            return b""
        return _PUBACK + receipt.packet_id.to_bytes(2, "big")

    def add(self, receipt: Receipt) -> None:
        """Collect the acknowledgement of a message."""
        packet = self.packet(receipt)
        if packet:
            self._waiting.append(packet)

    def take(self) -> bytes:
        """Remove the collected acknowledgements, and return their PUBACK packets as bytes."""
        packets = b"".join(self._waiting)
        self._waiting.clear()
        return packets
