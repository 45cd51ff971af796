from __future__ import annotations

import base64
import hashlib
import os
import queue
import shutil
import socket
import ssl
import subprocess
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import pytest
from any_topic import any_topic

from broker_config.serve.mosquitto import MosquittoBroker, find_mosquitto
from edge_core.contract.messages import CommandError, ErrorCode, decode_json, encode_json
from edge_core.contract.topics import OFFLINE, ONLINE
from edge_core.errors import BrokerRefusedError, BrokerUnreachableError, MessageTooLargeError
from edge_core.mqtt.agent_requests import AgentLostError, AgentRequests, RequestTimeoutError
from edge_core.mqtt.broker_address import BrokerAddress, BrokerAddressError
from edge_core.mqtt.connection import Connection, Message, Will
from edge_core.mqtt.read_retained import read_retained

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from broker_config.serve.broker_process import BrokerProcess

PATIENCE_S = 20.0
SILENCE_S = 0.3
HUSH = "hush"

Messages = queue.Queue[Message]


def address_of(broker: BrokerProcess) -> BrokerAddress:
    return BrokerAddress.parse(broker.url, environ={})


def name(word: str = "test") -> str:
    return f"{word}-{uuid.uuid4().hex[:12]}"


def listen(connection: Connection, topic: str) -> Messages:
    messages: Messages = queue.Queue()
    connection.subscribe(any_topic(topic), messages.put, timeout_s=PATIENCE_S)
    return messages


def expect_silence(messages: Messages) -> None:
    with pytest.raises(queue.Empty):
        messages.get(timeout=SILENCE_S)


@pytest.fixture(scope="module")
def mosquitto() -> Iterator[MosquittoBroker]:
    if find_mosquitto() is None:
        if os.environ.get("CI"):
            pytest.fail("mosquitto must be installed in CI")
        pytest.skip("mosquitto is not installed")
    with MosquittoBroker(port=0) as broker:
        yield broker


@pytest.fixture
def mosquitto_of_its_own(mosquitto_installed: None) -> Iterator[MosquittoBroker]:
    with MosquittoBroker(port=0) as broker:
        yield broker


@contextmanager
def configured_mosquitto(folder: Path, *lines: str) -> Iterator[int]:
    """Run a mosquitto with a configuration of the test's; yield its port on 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    configuration = folder / "mosquitto.conf"
    user = ["user root"] if os.geteuid() == 0 else []
    configuration.write_text("\n".join([*user, f"listener {port} 127.0.0.1", *lines, ""]))
    binary = find_mosquitto()
    assert binary is not None
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([binary, "-c", configuration], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                socket.create_connection(("127.0.0.1", port), 1.0).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait()


# The address


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "shown"),
    [
        ("mqtt://hub", "hub", 1883, False, "mqtt://hub:1883"),
        ("mqtts://hub", "hub", 8883, True, "mqtts://hub:8883"),
        ("mqtt://hub:1884/", "hub", 1884, False, "mqtt://hub:1884"),
        ("mqtts://10.0.0.7:443", "10.0.0.7", 443, True, "mqtts://10.0.0.7:443"),
        ("mqtt://[::1]", "::1", 1883, False, "mqtt://[::1]:1883"),
        ("mqtts://[fe80::1]:9", "fe80::1", 9, True, "mqtts://[fe80::1]:9"),
        ("mqtt://me@hub:7", "hub", 7, False, "mqtt://hub:7"),
    ],
)
def test_an_address_is_read_and_shown(
    url: str, host: str, port: int, tls: bool, shown: str
) -> None:
    address = BrokerAddress.parse(url, environ={})
    assert (address.host, address.port, address.tls, address.url) == (host, port, tls, shown)
    assert BrokerAddress.parse(address.url, environ={}).url == shown


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hub",
        "hub:1883",
        "http://hub",
        "mqtt://",
        "mqtt://:1883",
        "mqtt://hub:port",
        "mqtt://hub:99999",
        "mqtt://hub/topic",
        "mqtt://hub?x=1",
        "mqtt://hub#x",
        "mqtt://[::1",
    ],
)
def test_what_is_no_address_is_refused_with_what_is_expected(url: str) -> None:
    with pytest.raises(BrokerAddressError, match="expected mqtt://HOST:PORT") as caught:
        BrokerAddress.parse(url, environ={})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "mqtt://me:hush@hub",
        "mqtt://me:hush@hub:99999",
        "mqtt://me:hush@hub/topic",
        "http://me:hush@hub",
        "mqtt://me:hush@[::1",
    ],
)
def test_a_password_in_the_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(BrokerAddressError) as caught:
        BrokerAddress.parse(url, environ={})
    assert "hush" not in str(caught.value)


def test_a_password_comes_from_a_file_or_the_environment_and_is_never_shown(
    tmp_path: Path,
) -> None:
    file = tmp_path / "password"
    file.write_text("from file \n")
    from_file = BrokerAddress.parse("mqtt://me@hub", password_file=str(file), environ={})
    assert (from_file.username, from_file.password) == ("me", "from file ")
    assert "from file" not in repr(from_file) + from_file.url

    environ = {"EDGE_PARTITION_USERNAME": "they", "EDGE_PARTITION_PASSWORD": "hush"}
    from_environ = BrokerAddress.parse("mqtt://hub", environ=environ)
    assert (from_environ.username, from_environ.password) == ("they", "hush")
    # The more particular wins: URL before environment, file before plain variable.
    environ["EDGE_PARTITION_PASSWORD_FILE"] = str(file)
    both = BrokerAddress.parse("mqtt://me@hub", environ=environ)
    assert (both.username, both.password) == ("me", "from file ")


def test_a_password_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(BrokerAddressError, match=str(missing)):
        BrokerAddress.parse("mqtt://hub", password_file=str(missing), environ={})
    missing.write_bytes(b"\xff\xfe")
    with pytest.raises(BrokerAddressError, match="password file"):
        BrokerAddress.parse("mqtt://hub", password_file=str(missing), environ={})


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


def test_only_who_knows_the_password_gets_in(mosquitto_installed: None, tmp_path: Path) -> None:
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
    """A folder with a CA, a broker's certificate for 127.0.0.1 it signed, and another CA."""
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
def test_a_broker_of_an_unknown_ca_is_not_trusted_in_one_clear_line(
    certificates: Path, tls_port: int, ca: str | None
) -> None:
    address = tls_address("127.0.0.1", tls_port, certificates / ca if ca else None)
    with pytest.raises(BrokerUnreachableError, match="certificate is not trusted") as caught:
        Connection(address, name()).open()
    assert f"mqtts://127.0.0.1:{tls_port}" in str(caught.value)
    assert "EDGE_PARTITION_CA_FILE" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_broker_under_another_name_than_its_certificate_is_not_trusted(
    certificates: Path, tls_port: int
) -> None:
    address = tls_address("localhost", tls_port, certificates / "ca.pem")
    with pytest.raises(BrokerUnreachableError, match="localhost"):
        Connection(address, name()).open()


def test_tls_to_a_broker_without_tls_is_unreachable(mosquitto: MosquittoBroker) -> None:
    with pytest.raises(BrokerUnreachableError, match="No broker at mqtts://"):
        Connection(tls_address("127.0.0.1", mosquitto.port, None), name()).open(timeout_s=2)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_ca_file_that_can_not_be_used_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(BrokerAddressError, match=str(file)):
        Connection(tls_address("127.0.0.1", 1, file), name())


def test_a_client_certificate_without_its_key_is_named(certificates: Path) -> None:
    address = BrokerAddress.parse(
        "mqtts://hub",
        certificate_file=str(certificates / "hub.pem"),
        key_file=str(certificates / "other.key"),
        environ={},
    )
    with pytest.raises(BrokerAddressError, match=r"hub\.pem.*other\.key"):
        Connection(address, name())


# Messages


def test_a_message_arrives_with_all_that_was_set(any_broker: BrokerProcess) -> None:
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


def test_a_bare_message_has_no_properties(any_broker: BrokerProcess) -> None:
    topic = name()
    with Connection(address_of(any_broker), name()) as connection:
        messages = listen(connection, topic)
        connection.publish(any_topic(topic), b"")
        message = messages.get(timeout=PATIENCE_S)
    assert (message.response_topic, message.correlation_data) == (None, b"")
    assert (message.expiry_s, message.user) == (None, {})


def test_retained_finds_every_retained_message_and_nothing_else(
    any_broker: BrokerProcess,
) -> None:
    root = name()
    wanted = {f"{root}/device/d{number}/availability": b"%d" % number for number in range(300)}
    with (
        Connection(address_of(any_broker), name()) as publisher,
        Connection(address_of(any_broker), name()) as reader,
    ):
        for topic, payload in wanted.items():
            publisher.publish(any_topic(topic, retained=True), payload)
        publisher.publish(any_topic(f"{root}/device/cleared/availability", retained=True), b"x")
        publisher.publish(any_topic(f"{root}/device/cleared/availability", retained=True), b"")
        publisher.publish(
            any_topic(f"{root}/device/d0/profile", retained=True), b"of another filter"
        )
        publisher.publish_and_wait(
            any_topic(f"{root}/device/passing/availability"), b"not retained"
        )
        every, own = any_topic(f"{root}/device/+/availability"), any_topic(name("own"))
        for _ in range(2):
            assert read_retained(reader, every, own) == wanted
        assert read_retained(reader, any_topic(f"{root}/nothing/#"), own) == {}


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
        # The largest that passes does so, by our count and by the broker's.
        connection.publish(any_topic("x"), bytes(limit_bytes - 65))
        assert len(messages.get(timeout=PATIENCE_S).payload) == limit_bytes - 65
        assert lost == []


def test_unsubscribed_means_silent(mosquitto: MosquittoBroker) -> None:
    topic = name()
    with Connection(address_of(mosquitto), name()) as connection:
        messages = listen(connection, topic)
        connection.publish_and_wait(any_topic(topic), b"heard")
        assert messages.get(timeout=PATIENCE_S).payload == b"heard"
        connection.unsubscribe(topic)
        connection.publish_and_wait(any_topic(topic), b"unheard")
        expect_silence(messages)


def test_a_will_is_left_behind_retained_only_by_who_is_lost(mosquitto: MosquittoBroker) -> None:
    topic = name()
    with Connection(address_of(mosquitto), name()) as watcher:
        messages = listen(watcher, topic)
        with Connection(address_of(mosquitto), name(), will=Will(topic, b"offline")):
            pass
        expect_silence(messages)
        lost = Connection(address_of(mosquitto), client := name(), will=Will(topic, b"offline"))
        lost.open()
        with Connection(address_of(mosquitto), client):  # Its id taken, the first is lost.
            assert messages.get(timeout=PATIENCE_S).payload == b"offline"
            lost.close()
        assert read_retained(watcher, any_topic(topic), any_topic(name("own"))) == {
            topic: b"offline"
        }


# Requests


@contextmanager
def agent(broker: BrokerProcess, answer: Callable[[dict[str, Any]], Any]) -> Iterator[str]:
    """Answer commands on a topic as an agent does; None: never."""
    topic = f"{name('device')}/command"
    with Connection(address_of(broker), name("agent")) as connection:

        def handle(message: Message) -> None:
            said = answer(decode_json(message.payload))
            if said is not None:
                assert message.response_topic is not None
                connection.publish(
                    any_topic(message.response_topic),
                    said if isinstance(said, bytes) else encode_json(said),
                    correlation_data=message.correlation_data,
                )

        connection.subscribe(any_topic(topic), handle, timeout_s=PATIENCE_S)
        yield topic


def ask(connection: Connection, topic: str, **options: Any) -> dict[str, Any]:
    if connection not in _REQUESTS:
        reply_topic = f"client/{connection.client_id}/result"
        _REQUESTS[connection] = AgentRequests(connection, any_topic(reply_topic))
    command = {"command": "ping", "n": options.pop("n", 0)}
    return _REQUESTS[connection].request(any_topic(topic), command, device="pi-1", **options)


_REQUESTS: WeakKeyDictionary[Connection, AgentRequests] = WeakKeyDictionary()


def test_requests_from_many_threads_get_each_their_own_answer(any_broker: BrokerProcess) -> None:
    answers: dict[int, Any] = {}
    with (
        agent(any_broker, lambda command: {"ok": True, "n": command["n"]}) as topic,
        Connection(address_of(any_broker), name("host")) as host,
    ):
        assert ask(host, topic, n=-1)["n"] == -1

        def run(number: int) -> None:
            answers[number] = ask(host, topic, n=number)["n"]

        threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == {number: number for number in range(8)}


def test_one_that_acknowledges_by_itself_hears_more_answers_than_it_may_hold(
    mosquitto: MosquittoBroker,
) -> None:
    """As agents do that ask their neighbours: each answer held one of eight places for good."""
    availability = f"{name('device')}/availability"
    with (
        agent(mosquitto, lambda command: {"ok": True, "n": command["n"]}) as topic,
        Connection(address_of(mosquitto), name(), manual_ack=True, receive_maximum=2) as asking,
        Connection(address_of(mosquitto), name()) as board,
    ):
        for number in range(5):
            board.publish_and_wait(any_topic(availability, retained=True), ONLINE)
            wait = {"availability_topic": any_topic(availability), "timeout_s": PATIENCE_S}
            assert ask(asking, topic, n=number, **wait)["n"] == number


def test_a_request_nobody_answers_times_out_by_the_boards_name(
    mosquitto: MosquittoBroker,
) -> None:
    with (
        agent(mosquitto, lambda _command: None) as topic,
        Connection(address_of(mosquitto), name("host")) as host,
    ):
        with pytest.raises(RequestTimeoutError, match="pi-1 did not answer 'ping'") as caught:
            ask(host, topic, timeout_s=0.3)
        assert caught.value.timeout_s == 0.3


def test_an_agent_that_goes_ends_the_wait_for_its_answer(any_broker: BrokerProcess) -> None:
    availability = f"{name('device')}/availability"
    asked: list[int] = []

    def answer(command: dict[str, Any]) -> dict[str, Any] | None:
        asked.append(command["n"])
        if command["n"] == 1:
            said.publish(any_topic(availability, retained=True), OFFLINE)
            return None
        return {"ok": True, "n": command["n"]}

    with (
        Connection(address_of(any_broker), name("said")) as said,
        agent(any_broker, answer) as topic,
        Connection(address_of(any_broker), name("host")) as host,
    ):
        said.publish_and_wait(any_topic(availability, retained=True), ONLINE)
        wait = {"availability_topic": any_topic(availability), "timeout_s": PATIENCE_S}
        assert ask(host, topic, n=0, **wait)["n"] == 0
        for n in (1, 2):
            with pytest.raises(AgentLostError, match="pi-1 went offline before it answered 'ping'"):
                ask(host, topic, n=n, **wait)
        # While it is away it isn't even asked, and once it is back it is.
        assert asked == [0, 1]
        heard = listen(host, marker := name())
        said.publish_and_wait(any_topic(availability, retained=True), ONLINE)
        said.publish(any_topic(marker), b"")
        heard.get(timeout=PATIENCE_S)
        assert ask(host, topic, n=3, **wait)["n"] == 3
        # Who comes when it is away already learns it from what the broker retains.
        said.publish_and_wait(any_topic(availability, retained=True), OFFLINE)
        with (
            Connection(address_of(any_broker), name("host")) as late,
            pytest.raises(AgentLostError),
        ):
            ask(late, topic, n=1, **wait)


def test_a_late_answer_is_not_taken_for_the_next_requests(mosquitto: MosquittoBroker) -> None:
    release = threading.Event()

    def answer(command: dict[str, Any]) -> dict[str, Any]:
        if command["n"] == 1:
            release.wait(PATIENCE_S)
        return {"ok": True, "n": command["n"]}

    with (
        agent(mosquitto, answer) as topic,
        Connection(address_of(mosquitto), name("host")) as host,
    ):
        with pytest.raises(RequestTimeoutError):
            ask(host, topic, n=1, timeout_s=0.2)
        release.set()
        assert ask(host, topic, n=2)["n"] == 2


@pytest.mark.parametrize(
    ("said", "code", "reason"),
    [
        ({"ok": False, "code": "no-memory", "reason": "9 MB free"}, "no-memory", "9 MB free"),
        ({"ok": False, "code": "of-the-future", "reason": "x"}, "bad-command", "x"),
        ({"ok": False, "code": [], "reason": "x"}, "bad-command", "x"),
        ({}, "bad-command", "no reason given"),
        (b"not json", "bad-command", "not JSON"),
    ],
)
def test_a_refused_request_says_why(
    mosquitto: MosquittoBroker, said: Any, code: str, reason: str
) -> None:
    with (
        agent(mosquitto, lambda _command: said) as topic,
        Connection(address_of(mosquitto), name("host")) as host,
        pytest.raises(CommandError, match=reason) as caught,
    ):
        ask(host, topic)
    assert caught.value.code is ErrorCode(code)


# Coming back


def test_subscriptions_are_made_again_after_the_broker_forgot_them(
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


def test_a_subscription_made_before_opening_holds(mosquitto: MosquittoBroker) -> None:
    topic = name()
    messages: Messages = queue.Queue()
    connection = Connection(address_of(mosquitto), name())
    connection.subscribe(any_topic(topic), messages.put)
    with connection:
        connection.publish(any_topic(topic), b"x")
        assert messages.get(timeout=PATIENCE_S).payload == b"x"


def test_an_acknowledgement_of_an_old_connections_message_does_not_count_for_a_new_one(
    mosquitto_of_its_own: MosquittoBroker, eventually: Callable[..., bool]
) -> None:
    broker, connects, messages = mosquitto_of_its_own, [], queue.Queue()
    with Connection(
        address_of(broker),
        name(),
        manual_ack=True,
        receive_maximum=1,
        session_expiry_s=60,
        on_connected=lambda: connects.append(1),
    ) as connection:
        connection.subscribe(any_topic("x"), messages.put, timeout_s=PATIENCE_S)
        with Connection(address_of(broker), name()) as publisher:
            publisher.publish_and_wait(any_topic("x"), b"old")
        old = messages.get(timeout=PATIENCE_S)
        broker.restart()  # Without persistence: packet ids start anew.
        assert eventually(lambda: len(connects) == 2)
        with Connection(address_of(broker), name()) as publisher:
            publisher.publish_and_wait(any_topic("x"), b"new")
            publisher.publish_and_wait(any_topic("x"), b"after")
        new = messages.get(timeout=PATIENCE_S)
        assert (old.payload, new.payload) == (b"old", b"new")
        assert old._packet_id == new._packet_id
        connection.acknowledge(old)
        # One place, held by "new" until it is acknowledged itself.
        expect_silence(messages)
        connection.acknowledge(new)
        assert messages.get(timeout=PATIENCE_S).payload == b"after"


def test_who_is_taken_over_is_told_once_and_stays_away(
    eventually: Callable[..., bool],
) -> None:
    # Brokers that say so (MQTT 5.0, section 3.14.2.1); mosquitto 2.0.11 and rumqttd do not.
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
        server.settimeout(1.5)  # Past the first reconnect delay.
        with pytest.raises(TimeoutError):
            server.accept()
    assert not client.is_connected
    client.close()
    assert told == [1]


@pytest.mark.parametrize("session_expiry_s", [0, 60])
def test_messages_wait_for_a_session_as_long_as_it_is_kept(
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


def test_what_was_published_before_closing_is_sent(mosquitto: MosquittoBroker) -> None:
    topic = name()
    with Connection(address_of(mosquitto), name()) as reader:
        messages = listen(reader, topic)
        with Connection(address_of(mosquitto), name()) as publisher:
            for _ in range(8):
                publisher.publish(any_topic(topic, qos=0), bytes(500_000))
        sizes = [len(messages.get(timeout=PATIENCE_S).payload) for _ in range(8)]
    assert sizes == [500_000] * 8
