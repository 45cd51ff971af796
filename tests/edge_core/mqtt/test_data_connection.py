"""The connection for activations, against mosquitto and against servers that misbehave."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from any_topic import any_topic
from configured_mosquitto import configured_mosquitto
from connections import PATIENCE_S, address_of, name
from connections import listen as listen_with_paho
from mqtt_server import CONNACK, PINGREQ, Server

from broker_config.serve.mosquitto import MosquittoBroker
from edge_core.errors import BrokerRefusedError, BrokerUnreachableError, MessageTooLargeError
from edge_core.mqtt.broker_address import BrokerAddress
from edge_core.mqtt.connection import Connection
from edge_core.mqtt.data_connection import NO_SUBSCRIBERS, DataConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edge_core.mqtt.message import Message

SILENCE_S = 0.3
NOT_AUTHORIZED = 0x87
#: CONNACK with the properties receive maximum 2 and server keep-alive 1 s.
CONNACK_RECEIVE_2 = b"\x20\x06\x00\x00\x03\x21\x00\x02"
CONNACK_KEEP_ALIVE_1 = b"\x20\x06\x00\x00\x03\x13\x00\x01"


@contextmanager
def opened(address: BrokerAddress, **options: Any) -> Iterator[DataConnection]:
    connection = DataConnection(address, options.pop("client_id", name()), **options)
    try:
        connection.open()
        yield connection
    finally:
        connection.close()


def step_until(
    connection: DataConnection, holds: Callable[[], object], timeout_s: float = PATIENCE_S
) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        connection.step(0.05)


def step_for(connection: DataConnection, time_s: float = SILENCE_S) -> None:
    deadline = time.monotonic() + time_s
    while (left_s := deadline - time.monotonic()) > 0:
        connection.step(left_s)


def publish(broker: MosquittoBroker, topic: str, *payloads: bytes) -> None:
    with Connection(address_of(broker), name()) as publisher:
        for payload in payloads:
            publisher.publish_and_wait(any_topic(topic), payload)


def payloads_of(messages: list[Message]) -> list[bytes]:
    return [bytes(message.payload) for message in messages]


def kinds(data: bytes) -> list[int]:
    """Return the types of the packets in ``data``; all are shorter than 130 bytes."""
    found, place = [], 0
    while place < len(data):
        found.append(data[place] >> 4)
        place += 2 + data[place + 1]
    return found


# Opening


def test_a_broker_that_is_not_there_is_unreachable() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        connection = DataConnection(BrokerAddress("127.0.0.1", probe.getsockname()[1]), name())
        with pytest.raises(BrokerUnreachableError, match="Connection refused"):
            connection.open()


def test_a_server_that_never_answers_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = BrokerAddress("127.0.0.1", mute.getsockname()[1])
        with pytest.raises(BrokerUnreachableError, match="no answer"):
            DataConnection(address, name()).open(0.2)


def test_a_server_of_another_protocol_is_unreachable() -> None:
    with Server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as server:
        connection = DataConnection(server.address, name())
        with pytest.raises((BrokerUnreachableError, BrokerRefusedError)):
            connection.open(0.5)
        assert not connection.is_connected


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1, with its key in ``key.pem`` beside it."""
    folder = tmp_path_factory.mktemp("certificate")
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    words += ["-nodes", "-days", "2", "-subj", "/CN=hub", "-addext"]
    words += ["subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "certificate.pem"]
    subprocess.run(words, check=True, capture_output=True, cwd=folder)
    return folder / "certificate.pem"


@pytest.mark.parametrize("tls", [False, True])
def test_a_wrong_password_is_refused_with_the_brokers_reason(
    mosquitto_installed: None, tmp_path: Path, certificate: Path, tls: bool
) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("")
    passwords.chmod(0o600)
    lines = ["allow_anonymous false", f"password_file {passwords}"]
    if tls:
        lines += [f"certfile {certificate}", f"keyfile {certificate.parent / 'key.pem'}"]
    with configured_mosquitto(tmp_path, *lines) as port:
        url = f"mqtt{'s' * tls}://127.0.0.1:{port}"
        ca_file = str(certificate) if tls else None
        connection = DataConnection(BrokerAddress.parse(url, ca_file=ca_file, environ={}), name())
        with pytest.raises(BrokerRefusedError, match="Not authorized"):
            connection.open()
        assert not connection.is_connected


def test_the_reason_of_an_end_right_behind_a_message_is_read(
    mosquitto_installed: None, tmp_path: Path
) -> None:
    lost: list[str] = []
    with Server() as server, opened(server.address, on_lost=lost.append) as connection:
        # DISCONNECT with the reason "session taken over", and the end of the connection.
        server.links[-1].sendall(b"\xe0\x02\x8e\x00")
        server.links[-1].close()
        step_until(connection, lambda: lost)
    assert lost == ["session taken over"]


def test_an_end_right_behind_the_answer_to_connect_loses_the_connection() -> None:
    lost: list[str] = []
    with Server(CONNACK + b"\xe0\x02\x97\x00") as server:
        connection = DataConnection(server.address, name(), on_lost=lost.append)
        connection.step(1.0)
        assert lost == ["quota exceeded"]
        assert not connection.is_connected
        step_until(connection, lambda: len(server.connects) == 2)
        connection.close()


def test_a_refused_subscription_is_an_error_at_opening_and_a_callback_later(
    mosquitto_installed: None, tmp_path: Path
) -> None:
    access = tmp_path / "access"
    access.write_text("topic readwrite mine/#\n")
    access.chmod(0o600)
    refused: list[tuple[str, str]] = []
    with configured_mosquitto(tmp_path, "allow_anonymous true", f"acl_file {access}") as port:
        address = BrokerAddress("127.0.0.1", port)
        connection = DataConnection(
            address, name(), on_refused=lambda *details: refused.append(details)
        )
        connection.subscribe(any_topic("mine/x"))
        connection.open()
        assert refused == []
        # mosquitto 2.0 grants forbidden subscriptions and sends nothing, but refuses these.
        connection.subscribe(any_topic("$share//x"))
        connection.close()


# Messages


@pytest.mark.parametrize("size", [0, 10, 100_000, 200_000, 3_000_000])
def test_a_message_arrives_with_its_payload_and_properties(
    mosquitto: MosquittoBroker, size: int
) -> None:
    topic, payload = name(), os.urandom(size)
    arrived: list[Message] = []
    with opened(address_of(mosquitto), on_message=arrived.append) as connection:
        connection.subscribe(any_topic(topic))
        connection.wait_for_subscriptions(PATIENCE_S)
        connection.publish(
            any_topic(topic),
            payload[:7],
            payload[7:],
            response_topic="answers",
            correlation_data=b"\x00\x01id",
            expiry_s=60,
            user={"generation": "g1", "trace": "[☃]"},
        )
        step_until(connection, lambda: arrived)
        (message,) = arrived
        connection.acknowledge(message.receipt)
    assert (message.topic, bytes(message.payload)) == (topic, payload)
    assert (message.response_topic, message.correlation_data) == ("answers", b"\x00\x01id")
    assert message.user == {"generation": "g1", "trace": "[☃]"}
    assert message.expiry_s is not None
    assert 50 < message.expiry_s <= 60
    assert not message.retained


def test_only_a_stored_message_is_retained(mosquitto: MosquittoBroker) -> None:
    topic = name()
    arrived: list[Message] = []
    with Connection(address_of(mosquitto), name()) as publisher:
        publisher.publish_and_wait(any_topic(topic, retained=True), b"stored")
        with opened(address_of(mosquitto), on_message=arrived.append) as connection:
            connection.subscribe(any_topic(topic))
            step_until(connection, lambda: arrived)
            publisher.publish_and_wait(any_topic(topic, retained=True), b"live")
            step_until(connection, lambda: len(arrived) == 2)
        publisher.publish_and_wait(any_topic(topic, retained=True), b"")
    assert [(m.payload, m.retained) for m in arrived] == [(b"stored", True), (b"live", False)]


def test_the_sender_learns_the_brokers_reason_code(
    mosquitto_installed: None, tmp_path: Path
) -> None:
    access = tmp_path / "access"
    access.write_text("topic readwrite mine/#\n")
    access.chmod(0o600)
    codes: dict[str, int] = {}
    with (
        configured_mosquitto(tmp_path, "allow_anonymous true", f"acl_file {access}") as port,
        opened(BrokerAddress("127.0.0.1", port)) as connection,
    ):
        connection.subscribe(any_topic("mine/heard"))
        connection.wait_for_subscriptions(PATIENCE_S)
        for topic in ("mine/heard", "mine/unheard", "theirs"):
            connection.publish(
                any_topic(topic), on_acknowledged=lambda code, t=topic: codes.update({t: code})
            )
        step_until(connection, lambda: len(codes) == 3)
    assert codes == {"mine/heard": 0, "mine/unheard": NO_SUBSCRIBERS, "theirs": NOT_AUTHORIZED}


def test_a_message_over_the_brokers_limit_is_refused_before_it_is_sent(
    mosquitto_installed: None, tmp_path: Path
) -> None:
    limit_bytes = 10_000
    lines = ("allow_anonymous true", f"max_packet_size {limit_bytes}")
    arrived: list[Message] = []
    with (
        configured_mosquitto(tmp_path, *lines) as port,
        opened(BrokerAddress("127.0.0.1", port), on_message=arrived.append) as connection,
    ):
        assert connection.maximum_packet_size == limit_bytes
        connection.subscribe(any_topic("x"))
        # 11 bytes: fixed header 3, topic 3, packet id 2, length of the properties 1.
        with pytest.raises(MessageTooLargeError) as caught:
            connection.publish(any_topic("x"), bytes(limit_bytes - 8))
        assert (caught.value.limit_bytes, caught.value.size_bytes) == (limit_bytes, limit_bytes + 1)
        connection.publish(any_topic("x"), bytes(limit_bytes - 9))
        step_until(connection, lambda: arrived)
        assert len(arrived[0].payload) == limit_bytes - 9


# Limits of messages in flight


def test_the_broker_gets_no_more_messages_than_its_receive_maximum() -> None:
    codes: list[int] = []
    with Server(CONNACK_RECEIVE_2) as server, opened(server.address) as connection:
        assert connection.has_room
        for number in range(5):
            connection.publish(any_topic("t"), bytes([number]), on_acknowledged=codes.append)
        assert not connection.has_room
        first = server.receive(SILENCE_S)
        assert kinds(first) == [3, 3]
        assert server.receive(SILENCE_S) == b""
        link = server.links[-1]
        # Packet ids count from 1.
        for acknowledged, waits in enumerate((1, 1, 1, 0, 0), 1):
            link.sendall(b"\x40\x02" + acknowledged.to_bytes(2, "big"))
            step_until(connection, lambda n=acknowledged: len(codes) == n)
            assert kinds(server.receive(SILENCE_S)) == [3] * waits
        assert connection.has_room
        # An acknowledgement of nothing sends nothing.
        for _ in range(3):
            connection.publish(any_topic("t"))
        assert kinds(server.receive(SILENCE_S)) == [3, 3]
        link.sendall(b"\x40\x02\x00\x01")
        step_for(connection)
        assert server.receive(SILENCE_S) == b""


def test_an_acknowledgement_alone_wakes_nobody_and_is_read_with_the_next_message() -> None:
    codes: list[int] = []
    arrived: list[Message] = []
    with (
        Server() as server,
        opened(server.address, on_message=arrived.append) as connection,
    ):
        connection.step(0)
        connection.publish(any_topic("t"), b"", on_acknowledged=codes.append)
        connection.publish(any_topic("t"), b"", on_acknowledged=codes.append)
        link = server.links[-1]

        waited_s = _step_after(connection, link, b"\x40\x02\x00\x01", 1.0)
        assert waited_s >= 1.0
        # A step that ends without an event reads the acknowledgement nevertheless.
        assert codes == [0]

        # An acknowledgement and a message, QoS 0 with topic "t" and payload "x", in one packet.
        message = b"\x30\x05\x00\x01t\x00x"
        waited_s = _step_after(connection, link, b"\x40\x02\x00\x02" + message, PATIENCE_S)
        assert waited_s < PATIENCE_S / 2
        assert codes == [0, 0]
        assert payloads_of(arrived) == [b"x"]


def test_the_last_bytes_of_a_message_wake_the_thread_that_waits() -> None:
    arrived: list[Message] = []
    with (
        Server() as server,
        opened(server.address, on_message=arrived.append) as connection,
    ):
        connection.step(0)
        link = server.links[-1]
        # The second large message in a row is read in another way.
        for payload_bytes in (100, 300_000, 300_000, 100):
            payload = os.urandom(payload_bytes)
            body = b"\x00\x01t\x00" + payload
            packet = b"\x30" + _length(len(body)) + body
            for tail_bytes in (1, 2, 4):
                link.sendall(packet[:-tail_bytes])
                step_for(connection, 0.1)
                waited_s = _step_after(connection, link, packet[-tail_bytes:], PATIENCE_S)
                assert waited_s < PATIENCE_S / 2
                assert payloads_of(arrived) == [payload]
                arrived.clear()


def test_a_broker_that_takes_one_message_at_a_time_gets_the_next_one_at_once() -> None:
    connack = b"\x20\x06\x00\x00\x03\x21\x00\x01"  # Receive maximum 1.
    with Server(connack) as server, opened(server.address) as connection:
        connection.step(0)
        for _ in range(2):
            connection.publish(any_topic("t"), b"")
        assert kinds(server.receive(SILENCE_S)) == [3]
        waited_s = _step_after(connection, server.links[-1], b"\x40\x02\x00\x01", PATIENCE_S)
        assert waited_s < PATIENCE_S / 2
        assert kinds(server.receive(SILENCE_S)) == [3]


def _step_after(
    connection: DataConnection, link: socket.socket, data: bytes, timeout_s: float
) -> float:
    """Step once while ``data`` arrives; return the seconds of the step."""
    sender = threading.Timer(0.1, link.sendall, [data])
    sender.start()
    began = time.monotonic()
    connection.step(timeout_s)
    waited_s = time.monotonic() - began
    sender.join()
    return waited_s


def _length(value: int) -> bytes:
    coded = bytearray()
    while value >= 0x80:
        coded.append(value % 0x80 | 0x80)
        value //= 0x80
    return bytes([*coded, value])


def test_all_messages_pass_a_broker_that_takes_two_at_a_time(
    mosquitto_installed: None, tmp_path: Path
) -> None:
    lines = ("allow_anonymous true", "max_inflight_messages 2")
    codes: list[int] = []
    arrived: list[Message] = []
    with (
        configured_mosquitto(tmp_path, *lines) as port,
        opened(BrokerAddress("127.0.0.1", port), on_message=arrived.append) as connection,
    ):
        connection.subscribe(any_topic("x"))
        for number in range(50):
            connection.publish(any_topic("x"), bytes([number]), on_acknowledged=codes.append)

        def all_arrived() -> bool:
            for message in arrived:
                connection.acknowledge(message.receipt)
            return len(arrived) >= 50 and len(codes) == 50

        step_until(connection, all_arrived)
        assert connection.is_connected
    assert payloads_of(arrived)[:50] == [bytes([number]) for number in range(50)]
    assert codes == [0] * 50


def test_the_broker_sends_no_more_messages_than_the_receive_maximum(
    mosquitto: MosquittoBroker,
) -> None:
    topic = name()
    arrived: list[Message] = []
    with opened(address_of(mosquitto), receive_maximum=2, on_message=arrived.append) as connection:
        connection.subscribe(any_topic(topic))
        connection.wait_for_subscriptions(PATIENCE_S)
        publish(mosquitto, topic, *(bytes([number]) for number in range(6)))
        step_for(connection)
        assert len(arrived) == 2
        connection.acknowledge(arrived[0].receipt)
        # mosquitto 2.0.11 sends up to a receive maximum of messages for each acknowledgement.
        step_until(connection, lambda: len(arrived) > 2)
        step_for(connection)
        before = len(arrived)
        assert before < 6
        # An acknowledgement also leaves with the next message.
        connection.publish(any_topic(name()), answers=arrived[1].receipt)
        step_until(connection, lambda: len(arrived) > before)


# Reconnecting


@pytest.fixture
def own_mosquitto(mosquitto_installed: None) -> Iterator[MosquittoBroker]:
    with MosquittoBroker(port=0) as broker:
        yield broker


def test_subscriptions_are_restored_after_the_broker_lost_them(
    own_mosquitto: MosquittoBroker,
) -> None:
    resumed: list[bool] = []
    losses: list[str] = []
    arrived: list[Message] = []
    with opened(
        address_of(own_mosquitto),
        on_message=arrived.append,
        on_connected=resumed.append,
        on_lost=losses.append,
    ) as connection:
        for topic in ("kept", "dropped"):
            connection.subscribe(any_topic(topic))
        connection.wait_for_subscriptions(PATIENCE_S)
        connection.unsubscribe("dropped")
        step_for(connection, 0.1)
        own_mosquitto.restart()
        step_until(connection, lambda: len(resumed) == 2)
        connection.wait_for_subscriptions(PATIENCE_S)
        publish(own_mosquitto, "dropped", b"x")
        publish(own_mosquitto, "kept", b"y")
        step_until(connection, lambda: arrived)
        step_for(connection)
    assert payloads_of(arrived) == [b"y"]
    assert (resumed, len(losses)) == ([False, False], 1)


def test_a_message_of_an_old_connection_is_not_acknowledged_on_a_new_one(
    own_mosquitto: MosquittoBroker,
) -> None:
    resumed: list[bool] = []
    arrived: list[Message] = []
    with opened(
        address_of(own_mosquitto),
        receive_maximum=1,
        session_expiry_s=60,
        on_message=arrived.append,
        on_connected=resumed.append,
    ) as connection:
        connection.subscribe(any_topic("x"))
        connection.wait_for_subscriptions(PATIENCE_S)
        publish(own_mosquitto, "x", b"old")
        step_until(connection, lambda: arrived)
        own_mosquitto.restart()  # Without persistence packet ids start again at 1.
        step_until(connection, lambda: len(resumed) == 2)
        connection.wait_for_subscriptions(PATIENCE_S)
        publish(own_mosquitto, "x", b"new", b"after")
        step_until(connection, lambda: len(arrived) == 2)
        old, new = arrived
        assert old.receipt.packet_id == new.receipt.packet_id
        connection.acknowledge(old.receipt)
        connection.publish(any_topic("y"), answers=old.receipt)
        step_for(connection)
        # The receive maximum is 1, and "new" is not acknowledged yet.
        assert payloads_of(arrived) == [b"old", b"new"]
        connection.acknowledge(new.receipt)
        step_until(connection, lambda: len(arrived) == 3)
    assert bytes(arrived[2].payload) == b"after"


def test_a_resumed_session_delivers_again_what_was_not_acknowledged(
    mosquitto_installed: None, tmp_path: Path
) -> None:
    resumed: list[bool] = []
    arrived: list[Message] = []
    with (
        MosquittoBroker(port=0, state_dir=tmp_path) as broker,
        opened(
            address_of(broker),
            session_expiry_s=60,
            on_message=arrived.append,
            on_connected=resumed.append,
        ) as connection,
    ):
        connection.subscribe(any_topic("x"))
        connection.wait_for_subscriptions(PATIENCE_S)
        publish(broker, "x", b"acknowledged", b"not")
        step_until(connection, lambda: len(arrived) == 2)
        connection.acknowledge(arrived[0].receipt)
        step_for(connection, 0.1)
        broker.restart()
        step_until(connection, lambda: len(arrived) == 3)
        step_for(connection)
    assert payloads_of(arrived) == [b"acknowledged", b"not", b"not"]
    assert resumed == [False, True]


def test_a_publish_without_a_connection_is_dropped_and_the_next_one_arrives(
    own_mosquitto: MosquittoBroker,
) -> None:
    arrived: list[Message] = []
    with opened(address_of(own_mosquitto), on_message=arrived.append) as connection:
        connection.subscribe(any_topic("x"))
        own_mosquitto.stop()
        step_until(connection, lambda: not connection.is_connected)
        assert connection.has_room
        connection.publish(any_topic("x"), b"lost")
        own_mosquitto.start()
        step_until(connection, lambda: connection.is_connected)
        connection.publish(any_topic("x"), b"sent")
        step_until(connection, lambda: arrived)
    assert payloads_of(arrived) == [b"sent"]


# Keep-alive


def test_pings_keep_an_idle_connection(mosquitto: MosquittoBroker) -> None:
    losses: list[str] = []
    # mosquitto looks for silent clients every 5 s.
    with opened(address_of(mosquitto), keepalive_s=1, on_lost=losses.append) as connection:
        step_for(connection, 8.0)
        assert connection.is_connected
    assert losses == []


def test_the_keep_alive_is_the_one_that_the_broker_asks_for() -> None:
    with Server(CONNACK_KEEP_ALIVE_1) as server, opened(server.address) as connection:
        step_for(connection, 0.8)
        assert server.receive(SILENCE_S) == PINGREQ


@pytest.mark.parametrize("sends", [False, True])
def test_a_silent_broker_is_noticed_by_a_client_that_waits_and_by_one_that_sends(
    sends: bool,
) -> None:
    losses: list[str] = []
    with (
        Server() as server,
        opened(server.address, keepalive_s=1, on_lost=losses.append) as connection,
    ):
        began = time.monotonic()
        while not losses:
            assert time.monotonic() < began + PATIENCE_S
            if sends:
                connection.publish(any_topic("t", qos=0), b"x")
            connection.step(0.1)
        assert time.monotonic() - began >= 1.5
    assert losses[0].startswith("no data for")


def test_a_client_that_sends_without_answers_asks_for_a_sign_of_life() -> None:
    with Server() as server, opened(server.address, keepalive_s=2) as connection:
        deadline = time.monotonic() + 1.3
        while time.monotonic() < deadline:
            connection.publish(any_topic("t", qos=0), b"x")
            connection.step(0.05)
        found = kinds(server.receive(SILENCE_S))
    assert found.count(12) == 1
    assert found.count(3) > 5


def test_a_large_message_on_a_slow_link_does_not_end_the_connection() -> None:
    """A ping waits behind the message for longer than 1.5 keep-alives."""
    losses: list[str] = []
    size = 9_000_000
    with (
        Server() as server,
        opened(server.address, keepalive_s=1, on_lost=losses.append) as connection,
    ):
        connection.publish(any_topic("t"), bytes(size))
        link, received, began = server.links[-1], 0, time.monotonic()
        link.settimeout(0)
        pings = 0
        while received < size + 9:
            step_for(connection, 0.05)
            assert losses == []
            data = link.recv(120_000)
            received += len(data)
            pings += data == PINGREQ
        assert time.monotonic() - began > 3
        assert pings <= 1


# Closing


def test_closing_sends_what_waits(mosquitto: MosquittoBroker) -> None:
    topic = name()
    with Connection(address_of(mosquitto), name()) as reader:
        messages = listen_with_paho(reader, topic)
        with opened(address_of(mosquitto)) as connection:
            for _ in range(8):
                connection.publish(any_topic(topic, qos=0), bytes(1_500_000))
        sizes = [len(messages.get(timeout=PATIENCE_S).payload) for _ in range(8)]
    assert sizes == [1_500_000] * 8


def test_closing_with_unread_messages_sends_what_waits(mosquitto: MosquittoBroker) -> None:
    mine, theirs = name(), name()
    with Connection(address_of(mosquitto), name()) as reader:
        messages = listen_with_paho(reader, theirs)
        for _ in range(5):
            with opened(address_of(mosquitto)) as connection:
                connection.subscribe(any_topic(mine))
                connection.wait_for_subscriptions(PATIENCE_S)
                for _ in range(4):
                    reader.publish_and_wait(any_topic(mine), bytes(10_000))
                connection.publish(any_topic(theirs, qos=0), bytes(2_000_000))
            assert len(messages.get(timeout=PATIENCE_S).payload) == 2_000_000


def test_closing_ends_although_another_thread_steps(mosquitto: MosquittoBroker) -> None:
    steps = 0
    is_over = threading.Event()
    with opened(address_of(mosquitto)) as connection:

        def step() -> None:
            nonlocal steps
            while not is_over.is_set():
                connection.step(0.5)
                steps += 1

        threads = [threading.Thread(target=step) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        closing = threading.Thread(target=connection.close)
        closing.start()
        closing.join(PATIENCE_S)
        assert not closing.is_alive()
        before = steps
        time.sleep(0.6)
        # A step of a closed connection waits instead of returning at once.
        assert steps - before < 20
        is_over.set()
        for thread in threads:
            thread.join()


# Threads


def test_threads_that_publish_acknowledge_and_step_lose_nothing(
    mosquitto: MosquittoBroker,
) -> None:
    """Each message is acknowledged in another thread than the one that steps."""
    topic, count, threads = name(), 300, 4
    arrived: list[Message] = []
    codes: list[int] = []
    is_over = threading.Event()
    with opened(address_of(mosquitto), receive_maximum=8, on_message=arrived.append) as connection:
        connection.subscribe(any_topic(topic))
        connection.wait_for_subscriptions(PATIENCE_S)

        def step() -> None:
            while not is_over.is_set():
                connection.step(0.2)

        def send(number: int) -> None:
            for place in range(count):
                connection.publish(
                    any_topic(topic),
                    bytes([number]) * (1 + place * 31 % 5000),
                    on_acknowledged=codes.append,
                )

        steppers = [threading.Thread(target=step) for _ in range(2)]
        senders = [threading.Thread(target=send, args=(number,)) for number in range(threads)]
        for thread in (*steppers, *senders):
            thread.start()
        done, deadline = 0, time.monotonic() + PATIENCE_S
        while min(done, len(codes)) < count * threads:
            assert time.monotonic() < deadline, (done, len(codes))
            if done < len(arrived):
                connection.acknowledge(arrived[done].receipt)
                done += 1
            else:
                time.sleep(0.0005)
        is_over.set()
        connection.wake()
        connection.wake()
        for thread in (*steppers, *senders):
            thread.join()
    assert len(arrived) == count * threads
    for number in range(threads):
        mine = [bytes(m.payload) for m in arrived if m.payload[0] == number]
        assert [len(payload) for payload in mine] == [1 + n * 31 % 5000 for n in range(count)]


def test_a_step_without_time_does_not_wait_for_another_thread(mosquitto: MosquittoBroker) -> None:
    with opened(address_of(mosquitto)) as connection:
        stepping = threading.Thread(target=connection.step, args=(5.0,))
        stepping.start()
        time.sleep(0.2)
        began = time.monotonic()
        connection.step(0)
        connection.step(0.1)
        assert stepping.is_alive()
        assert time.monotonic() - began < 3
        connection.wake()
        stepping.join(PATIENCE_S)
        assert not stepping.is_alive()
