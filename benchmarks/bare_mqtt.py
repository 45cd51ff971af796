"""A minimal MQTT 5 client on a blocking socket, the reference for the benchmarks of this project.

    python benchmarks/bare_mqtt.py --port 1883 --topic echo     # echo: answers with the payload

The client has one thread and no queue. It receives each payload into the same buffer, and the echo
sends the payload from this buffer without a copy. A message and the acknowledgement that is due are
sent by one call of `sendmsg`. The socket has TCP_NODELAY. A TLS socket has no `sendmsg`, and
receives at most one record of 16 kB in each call, so the client makes several calls.

The client handles no errors: an error ends the benchmark.
"""

from __future__ import annotations

import argparse
import contextlib
import select
import socket
import ssl
import struct
import sys
from typing import NamedTuple, Self

#: First bytes of packets: PUBLISH with QoS 1, and other packet types (MQTT 5.0, section 2.1).
_PUBLISH_QOS_1 = 0x32
_PUBACK = 0x40
_DISCONNECT = 0xE0
_TYPE = 0xF0
_PUBLISH = 0x30
_CONNECTED = 0x20
_SUBSCRIBED = 0x90
#: Identifiers of properties (section 2.2.2.2), and the sizes of their values in bytes.
_RESPONSE_TOPIC, _CORRELATION_DATA, _USER_PROPERTY = 0x08, 0x09, 0x26
_SIZES = {0x01: 1, 0x02: 4, 0x23: 2}
_DATA = frozenset({0x03, _RESPONSE_TOPIC, _CORRELATION_DATA})
_CONTENT_ALIGNED_TO = 64
_TLS_RECORD_BYTES = 16_384
_VARIABLE_MORE = 0x80
#: Smallest reason code that means a refusal (section 2.4).
_REFUSED = 0x80


class Received(NamedTuple):
    """A PUBLISH packet.

    Attributes:
        topic: Topic of the message.
        packet_id: Packet id, which the acknowledgement names; 0: QoS 0.
        response_topic: Response topic; empty: none.
        correlation_data: Correlation data; empty: none.
        is_error: Whether the message has the user property ``error``.
        payload: Payload, a view of the receive buffer. The next call of :meth:`BareClient.receive`
            overwrites the view.
    """

    topic: bytes
    packet_id: int
    response_topic: bytes
    correlation_data: bytes
    is_error: bool
    payload: memoryview


class BareClient:
    """One MQTT 5 connection, used in the caller's thread. A context manager."""

    def __init__(
        self,
        port: int,
        client_id: str,
        *,
        ca_file: str | None = None,
        timeout_s: int = 60,
        buffer_bytes: int = 1 << 24,
    ) -> None:
        """Connect to a broker on this machine.

        Args:
            port: TCP port.
            client_id: MQTT client id.
            ca_file: Certificate to trust; None: no TLS.
            timeout_s: Longest wait for a packet, in seconds; 0: no limit.
            buffer_bytes: Size of the receive buffer, in bytes; more than the largest packet.
        """
        link = socket.create_connection(("127.0.0.1", port), 20)
        link.settimeout(None)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The timeout is the kernel's: a timeout of Python would add a call of poll to each recv.
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", timeout_s, 0))
        self._tls: ssl.SSLSocket | None = None
        if ca_file is not None:
            context = ssl.create_default_context(cafile=ca_file)
            self._tls = link = context.wrap_socket(link, server_hostname="127.0.0.1")
        self.socket = link
        self._buffer = memoryview(bytearray(buffer_bytes))
        # Received bytes that are not read yet are in [start, end). The last read packet began at
        # `head`. The next packet is received at `lead` if the buffer is empty.
        self._start = self._end = self._head = self._lead = 0
        self._packet_id = 0
        self._owed = b""
        name = client_id.encode()
        # Protocol 5, clean start, no keep-alive, no properties.
        body = b"\x00\x04MQTT\x05\x02\x00\x00\x00" + _data(name)
        self._send(b"\x10" + _variable(len(body)) + body)
        kind, start, _ = self._read_packet()
        if kind != _CONNECTED or self._buffer[start + 1] >= _REFUSED:
            raise SystemExit(f"The broker refused the connection of {client_id}.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._send(self._owed + bytes((_DISCONNECT, 0)))
        self.socket.close()

    def abort(self) -> None:
        """End the connection at once. A call that waits in another thread raises an error."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def subscribe(self, topic: str) -> None:
        """Subscribe with QoS 1 and wait for the answer; drop messages that arrive before it."""
        body = self._next_packet_id() + b"\x00" + _data(topic.encode()) + b"\x01"
        self._send(b"\x82" + _variable(len(body)) + body)
        while True:
            kind, _, stop = self._read_packet()
            if kind == _SUBSCRIBED:
                break
        if self._buffer[stop - 1] >= _REFUSED:
            raise SystemExit(f"The broker refused the subscription to {topic}.")

    def publish(
        self,
        topic: bytes,
        payload: bytes | bytearray | memoryview,
        *,
        response_topic: bytes = b"",
        correlation_data: bytes = b"",
    ) -> None:
        """Send the acknowledgements that are due, and then a message with QoS 1."""
        properties = b""
        if response_topic:
            properties = bytes((_RESPONSE_TOPIC,)) + _data(response_topic)
        if correlation_data:
            properties += bytes((_CORRELATION_DATA,)) + _data(correlation_data)
        head = _data(topic) + self._next_packet_id() + _variable(len(properties)) + properties
        first = bytes((_PUBLISH_QOS_1,)) + _variable(len(head) + len(payload))
        owed, self._owed = self._owed, b""
        self._send(owed + first + head, payload)

    def receive(self) -> Received:
        """Wait for the next message. The next sent message also sends its acknowledgement."""
        while True:
            kind, start, stop = self._read_packet()
            if kind & _TYPE == _PUBLISH:
                return self._read_publish(kind, start, stop)

    def is_readable(self, timeout_s: float) -> bool:
        """Wait up to ``timeout_s`` for the bytes of any packet; return whether some arrived."""
        return self._start < self._end or bool(select.select([self.socket], [], [], timeout_s)[0])

    def acknowledge(self) -> None:
        """Send the acknowledgements that are due now."""
        if self._owed:
            owed, self._owed = self._owed, b""
            self._send(owed)

    def _next_packet_id(self) -> bytes:
        self._packet_id = self._packet_id % 65_535 + 1
        return self._packet_id.to_bytes(2, "big")

    def _send(self, head: bytes, payload: bytes | bytearray | memoryview = b"") -> None:
        if self._tls is not None:
            first = max(0, _TLS_RECORD_BYTES - len(head))
            view = memoryview(payload)
            self._tls.sendall(head + bytes(view[:first]))
            if len(view) > first:
                self._tls.sendall(view[first:])
            return
        sent = self.socket.sendmsg((head, payload))
        if sent < len(head) + len(payload):
            whole = memoryview(payload)[max(0, sent - len(head)) :]
            self.socket.sendall(head[sent:] if sent < len(head) else b"")
            self.socket.sendall(whole)

    def _read_packet(self) -> tuple[int, int, int]:
        """Return the next packet's first byte, and the start and stop of its body in the buffer."""
        if self._start == self._end:
            self._start = self._end = self._lead
        while True:
            found = self._parse_head()
            if found is not None:
                break
            self._fill(1)
        start, stop = found
        if stop > len(self._buffer):
            start, stop = self._move_to_front(start, stop)
        if stop > self._end:
            self._fill(stop - self._end)
        kind = self._buffer[self._start]
        self._head, self._start = self._start, stop
        return kind, start, stop

    def _parse_head(self) -> tuple[int, int] | None:
        """Return the start and stop of the next packet's body; None: its head is incomplete."""
        length = shift = 0
        for place in range(self._start + 1, min(self._end, self._start + 5)):
            byte = self._buffer[place]
            length |= (byte & 0x7F) << shift
            shift += 7
            if not byte & _VARIABLE_MORE:
                return place + 1, place + 1 + length
        return None

    def _move_to_front(self, start: int, stop: int) -> tuple[int, int]:
        by, held = self._start, self._end - self._start
        self._buffer[:held] = bytes(self._buffer[self._start : self._end])
        self._start, self._end = 0, held
        return start - by, stop - by

    def _fill(self, least: int) -> None:
        """Receive at least ``least`` bytes.

        If ``least`` is 1, the length of the next packet is unknown, and more bytes may be received.
        """
        if least == 1:
            if self._end == len(self._buffer):
                self._move_to_front(0, 0)
            self._receive_into(self._buffer[self._end :])
            return
        wanted = self._end + least
        while self._end < wanted:
            self._receive_into(self._buffer[self._end : wanted])

    def _receive_into(self, place: memoryview) -> None:
        try:
            got = self.socket.recv_into(place)
        except (BlockingIOError, ssl.SSLWantReadError):
            raise TimeoutError("The broker sent no packet within the time limit.") from None
        if not got:
            raise ConnectionError("The broker closed the connection.")
        self._end += got

    def _read_publish(self, kind: int, start: int, stop: int) -> Received:
        view = self._buffer
        place = start + 2 + (view[start] << 8 | view[start + 1])
        topic = bytes(view[start + 2 : place])
        packet_id = 0
        if kind & 0x06:
            packet_id = view[place] << 8 | view[place + 1]
            self._owed += bytes((_PUBACK, 2, view[place], view[place + 1]))
            place += 2
        length, place = _read_variable(view, place)
        content = place + length
        response_topic, correlation_data, is_error = _read_properties(view, place, content)
        # If the next message has an equal head, its payload is aligned in the buffer. The
        # interpreter would copy a payload that is not aligned.
        self._lead = (self._head - content) % _CONTENT_ALIGNED_TO
        return Received(
            topic, packet_id, response_topic, correlation_data, is_error, view[content:stop]
        )


def _read_properties(view: memoryview, place: int, stop: int) -> tuple[bytes, bytes, bool]:
    response_topic = correlation_data = b""
    is_error = False
    while place < stop:
        identifier = view[place]
        place += 1
        if identifier in _DATA:
            value, place = _read_data(view, place)
            if identifier == _RESPONSE_TOPIC:
                response_topic = value
            elif identifier == _CORRELATION_DATA:
                correlation_data = value
        elif identifier == _USER_PROPERTY:
            key, place = _read_data(view, place)
            _, place = _read_data(view, place)
            is_error = is_error or key == b"error"
        elif identifier in _SIZES:
            place += _SIZES[identifier]
        else:
            raise SystemExit(f"A message has the unexpected property {identifier:#x}.")
    return response_topic, correlation_data, is_error


def _read_data(view: memoryview, place: int) -> tuple[bytes, int]:
    start = place + 2
    stop = start + (view[place] << 8 | view[place + 1])
    return bytes(view[start:stop]), stop


def _read_variable(view: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = view[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if not byte & _VARIABLE_MORE:
            return value, place
        shift += 7


def _data(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


def _variable(value: int) -> bytes:
    """Return a variable byte integer (MQTT 5.0, section 1.5.5)."""
    made = bytearray()
    while True:
        value, byte = divmod(value, 128)
        made.append(byte | (_VARIABLE_MORE if value else 0))
        if not value:
            return bytes(made)


def echo(client: BareClient) -> None:
    """Send each message's payload to its response topic, until the connection ends."""
    while True:
        message = client.receive()
        client.publish(
            message.response_topic, message.payload, correlation_data=message.correlation_data
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True, help="port of the broker")
    parser.add_argument("--topic", required=True, help="topic of the messages to answer")
    parser.add_argument("--ca-file", help="PEM file of the certificate to trust, for TLS")
    options = parser.parse_args()
    with BareClient(
        options.port, f"bare-{options.topic}", ca_file=options.ca_file, timeout_s=0
    ) as client:
        client.subscribe(options.topic)
        print("ready", flush=True)
        echo(client)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
