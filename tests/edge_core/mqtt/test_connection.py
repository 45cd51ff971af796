from __future__ import annotations

import base64
import hashlib
import queue
import shutil
import socket
import ssl
import subprocess
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from any_topic import any_topic
from configured_mosquitto import configured_mosquitto
from connections import PATIENCE_S, Messages, address_of, expect_silence, listen, name

from broker_config.serve.mosquitto import MosquittoBroker
from edge_core.errors import BrokerRefusedError, BrokerUnreachableError, MessageTooLargeError
from edge_core.mqtt.broker_address import BrokerAddress, BrokerAddressError
from edge_core.mqtt.connection import Connection, Will
from edge_core.mqtt.read_retained import read_retained

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from broker_config.serve.broker_process import BrokerProcess

HUSH = "hush"


@pytest.fixture
def mosquitto_of_its_own(mosquitto_installed: None) -> Iterator[MosquittoBroker]:
    with MosquittoBroker(port=0) as broker:
        yield broker


# Opening


def test_a_broker_that_is_not_there_is_unreachable() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"mqtt://127.0.0.1:{probe.getsockname()[1]}"
        with pytest.raises(BrokerUnreachableError, match="Connection refused") as caught:
            Connection(BrokerAddress.parse(url, environ={}), name()).open()
    assert caught.value.url == url


def test_a_host_without_address_is_unreachable() -> None:
    address = BrokerAddress.parse("mqtt://nobody.invalid", environ={})
    with pytest.raises(BrokerUnreachableError, match=r"nobody\.invalid"):
        Connection(address, name()).open()


def test_a_server_that_never_answers_is_unreachable() -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        address = BrokerAddress("127.0.0.1", mute.getsockname()[1])
        with pytest.raises(BrokerUnreachableError, match=r"no answer within 0.2 s"):
            Connection(address, name()).open(timeout_s=0.2)


def test_only_a_client_with_the_password_is_accepted(
    mosquitto_installed: None, tmp_path: Path
) -> None:
    salt = b"twelve bytes"
    digest = hashlib.pbkdf2_hmac("sha512", HUSH.encode(), salt, 101)
    stored = "$".join(base64.b64encode(part).decode() for part in (salt, digest))
    passwords = tmp_path / "passwords"
    passwords.write_text(f"me:$7$101${stored}\n")
    passwords.chmod(0o600)
    lines = ("allow_anonymous false", f"password_file {passwords}")
    with configured_mosquitto(tmp_path, *lines) as port:
        stranger = BrokerAddress("127.0.0.1", port)
        with Connection(replace(stranger, username="me", password=HUSH), name()) as inside:
            assert inside.is_connected
        for address in (stranger, replace(stranger, username="me", password=HUSH + "ed")):
            connection = Connection(address, name())
            with pytest.raises(BrokerRefusedError, match="Not authorized") as caught:
                connection.open()
            assert not connection.is_connected
            assert caught.value.url == f"mqtt://127.0.0.1:{port}"
            assert HUSH not in str(caught.value)


# TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CA, a broker's certificate for 127.0.0.1 by this CA, and another CA."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("certificates")

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    for ca in ("ca", "other"):
        run(
            "req",
            "-x509",
            *curve,
            "-keyout",
            f"{ca}.key",
            "-out",
            f"{ca}.pem",
            "-subj",
            f"/CN={ca}",
        )
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    run("req", "-new", *curve[:-2], "-keyout", "hub.key", "-out", "hub.csr", "-subj", "/CN=hub")
    signed_by = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
    run("x509", "-req", "-in", "hub.csr", *signed_by, "-days", "2", "-out", "hub.pem")
    return folder


@pytest.fixture(scope="module")
def tls_port(certificates: Path, mosquitto: MosquittoBroker) -> Iterator[int]:
    with configured_mosquitto(
        certificates,
        "allow_anonymous true",
        f"certfile {certificates}/hub.pem",
        f"keyfile {certificates}/hub.key",
    ) as port:
        yield port


def tls_address(host: str, port: int, ca_file: Path | None) -> BrokerAddress:
    given = None if ca_file is None else str(ca_file)
    return BrokerAddress.parse(f"mqtts://{host}:{port}", ca_file=given, environ={})


def test_tls_to_a_broker_whose_ca_is_trusted_carries_messages(
    certificates: Path, tls_port: int
) -> None:
    address = tls_address("127.0.0.1", tls_port, certificates / "ca.pem")
    with Connection(address, name()) as connection:
        messages = listen(connection, "x")
        connection.publish(any_topic("x"), bytes(100_000))
        assert messages.get(timeout=PATIENCE_S).payload == bytes(100_000)
        assert isinstance(connection._client.socket(), ssl.SSLSocket)


@pytest.mark.parametrize("ca", [None, "other.pem"])
def test_a_broker_of_an_unknown_ca_is_an_error_of_one_line(
    certificates: Path, tls_port: int, ca: str | None
) -> None:
    address = tls_address("127.0.0.1", tls_port, certificates / ca if ca else None)
    with pytest.raises(BrokerUnreachableError, match="certificate is not trusted") as caught:
        Connection(address, name()).open()
    assert f"mqtts://127.0.0.1:{tls_port}" in str(caught.value)
    assert "EDGE_PARTITION_CA_FILE" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_broker_with_a_certificate_for_another_name_is_not_trusted(
    certificates: Path, tls_port: int
) -> None:
    address = tls_address("localhost", tls_port, certificates / "ca.pem")
    with pytest.raises(BrokerUnreachableError, match="localhost"):
        Connection(address, name()).open()


def test_tls_to_a_broker_without_tls_is_unreachable(mosquitto: MosquittoBroker) -> None:
    with pytest.raises(BrokerUnreachableError, match="No broker at mqtts://"):
        Connection(tls_address("127.0.0.1", mosquitto.port, None), name()).open(timeout_s=2)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_error_about_a_ca_file_names_the_file(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(BrokerAddressError, match=str(file)):
        Connection(tls_address("127.0.0.1", 1, file), name())


def test_an_error_about_a_client_certificate_names_certificate_and_key(certificates: Path) -> None:
    address = BrokerAddress.parse(
        "mqtts://hub",
        certificate_file=str(certificates / "hub.pem"),
        key_file=str(certificates / "other.key"),
        environ={},
    )
    with pytest.raises(BrokerAddressError, match=r"hub\.pem.*other\.key"):
        Connection(address, name())


# Messages


def test_a_message_arrives_with_all_its_properties(any_broker: BrokerProcess) -> None:
    topic = name()
    with Connection(address_of(any_broker), name()) as connection:
        messages = listen(connection, topic)
        connection.publish(
            any_topic(topic),
            b"\x00tensor",
            response_topic="answers",
            correlation_data=b"\x00\x01id",
            expiry_s=60,
            user={"generation": "g1", "trace": "[☃]"},
        )
        message = messages.get(timeout=PATIENCE_S)
    assert (message.topic, message.payload) == (topic, b"\x00tensor")
    assert (message.response_topic, message.correlation_data) == ("answers", b"\x00\x01id")
    assert message.user == {"generation": "g1", "trace": "[☃]"}
    assert message.expiry_s is not None
    assert 50 < message.expiry_s <= 60
    assert not message.retained
    assert message.arrived <= time.monotonic()


def test_a_message_without_properties_arrives_without_properties(any_broker: BrokerProcess) -> None:
    topic = name()
    with Connection(address_of(any_broker), name()) as connection:
        messages = listen(connection, topic)
        connection.publish(any_topic(topic), b"")
        message = messages.get(timeout=PATIENCE_S)
    assert (message.response_topic, message.correlation_data) == (None, b"")
    assert (message.expiry_s, message.user) == (None, {})


def test_a_message_over_the_brokers_limit_is_refused_before_it_is_sent(
    mosquitto_installed: None, tmp_path: Path
) -> None:
    limit_bytes = 10_000
    lines = ("allow_anonymous true", f"max_packet_size {limit_bytes}")
    lost: list[str] = []
    with (
        configured_mosquitto(tmp_path, *lines) as port,
        Connection(
            BrokerAddress("127.0.0.1", port), name(), on_disconnected=lost.append
        ) as connection,
    ):
        messages = listen(connection, "x")
        assert connection.maximum_packet_size == limit_bytes
        with pytest.raises(MessageTooLargeError) as caught:
            connection.publish(any_topic("x"), bytes(limit_bytes))
        assert caught.value.limit_bytes == limit_bytes
        assert caught.value.size_bytes > limit_bytes
        with pytest.raises(MessageTooLargeError):
            connection.publish(any_topic("x"), bytes(9_000), user={"trace": "t" * 1_000})
        # The largest message that the connection accepts passes the broker too.
        connection.publish(any_topic("x"), bytes(limit_bytes - 65))
        assert len(messages.get(timeout=PATIENCE_S).payload) == limit_bytes - 65
        assert lost == []


def test_no_messages_arrive_after_unsubscribing(mosquitto: MosquittoBroker) -> None:
    topic = name()
    with Connection(address_of(mosquitto), name()) as connection:
        messages = listen(connection, topic)
        connection.publish_and_wait(any_topic(topic), b"heard")
        assert messages.get(timeout=PATIENCE_S).payload == b"heard"
        connection.unsubscribe(topic)
        connection.publish_and_wait(any_topic(topic), b"unheard")
        expect_silence(messages)


def test_only_a_lost_client_leaves_its_will_retained(mosquitto: MosquittoBroker) -> None:
    topic = name()
    with Connection(address_of(mosquitto), name()) as watcher:
        messages = listen(watcher, topic)
        with Connection(address_of(mosquitto), name(), will=Will(topic, b"offline")):
            pass
        expect_silence(messages)
        lost = Connection(address_of(mosquitto), client := name(), will=Will(topic, b"offline"))
        lost.open()
        with Connection(
            address_of(mosquitto), client
        ):  # A second client with the same id ends the first.
            assert messages.get(timeout=PATIENCE_S).payload == b"offline"
            lost.close()
        assert read_retained(watcher, any_topic(topic), any_topic(name("own"))) == {
            topic: b"offline"
        }


# Reconnecting


def test_subscriptions_are_restored_after_the_broker_lost_them(
    mosquitto_of_its_own: MosquittoBroker, eventually: Callable[..., bool]
) -> None:
    broker, connects, losses = mosquitto_of_its_own, [], []
    with Connection(
        address_of(broker),
        name(),
        on_connected=lambda: connects.append(1),
        on_disconnected=losses.append,
    ) as connection:
        kept, dropped = listen(connection, "kept"), listen(connection, "dropped")
        connection.unsubscribe("dropped")
        broker.restart()
        assert eventually(lambda: len(connects) == 2 and connection.is_connected)
        assert len(losses) >= 1
        with Connection(address_of(broker), name()) as publisher:
            publisher.publish_and_wait(any_topic("dropped"), b"x")
            publisher.publish_and_wait(any_topic("kept"), b"x")
        assert kept.get(timeout=PATIENCE_S).payload == b"x"
        expect_silence(kept)
        expect_silence(dropped)


def test_a_subscription_before_opening_takes_effect(mosquitto: MosquittoBroker) -> None:
    topic = name()
    messages: Messages = queue.Queue()
    connection = Connection(address_of(mosquitto), name())
    connection.subscribe(any_topic(topic), messages.put)
    with connection:
        connection.publish(any_topic(topic), b"x")
        assert messages.get(timeout=PATIENCE_S).payload == b"x"


def test_a_client_that_is_taken_over_is_notified_once_and_does_not_reconnect(
    eventually: Callable[..., bool],
) -> None:
    # A stand-in broker, because mosquitto 2.0.11 and rumqttd do not send the reason code
    # (MQTT 5.0, section 3.14.2.1).
    told: list[int] = []
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = BrokerAddress("127.0.0.1", server.getsockname()[1])
        client = Connection(address, name(), on_taken_over=lambda: told.append(1))
        opening = threading.Thread(target=client.open)
        opening.start()
        link, _ = server.accept()
        with link:
            assert link.recv(1000)[0] == 0x10
            link.sendall(b"\x20\x03\x00\x00\x00")
            opening.join()
            assert client.is_connected
            link.sendall(b"\xe0\x02\x8e\x00")
            assert eventually(lambda: told == [1])
        server.settimeout(1.5)  # Longer than the first reconnect delay.
        with pytest.raises(TimeoutError):
            server.accept()
    assert not client.is_connected
    client.close()
    assert told == [1]


@pytest.mark.parametrize("session_expiry_s", [0, 60])
def test_messages_wait_for_a_client_only_while_the_broker_keeps_its_session(
    mosquitto: MosquittoBroker, session_expiry_s: int
) -> None:
    topic, client = name(), name()
    with Connection(address_of(mosquitto), client, session_expiry_s=session_expiry_s) as first:
        listen(first, topic)
    with Connection(address_of(mosquitto), name()) as publisher:
        publisher.publish_and_wait(any_topic(topic), b"while away")
    unexpected: Messages = queue.Queue()
    with Connection(
        address_of(mosquitto),
        client,
        session_expiry_s=session_expiry_s,
        on_unexpected=unexpected.put,
    ):
        if session_expiry_s:
            assert unexpected.get(timeout=PATIENCE_S).payload == b"while away"
        else:
            expect_silence(unexpected)


def test_closing_sends_pending_messages_first(mosquitto: MosquittoBroker) -> None:
    topic = name()
    with Connection(address_of(mosquitto), name()) as reader:
        messages = listen(reader, topic)
        with Connection(address_of(mosquitto), name()) as publisher:
            for _ in range(8):
                publisher.publish(any_topic(topic, qos=0), bytes(500_000))
        sizes = [len(messages.get(timeout=PATIENCE_S).payload) for _ in range(8)]
    assert sizes == [500_000] * 8
