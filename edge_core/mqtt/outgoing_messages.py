"""The messages that a data connection has sent and the broker has not acknowledged.

The state here is pure: no socket and no clock. The connection holds a lock around each call.
"""

from __future__ import annotations

import itertools
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
    """Packet ids, messages without an acknowledgement, and messages that wait for one.

    A broker limits the messages without an acknowledgement (Receive Maximum, MQTT 5.0, section
    4.9). The messages above the limit are held until earlier messages are acknowledged.
    """

    def __init__(self) -> None:
        """Start without messages."""
        self._packet_ids = itertools.cycle(range(1, _LAST_PACKET_ID + 1))
        self._callbacks: dict[int, Acknowledged | None] = {}
        self._held: deque[list[bytes]] = deque()
        self._limit = _LAST_PACKET_ID

    def start_over(self, limit: int) -> None:
        """Forget all messages, after a connect.

        Args:
            limit: Most messages that the broker takes without an acknowledgement.
        """
        self._callbacks.clear()
        self._held.clear()
        self._limit = limit

    @property
    def is_full(self) -> bool:
        """Whether the next message has to be held."""
        return len(self._callbacks) >= self._limit

    @property
    def has_held(self) -> bool:
        """Whether messages are held."""
        return bool(self._held)

    def next_packet_id(self) -> int:
        """Return an id that no message without an acknowledgement has."""
        while (packet_id := next(self._packet_ids)) in self._callbacks:
            pass
        return packet_id

    def add(self, packet_id: int, on_acknowledged: Acknowledged | None) -> None:
        """Expect the acknowledgement of a message."""
        self._callbacks[packet_id] = on_acknowledged

    def hold(self, packet: list[bytes]) -> None:
        """Keep the parts of a packet until :meth:`settle` returns them."""
        self._held.append(packet)

    def settle(self, packet_id: int) -> tuple[Acknowledged | None, list[bytes]]:
        """Note the acknowledgement of a message.

        Returns:
            The message's callback, and the parts of the oldest held packet, which may be sent now.
            None and no parts if no message has this id.
        """
        if packet_id not in self._callbacks:
            return None, []
        return self._callbacks.pop(packet_id), self._held.popleft() if self._held else []


class Acknowledgements:
    """Acknowledgements of received messages, from the call to the next packet that is sent."""

    def __init__(self) -> None:
        """Start before the first connect."""
        self._connection_number = 0
        self._waiting: list[bytes] = []

    def start_over(self) -> None:
        """Begin the next connection: the broker sends unacknowledged messages again."""
        self._connection_number += 1
        self._waiting.clear()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def receipt(self, packet_id: int | None) -> Receipt:
        """Return the receipt of a message that arrived on the present connection."""
        return Receipt(packet_id or 0, self._connection_number)

    def packet(self, receipt: Receipt) -> bytes:
        """Return the packet that acknowledges a message.

        The packet is empty for a message with quality of service 0, and for one of an earlier
        connection.
        """
        if not receipt.packet_id or receipt.connection_number != self._connection_number:
            return b""
        return _PUBACK + receipt.packet_id.to_bytes(2, "big")

    def add(self, receipt: Receipt) -> None:
        """Acknowledge a message with the next packet."""
        packet = self.packet(receipt)
        if packet:
            self._waiting.append(packet)

    def take(self) -> bytes:
        """Remove and return the packets that wait."""
        packets = b"".join(self._waiting)
        self._waiting.clear()
        return packets
