"""Reads and writes MQTT packets on a non-blocking socket, with few copies of payloads.

:class:`PacketReader` reads all small packets into the same buffer. It reads the payload of a large
PUBLISH packet directly into a buffer of the payload's size. :class:`PacketWriter` passes
a header and the payload's buffers to one ``sendmsg`` call. It copies only the bytes that the socket
did not take.

The package ``mqtt5`` encodes and decodes packets, and copies their payloads. To avoid the copy of a
large payload, this module gives ``mqtt5`` only the part of the packet before the payload: fixed
header, topic and properties.
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

#: Size of the buffer for small packets, in bytes. The payload of a small packet is copied once.
_BUFFER_BYTES = 1 << 17
#: Size of the first read if a large payload is expected, in bytes: large enough for the part of a
#: PUBLISH packet before the payload, and small enough that little of the payload is copied.
_FIRST_BYTES = 2048
#: Size of the longest fixed header: the first byte and a length of four bytes (MQTT 5.0, section
#: 2.1.1).
_FIXED_HEADER_BYTES = 5
#: Packet type of PUBLISH (MQTT 5.0, section 2.1.2).
_PUBLISH = 3
#: Size of a PUBACK packet that reports success, in bytes (MQTT 5.0, section 3.4).
_PUBACK_BYTES = 4
#: Bits of a PUBLISH packet's first byte with the quality of service (MQTT 5.0, section 3.3.1).
_QOS_BITS = 0b110
#: Bit of a variable byte integer's byte that says that another byte follows.
_MORE = 0x80
#: Largest number of buffers in one ``sendmsg`` call. Linux accepts at most 1,024.
_MOST_PARTS = 64
#: A TLS socket sends one buffer in each call. Parts of up to this total size, in bytes, are joined.
_JOIN_BYTES = 1 << 16

#: Largest number of memory blocks that are kept for later payloads.
_MOST_BLOCKS = 2

#: The exceptions of a non-blocking socket that has no data to read, or takes no data at present.
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class PacketReader:
    """Reads packets from a non-blocking socket."""

    def __init__(self, sock: socket.socket, lock: threading.Lock) -> None:
        """Start without data.

        Args:
            sock: A connected non-blocking socket; for TLS, after the handshake.
            lock: The lock of the :class:`PacketWriter` on the same socket.
        """
        self._socket = sock
        self._is_tls = isinstance(sock, ssl.SSLSocket)
        self._lock: AbstractContextManager[object] = lock if self._is_tls else nullcontext()
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        #: The bytes ``[start, stop)`` of the buffer are not decoded yet.
        self._start = self._stop = 0
        #: A large packet whose payload has not arrived completely; None: there is no such packet.
        self._large: mqtt5.Packet | None = None
        #: The memory of that packet's payload, and the part of this memory that is still missing.
        self._payload = self._missing = memoryview(b"")
        #: Whether the last message was a large packet. The next message is then probably large too.
        self._expects_large = False
        self._blocks = _Blocks()

    @property
    def may_wait_for(self) -> int:
        """Least number of unread bytes at the socket that must wake the reading thread: 1 or 5.

        With 5 bytes, an acknowledgement alone wakes no thread: it has 4 bytes and is read with the
        next message. The value is 1 if a part of a packet has been read. With TLS the value is
        always 1, because the number of decrypted bytes is unknown.
        """
        is_partial = self._large is not None or self._stop > 0
        return 1 if is_partial or self._is_tls else _PUBACK_BYTES + 1

    def read(self) -> list[tuple[mqtt5.Packet, Buffer]]:
        """Return the packets that have arrived, each with its payload.

        Only PUBLISH packets have a payload; the payload of other packets is empty.
        If the connection ends, the method first returns all packets that arrived before the end.
        The next call raises the error.

        Raises:
            EOFError: The other end closed the connection.
            OSError: The connection broke.
            ValueError: The data is not MQTT.
        """
        packets: list[tuple[mqtt5.Packet, Buffer]] = []
        try:
            while self._receive(packets):
                pass
        except (EOFError, OSError):
            # The last packet before the end may give the reason. The next call gets the same error.
            if not packets:
                raise
        return packets

    def _receive(self, packets: list[tuple[mqtt5.Packet, Buffer]]) -> bool:
        """Read from the socket once, and decode; return whether the socket may have more data."""
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
            # A TLS socket returns at most one TLS record in each call.
            return count == len(target) or self._is_tls
        self._missing = self._missing[count:]
        if not self._missing:
            packets.append((self._large, self._payload))
            self._large, self._payload = None, self._missing
        return self._is_tls

    def _decode(self, packets: list[tuple[mqtt5.Packet, Buffer]]) -> None:
        """Decode all complete packets in the buffer, and handle an incomplete packet at its end.

        The payload of an incomplete large packet gets memory of its own. An incomplete small packet
        moves to the start of the buffer.
        """
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
        """If ``view`` starts with a large PUBLISH packet, allocate the memory of its payload.

        Returns:
            Whether ``view`` starts with a PUBLISH packet that is larger than the buffer, and
            contains the whole part of this packet before the payload.

        Raises:
            ValueError: The part of a packet before the payload is larger than the buffer.
        """
        sizes = _fixed_header(view)
        if sizes is None or sum(sizes) <= len(self._buffer):
            return False
        header, remaining = sizes
        body = view[header:]
        end = _end_of_properties(view[0], body) if view[0] >> 4 == _PUBLISH else None
        if end is None:
            if len(view) < len(self._buffer):
                return False
            raise ValueError("a packet's header is longer than 128 KiB, the client's limit")
        self._expects_large = True
        packet, _ = mqtt5.read(memoryview(view[:1].tobytes() + _length(end) + bytes(body[:end])))
        self._payload = self._blocks.take(remaining - end)
        here = body[end:]
        self._payload[: len(here)] = here
        self._large, self._missing = packet, self._payload[len(here) :]
        return True


class _Blocks:
    """Memory blocks for large payloads. A block is used again when nothing refers to its payload.

    Without this class, Python returns the memory of each large payload to the system. A new payload
    of 3 MB then causes 800 page faults. They take a third of the time that an agent spends on a
    message of this size.
    """

    def __init__(self) -> None:
        self._blocks: list[NDArray[np.uint8]] = []

    def take(self, size_bytes: int) -> memoryview:
        """Return a writable block of ``size_bytes`` bytes; its content is undefined."""
        for place in range(len(self._blocks)):
            # A payload that is in use holds a reference to its block.
            if _references(self._blocks, place) == _UNUSED and (
                self._blocks[place].nbytes == size_bytes
            ):
                return self._blocks[place].data
        # The import is here because it takes long, and an agent first goes online. Unlike
        # bytearray, np.empty does not fill the memory with zeros.
        import numpy as np  # noqa: PLC0415

        block = np.empty(size_bytes, np.uint8)
        # Only the newest blocks are kept: the sizes of a deployment that ended are not needed.
        self._blocks = [*self._blocks[1 - _MOST_BLOCKS :], block]
        return block.data


def _references(items: Sequence[object], place: int) -> int:
    return sys.getrefcount(items[place])


#: Reference count of an item that only its list refers to. The count depends on Python's version.
_UNUSED = _references([object()], 0)


class PacketWriter:
    """Writes packets to a non-blocking socket. Methods may be called from any thread."""

    def __init__(self, sock: socket.socket) -> None:
        """Start without data to send.

        Args:
            sock: A connected non-blocking socket; for TLS, after the handshake.
        """
        self._socket = sock
        self._is_tls = isinstance(sock, ssl.SSLSocket)
        #: Held during each call of the socket: a TLS socket allows one read or write at a time.
        self.lock = threading.Lock()
        self._waiting: deque[memoryview] = deque()
        #: Number of bytes that the socket has not taken yet.
        self.waiting_bytes = 0

    def write(self, *parts: Buffer) -> None:
        """Send as many bytes as the socket takes now; keep a copy of the rest for :meth:`flush`.

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
        """Send as many of the waiting bytes as the socket takes now.

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
        """Send parts, in one call if possible; return the parts that the socket did not take."""
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
    """Return the part of a PUBLISH packet before its payload.

    Args:
        topic: Topic of the message.
        payload_bytes: Size of the payload, in bytes.
        packet_id: Packet id from 1 to 65,535, for quality of service 1; 0 for quality of service 0.
        response_topic: Topic for the answer.
        correlation_data: Request id. The answer contains the same id.
        expiry_s: Time for which the broker keeps the message for a disconnected receiver, in
            seconds; None: no limit.
        user: Names and values of the user properties.

    Raises:
        ValueError: A topic contains wildcards, or a property has more than 65,535 bytes.
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
    # The encoded length counts an empty payload, so the length is replaced. The length starts at
    # index 1, and its last byte is the first byte without bit 7.
    start = 2
    while packet[start - 1] >= _MORE:
        start += 1
    return packet[:1] + _length(len(packet) - start + payload_bytes) + packet[start:]


def _fixed_header(view: memoryview) -> tuple[int, int] | None:
    """Return a fixed header's size, and the size of the rest of the packet, in bytes.

    The result is None if ``view`` does not contain the whole fixed header.
    """
    value = 0
    for place in range(1, min(_FIXED_HEADER_BYTES, len(view))):
        byte = view[place]
        value |= (byte % _MORE) << 7 * (place - 1)
        if byte < _MORE:
            return place + 1, value
    return None


def _end_of_properties(first: int, body: memoryview) -> int | None:
    """Return the index in ``body`` at which a PUBLISH packet's payload starts.

    Args:
        first: First byte of the packet.
        body: Bytes of the packet after its fixed header.

    Returns:
        The index; None if ``body`` ends before the payload.
    """
    if len(body) < 2:  # noqa: PLR2004 - the topic's length takes two bytes
        return None
    place = 2 + int.from_bytes(body[:2], "big") + (2 if first & _QOS_BITS else 0)
    sizes = _fixed_header(body[place - 1 :])
    if sizes is None:
        return None
    end = place - 1 + sum(sizes)
    return end if end <= len(body) else None


def _length(value: int) -> bytes:
    """Encode a number as a variable byte integer (MQTT 5.0, section 1.5.5)."""
    coded = bytearray()
    while value >= _MORE:
        coded.append(value % _MORE | _MORE)
        value //= _MORE
    coded.append(value)
    return bytes(coded)
