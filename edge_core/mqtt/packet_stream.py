"""MQTT packets on a non-blocking socket: read into one buffer, written in one call.

:class:`PacketReader` reads small packets into one buffer that stays, and the payload of a large
PUBLISH packet straight into a buffer of the payload's size. :class:`PacketWriter` passes a header
and the payload's buffers to one ``sendmsg``, and copies only what the socket did not take.

The package ``mqtt5`` encodes and decodes. It copies payloads, so this module gives it headers only:
of a large PUBLISH packet, the fixed header, topic and properties.
"""

from __future__ import annotations

import ssl
import sys
import threading
from collections import deque
from contextlib import nullcontext
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

import mqtt5

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import NDArray

Buffer: TypeAlias = bytes | memoryview

#: Bytes of the buffer for small packets. A packet that fits costs one copy of its payload.
_BUFFER_BYTES = 1 << 17
#: Bytes of the first read where a large payload is expected: the headers of PUBLISH fit, and little
#: of the payload takes the way through the buffer for small packets.
_FIRST_BYTES = 2048
#: Longest fixed header: the first byte and a length of four bytes (MQTT 5.0, section 2.1.1).
_FIXED_HEADER_BYTES = 5
_PUBLISH = 3
#: Bytes of a PUBACK that says success (MQTT 5.0, section 3.4).
_PUBACK_BYTES = 4
_QOS_BITS = 0b110
_MORE = 0x80
#: Parts of one ``sendmsg``; Linux takes at most 1,024.
_MOST_PARTS = 64
#: A TLS socket sends one buffer a call: up to this size, parts are joined first.
_JOIN_BYTES = 1 << 16

#: Blocks of memory that are used again.
_MOST_BLOCKS = 2

#: The exceptions of a socket that has no data, or no room, at the moment.
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class PacketReader:
    """Reads packets from a non-blocking socket."""

    def __init__(self, sock: socket.socket, lock: threading.Lock) -> None:
        """Start without data.

        Args:
            sock: A non-blocking socket that is connected; for TLS, after the handshake.
            lock: The lock of the socket's writer.
        """
        self._socket = sock
        self._is_tls = isinstance(sock, ssl.SSLSocket)
        self._lock: AbstractContextManager[object] = lock if self._is_tls else nullcontext()
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        #: Bytes ``[start, stop)`` of the buffer hold data that is not decoded yet.
        self._start = self._stop = 0
        #: A packet that is larger than the buffer, and the part of its payload that is missing.
        self._large: mqtt5.Packet | None = None
        self._payload = self._missing = memoryview(b"")
        #: Whether the last message was a large packet: the next one probably is, too.
        self._expects_large = False
        self._blocks = _Blocks()

    @property
    def may_wait_for(self) -> int:
        """Number of bytes that the socket may gather before the next read: 1 if any byte counts.

        An acknowledgement alone, of 4 bytes, is not worth waking a thread. It is read with the next
        message. Each byte counts for the rest of a packet, and TLS keeps bytes of its own.
        """
        is_partial = self._large is not None or self._stop > 0
        return 1 if is_partial or self._is_tls else _PUBACK_BYTES + 1

    def read(self) -> list[tuple[mqtt5.Packet, Buffer]]:
        """Return the packets that have arrived, each PUBLISH packet with its payload.

        Raises:
            EOFError: The other end closed the connection, and all packets were returned before.
            OSError: The connection broke, and all packets were returned before.
            ValueError: The data is not MQTT.
        """
        packets: list[tuple[mqtt5.Packet, Buffer]] = []
        try:
            while self._receive(packets):
                pass
        except (EOFError, OSError):
            # The last packet before the end has the reason. The next call meets the end again.
            if not packets:
                raise
        return packets

    def _receive(self, packets: list[tuple[mqtt5.Packet, Buffer]]) -> bool:
        """Read once and decode; return whether the socket may have more data."""
        if self._large is not None:
            target = self._missing
        elif self._expects_large and not self._stop:
            target = self._buffer[:_FIRST_BYTES]
        else:
            target = self._buffer[self._stop :]
        try:
            with self._lock:
                count = self._socket.recv_into(target)
        except WOULD_BLOCK:
            return False
        if not count:
            raise EOFError
        if self._large is None:
            self._stop += count
            self._decode(packets)
            # A TLS socket gives one record a call.
            return count == len(target) or self._is_tls
        self._missing = self._missing[count:]
        if not self._missing:
            packets.append((self._large, self._payload))
            self._large, self._payload = None, self._missing
        return self._is_tls

    def _decode(self, packets: list[tuple[mqtt5.Packet, Buffer]]) -> None:
        """Decode the packets in the buffer; begin a large packet, or make room for the rest."""
        while self._start < self._stop:
            view = self._buffer[self._start : self._stop]
            try:
                packet, size = mqtt5.read(view)
            except IndexError:
                if not self._begin_large(view):
                    if self._start:
                        self._buffer[: len(view)] = bytes(view)
                    self._start, self._stop = 0, len(view)
                    return
                break
            payload: Buffer = b""
            if isinstance(packet, mqtt5.PublishPacket):
                payload, self._expects_large = packet.payload, False
            packets.append((packet, payload))
            self._start += size
        self._start = self._stop = 0

    def _begin_large(self, view: memoryview) -> bool:
        """Begin a packet that does not fit the buffer; return whether there is one."""
        sizes = _fixed_header(view)
        if sizes is None or sum(sizes) <= len(self._buffer):
            return False
        header, remaining = sizes
        body = view[header:]
        end = _end_of_properties(view[0], body) if view[0] >> 4 == _PUBLISH else None
        if end is None:
            if len(view) < len(self._buffer):
                return False
            raise ValueError("A packet's header is longer than 128 KiB.")
        self._expects_large = True
        packet, _ = mqtt5.read(memoryview(view[:1].tobytes() + _length(end) + bytes(body[:end])))
        self._payload = self._blocks.take(remaining - end)
        here = body[end:]
        self._payload[: len(here)] = here
        self._large, self._missing = packet, self._payload[len(here) :]
        return True


class _Blocks:
    """Memory for large payloads, used again once nothing refers to a payload.

    A heap gives a large block back to the system when the block is free, and the next payload of
    3 MB takes 800 page faults: a third of an agent's time for such a message.
    """

    def __init__(self) -> None:
        self._blocks: list[NDArray[np.uint8]] = []

    def take(self, size_bytes: int) -> memoryview:
        """Return a block of this size with any content."""
        for place in range(len(self._blocks)):
            # A payload in use refers to its block.
            if _references(self._blocks, place) == _UNUSED and (
                self._blocks[place].nbytes == size_bytes
            ):
                return self._blocks[place].data
        # Imported late, because an agent goes online before the import. Unlike bytearray, numpy
        # does not fill the memory with zeros first.
        import numpy as np  # noqa: PLC0415

        block = np.empty(size_bytes, np.uint8)
        # Only the last sizes are kept: a deployment that ended needs no memory.
        self._blocks = [*self._blocks[1 - _MOST_BLOCKS :], block]
        return block.data


def _references(items: Sequence[object], place: int) -> int:
    return sys.getrefcount(items[place])


#: References to an item to which only its list refers. The number depends on Python's version.
_UNUSED = _references([object()], 0)


class PacketWriter:
    """Writes packets to a non-blocking socket. Methods may be called from any thread."""

    def __init__(self, sock: socket.socket) -> None:
        """Start without waiting data.

        Args:
            sock: A non-blocking socket that is connected; for TLS, after the handshake.
        """
        self._socket = sock
        self._is_tls = isinstance(sock, ssl.SSLSocket)
        #: A TLS socket allows one call at a time, to read or to write.
        self.lock = threading.Lock()
        self._waiting: deque[memoryview] = deque()
        self.waiting_bytes = 0

    def write(self, *parts: Buffer) -> None:
        """Send what the socket takes now, and keep a copy of the rest for :meth:`flush`.

        Raises:
            OSError: The connection broke.
        """
        views = [memoryview(part) for part in parts]
        with self.lock:
            if not self._waiting:
                views = self._send(views)
            for view in views:
                self._waiting.append(memoryview(bytes(view)))
                self.waiting_bytes += len(view)

    def flush(self) -> None:
        """Send what the socket takes now of the data that waits.

        Raises:
            OSError: The connection broke.
        """
        with self.lock:
            while self._waiting:
                parts = list(islice(self._waiting, _MOST_PARTS))
                left = self._send(parts)
                for _ in range(len(parts)):
                    self._waiting.popleft()
                self._waiting.extendleft(reversed(left))
                sent = sum(map(len, parts)) - sum(map(len, left))
                self.waiting_bytes -= sent
                if left:
                    return

    def _send(self, parts: Sequence[memoryview]) -> list[memoryview]:
        """Send in one call if possible; return the parts that the socket did not take."""
        left = [part for part in parts if part.nbytes]
        if self._is_tls and sum(map(len, left)) <= _JOIN_BYTES:
            left = [memoryview(b"".join(left))] if left else []
        while left:
            try:
                sent = self._socket.send(left[0]) if self._is_tls else self._socket.sendmsg(left)
            except WOULD_BLOCK:
                break
            while left and sent >= len(left[0]):
                sent -= len(left.pop(0))
            if left and sent:
                left[0] = left[0][sent:]
        return left


def publish_header(
    topic: str,
    payload_bytes: int,
    packet_id: int,
    *,
    response_topic: str | None = None,
    correlation_data: bytes = b"",
    expiry_s: int | None = None,
    user: Iterable[tuple[str, str]] = (),
) -> bytes:
    """Return a PUBLISH packet up to its payload.

    Args:
        topic: Topic of the message.
        payload_bytes: Size of the payload, in bytes.
        packet_id: Packet id, from 1 to 65,535; 0 for quality of service 0, else 1.
        response_topic: Topic for the answer.
        correlation_data: Request id that the answer repeats.
        expiry_s: Time to live at the broker, in seconds.
        user: User properties.

    Raises:
        ValueError: A topic has wildcards, or a property has more than 65,535 bytes.
    """
    packet = mqtt5.PublishPacket(
        topic,
        b"",
        qos=mqtt5.QoS.AT_LEAST_ONCE if packet_id else mqtt5.QoS.AT_MOST_ONCE,
        packet_id=packet_id or None,
        message_expiry_interval=expiry_s,
        response_topic=response_topic or None,
        correlation_data=correlation_data or None,
        user_properties=list(user),
    ).write()
    # The length after the first byte is that of an empty payload: a byte with bit 7 continues.
    start = 2
    while packet[start - 1] >= _MORE:
        start += 1
    return packet[:1] + _length(len(packet) - start + payload_bytes) + packet[start:]


def _fixed_header(view: memoryview) -> tuple[int, int] | None:
    """Return the fixed header's size and the bytes after it; None if bytes are missing."""
    value = 0
    for place in range(1, min(_FIXED_HEADER_BYTES, len(view))):
        byte = view[place]
        value |= (byte % _MORE) << 7 * (place - 1)
        if byte < _MORE:
            return place + 1, value
    return None


def _end_of_properties(first: int, body: memoryview) -> int | None:
    """Return the place where a PUBLISH packet's payload starts; None if bytes are missing."""
    if len(body) < 2:  # noqa: PLR2004 - the bytes of a topic's length
        return None
    place = 2 + int.from_bytes(body[:2], "big") + (2 if first & _QOS_BITS else 0)
    sizes = _fixed_header(body[place - 1 :])
    if sizes is None:
        return None
    end = place - 1 + sum(sizes)
    return end if end <= len(body) else None


def _length(value: int) -> bytes:
    """Return a variable byte integer (MQTT 5.0, section 1.5.5)."""
    coded = bytearray()
    while value >= _MORE:
        coded.append(value % _MORE | _MORE)
        value //= _MORE
    coded.append(value)
    return bytes(coded)
