"""Packets over real sockets: split anywhere, of any size, through slow readers and through TLS."""

from __future__ import annotations

import os
import select
import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import mqtt5
import numpy as np
import pytest

from edge_core.mqtt.packet_stream import PacketReader, PacketWriter, publish_header

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge_core.mqtt.packet_stream import Buffer

PATIENCE_S = 20.0
#: Around the buffer of 128 KiB, and far above.
SIZES = (0, 1, 127, 128, 16_383, 16_384, 130_900, 131_072, 131_073, 300_000, 5_000_000)


@contextmanager
def socket_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        near.settimeout(0)
        far.settimeout(0)
        yield near, far


def packet_of(payload: bytes, *, packet_id: int = 7, topic: str = "a/b") -> bytes:
    header = publish_header(
        topic,
        len(payload),
        packet_id,
        response_topic="r",
        correlation_data=b"12345678",
        expiry_s=9,
        user=[("generation", "g"), ("trace", "t" * 300)],
    )
    return header + payload


def read_all(
    reader: PacketReader, sock: socket.socket, count: int
) -> list[tuple[mqtt5.Packet, Buffer]]:
    """Read until ``count`` packets have arrived."""
    packets: list[tuple[mqtt5.Packet, Buffer]] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(packets) < count:
        assert time.monotonic() < deadline
        select.select([sock], [], [], 1.0)
        packets += reader.read()
    return packets


def send_in_thread(sock: socket.socket, data: bytes) -> threading.Thread:
    def send() -> None:
        view = memoryview(data)
        while view:
            select.select([], [sock], [], 1.0)
            view = view[sock.send(view[:50_000]) :]

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def test_a_header_and_a_payload_are_the_packet_that_mqtt5_writes() -> None:
    for size in SIZES:
        payload = bytes(size)
        expected = mqtt5.PublishPacket(
            "a/b",
            payload,
            qos=mqtt5.QoS.AT_LEAST_ONCE,
            packet_id=7,
            message_expiry_interval=9,
            response_topic="r",
            correlation_data=b"12345678",
            user_properties=[("generation", "g"), ("trace", "t" * 300)],
        ).write()
        assert packet_of(payload) == expected


def test_quality_of_service_0_has_no_packet_id() -> None:
    packet, _ = mqtt5.read(memoryview(publish_header("a", 0, 0)))
    assert isinstance(packet, mqtt5.PublishPacket)
    assert (int(packet.qos), packet.packet_id) == (0, None)


@pytest.mark.parametrize("topic", ["a/+", "#", ""])
def test_a_topic_that_no_message_may_have_is_refused(topic: str) -> None:
    with pytest.raises(ValueError, match="opic"):
        publish_header(topic, 0, 1)


def test_packets_may_be_split_at_every_byte() -> None:
    data = packet_of(b"first" * 9) + mqtt5.PubAckPacket(3).write() + packet_of(b"second")
    for place in range(1, len(data)):
        with socket_pair() as (near, far):
            reader = PacketReader(far, threading.Lock())
            near.sendall(data[:place])
            packets = reader.read()
            near.sendall(data[place:])
            packets += reader.read()
        assert [bytes(payload) for _, payload in packets] == [b"first" * 9, b"", b"second"]


@pytest.mark.parametrize("size", SIZES)
def test_payloads_of_every_size_arrive_unchanged_between_small_packets(size: int) -> None:
    payload = np.random.default_rng(size).bytes(size)
    small = packet_of(b"small", packet_id=1)
    with socket_pair() as (near, far):
        reader = PacketReader(far, threading.Lock())
        sender = send_in_thread(near, small + packet_of(payload) + small + packet_of(payload))
        packets = read_all(reader, far, 4)
        sender.join()
        assert reader.read() == []
    assert [bytes(found) for _, found in packets] == [b"small", payload, b"small", payload]
    for (packet, _), packet_id in zip(packets, (1, 7, 1, 7), strict=True):
        assert isinstance(packet, mqtt5.PublishPacket)
        assert (packet.topic, packet.packet_id) == ("a/b", packet_id)
        assert packet.user_properties[0] == ("generation", "g")
        assert packet.correlation_data == b"12345678"


def test_a_large_payload_in_use_keeps_its_content() -> None:
    """Memory is used again only after the payload is dropped."""
    payloads = [np.random.default_rng(seed).bytes(400_000) for seed in range(6)]
    with socket_pair() as (near, far):
        reader = PacketReader(far, threading.Lock())
        sender = send_in_thread(near, b"".join(map(packet_of, payloads)))
        packets = read_all(reader, far, len(payloads))
        sender.join()
        assert [bytes(found) for _, found in packets] == payloads
        addresses = {id(found.obj) for _, found in packets if isinstance(found, memoryview)}
        assert len(addresses) == len(payloads)
        del packets
        sender = send_in_thread(near, packet_of(payloads[0]))
        ((_, again),) = read_all(reader, far, 1)
        sender.join()
        assert isinstance(again, memoryview)
        assert id(again.obj) in addresses
        assert bytes(again) == payloads[0]


@pytest.mark.parametrize(
    "data",
    [b"\xf1\x00", b"\x30\xff\xff\xff\xff\x01", b"\x3e\x03\x00\x01a"],
)
def test_bytes_that_are_not_mqtt_are_an_error(data: bytes) -> None:
    with socket_pair() as (near, far):
        near.sendall(data)
        with pytest.raises(ValueError, match=r"\w"):
            PacketReader(far, threading.Lock()).read()


def test_a_header_that_is_longer_than_the_buffer_is_an_error_and_takes_no_memory() -> None:
    user = [("k", "v" * 60_000)] * 4
    data = publish_header("a", 50_000_000, 1, user=user)
    with socket_pair() as (near, far):
        reader = PacketReader(far, threading.Lock())
        sender = threading.Thread(target=send_quietly, args=(near, data))
        sender.start()
        with pytest.raises(ValueError, match="header is longer"):
            read_all(reader, far, 1)
        far.close()
        sender.join()


def send_quietly(sock: socket.socket, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            select.select([], [sock], [], 1.0)
            view = view[sock.send(view[:50_000]) :]
    except OSError:
        return


def test_a_closed_connection_is_an_end_of_file() -> None:
    with socket_pair() as (near, far):
        near.close()
        with pytest.raises(EOFError):
            PacketReader(far, threading.Lock()).read()


def test_a_writer_keeps_what_the_socket_does_not_take_in_order() -> None:
    messages = [np.random.default_rng(seed).bytes(900_000) for seed in range(3)]
    with socket_pair() as (near, far):
        writer, reader = PacketWriter(near), PacketReader(far, threading.Lock())
        for message in messages:
            buffer = bytearray(message)
            writer.write(packet_of(message)[: -len(message)], memoryview(buffer))
            # The caller may use the buffer again at once.
            buffer[:] = bytes(len(buffer))
        assert writer.waiting_bytes > 0
        packets: list[tuple[mqtt5.Packet, Buffer]] = []
        deadline = time.monotonic() + PATIENCE_S
        while len(packets) < len(messages):
            assert time.monotonic() < deadline
            writer.flush()
            packets += reader.read()
        assert writer.waiting_bytes == 0
    assert [bytes(found) for _, found in packets] == messages


def test_packets_of_several_threads_do_not_mix() -> None:
    count, threads = 50, 4
    with socket_pair() as (near, far):
        writer, reader = PacketWriter(near), PacketReader(far, threading.Lock())

        def write(number: int) -> None:
            for _ in range(count):
                payload = bytes([number]) * (1000 + 3000 * number)
                writer.write(packet_of(payload)[: -len(payload)], payload)

        writers = [threading.Thread(target=write, args=(number,)) for number in range(threads)]
        for thread in writers:
            thread.start()
        payloads: list[bytes] = []
        deadline = time.monotonic() + PATIENCE_S
        while len(payloads) < count * threads:
            assert time.monotonic() < deadline
            writer.flush()
            payloads += [bytes(payload) for _, payload in reader.read()]
        for thread in writers:
            thread.join()
    assert sorted(set(payloads)) == [
        bytes([number]) * (1000 + 3000 * number) for number in range(threads)
    ]


@contextmanager
def tls_pair(folder: Path) -> Iterator[tuple[ssl.SSLSocket, ssl.SSLSocket]]:
    """Two ends of a TLS connection, which do not block."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    words += ["-nodes", "-days", "2", "-subj", "/CN=test", "-addext"]
    words += ["subjectAltName=DNS:test", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(words, check=True, capture_output=True)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    client = ssl.create_default_context(cafile=str(certificate))
    near, far = socket.socketpair()
    accepted: list[ssl.SSLSocket] = []
    thread = threading.Thread(
        target=lambda: accepted.append(server.wrap_socket(far, server_side=True))
    )
    thread.start()
    with client.wrap_socket(near, server_hostname="test") as one:
        thread.join()
        with accepted[0] as other:
            one.settimeout(0)
            other.settimeout(0)
            yield one, other


def test_large_packets_pass_tls_in_both_directions_at_once(tmp_path: Path) -> None:
    payloads = [os.urandom(size) for size in (10, 70_000, 3_000_000, 0, 200_000)]
    data = [(packet_of(payload)[: len(packet_of(payload)) - len(payload)], payload)
            for payload in payloads]  # fmt: skip
    with tls_pair(tmp_path) as ends:
        writers = [PacketWriter(end) for end in ends]
        readers = [
            PacketReader(end, writer.lock) for end, writer in zip(ends, writers, strict=True)
        ]
        found: list[list[bytes]] = [[], []]

        def exchange(side: int) -> None:
            for header, payload in data:
                writers[side].write(header, payload)
            deadline = time.monotonic() + PATIENCE_S
            while len(found[side]) < len(payloads) or writers[side].waiting_bytes:
                assert time.monotonic() < deadline
                writers[side].flush()
                found[side] += [bytes(payload) for _, payload in readers[side].read()]

        threads = [threading.Thread(target=exchange, args=(side,)) for side in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [payloads, payloads]
