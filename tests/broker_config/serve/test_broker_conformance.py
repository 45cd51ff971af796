"""The features of MQTT 5 that this project uses, on each kind of broker."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import uuid
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from broker_config.serve.broker_process import BrokerStoppedError, PortInUseError

if TYPE_CHECKING:
    from pathlib import Path

    from broker_config.serve.broker_process import BrokerProcess


@pytest.fixture
def topic() -> str:
    return f"edge/v1/test/{uuid.uuid4().hex}"


def test_request_properties_arrive_unchanged(
    any_broker: BrokerProcess, connect: Any, topic: str
) -> None:
    sent = Properties(PacketTypes.PUBLISH)
    sent.ResponseTopic = f"{topic}/result"
    sent.CorrelationData = bytes(range(16))
    sent.UserProperty = [("generation", "g1"), ("trace", "[1.5]")]
    with connect(any_broker) as client:
        client.subscribe(topic)
        client.publish(topic, b"tensor", properties=sent)
        message = client.next()
    assert message.payload == b"tensor"
    assert message.properties.ResponseTopic == f"{topic}/result"
    assert message.properties.CorrelationData == bytes(range(16))
    assert message.properties.UserProperty == [("generation", "g1"), ("trace", "[1.5]")]


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("size_bytes", [1_000_000, 224 * 224 * 64 * 4])
def test_a_large_boundary_arrives_unchanged(
    any_broker: BrokerProcess, connect: Any, topic: str, size_bytes: int, qos: int
) -> None:
    payload = random.Random(size_bytes).randbytes(size_bytes)  # noqa: S311 - no secret
    with connect(any_broker) as client:
        client.subscribe(topic, qos)
        client.publish(topic, payload, qos=qos)
        assert client.next().payload == payload


def test_a_retained_message_waits_for_late_subscribers_until_it_is_cleared(
    any_broker: BrokerProcess, connect: Any, topic: str
) -> None:
    with connect(any_broker) as publisher:
        publisher.publish(topic, b"manifest", retain=True)
        with connect(any_broker) as late:
            late.subscribe(topic)
            message = late.next()
            assert (message.payload, message.retain) == (b"manifest", True)
        publisher.publish(topic, b"", retain=True)
    with connect(any_broker) as later:
        later.subscribe(topic)
        later.expect_silence()


def test_the_broker_publishes_the_will_of_a_lost_client(
    any_broker: BrokerProcess, connect: Any, topic: str
) -> None:
    with connect(any_broker) as watcher:
        watcher.subscribe(topic)
        with connect(any_broker, will=(topic, b"offline")) as dying:
            dying.paho.socket().shutdown(socket.SHUT_RDWR)
            assert watcher.next().payload == b"offline"


def test_the_broker_discards_the_will_of_a_client_that_disconnects(
    any_broker: BrokerProcess, connect: Any, topic: str
) -> None:
    with connect(any_broker) as watcher:
        watcher.subscribe(topic)
        with connect(any_broker, will=(topic, b"offline")):
            pass
        watcher.expect_silence()


def test_a_shared_subscription_gives_each_message_to_one_replica(
    any_broker: BrokerProcess, connect: Any, eventually: Any, topic: str
) -> None:
    count = 20
    with connect(any_broker) as one, connect(any_broker) as two:
        one.subscribe(f"$share/replicas/{topic}")
        two.subscribe(f"$share/replicas/{topic}")
        with connect(any_broker) as publisher:
            for number in range(count):
                publisher.publish(topic, str(number).encode())
        replicas = (one.messages, two.messages)
        assert eventually(lambda: sum(messages.qsize() for messages in replicas) >= count)
        taken = [
            [int(messages.get().payload) for _ in range(messages.qsize())] for messages in replicas
        ]
        one.expect_silence()
        two.expect_silence()
    assert sorted(taken[0] + taken[1]) == list(range(count))
    assert all(taken)


def test_messages_of_one_sender_arrive_in_order(
    any_broker: BrokerProcess, connect: Any, topic: str
) -> None:
    with connect(any_broker) as client:
        client.subscribe(topic)
        for number in range(64):
            client.paho.publish(topic, str(number).encode(), 1)
        assert [int(client.next().payload) for _ in range(64)] == list(range(64))


def test_the_broker_listens_on_this_machine_only(any_broker: BrokerProcess) -> None:
    listening = [
        (link.laddr.ip, link.laddr.port)
        for link in psutil.Process(any_broker.pid).net_connections("tcp")
        if link.status == psutil.CONN_LISTEN
    ]
    assert listening == [("127.0.0.1", any_broker.port)]


def test_a_second_broker_on_the_port_is_an_error(any_broker: BrokerProcess, connect: Any) -> None:
    second = type(any_broker)(port=any_broker.port)  # type: ignore[call-arg]
    with pytest.raises(PortInUseError, match=f"port {any_broker.port} on 127.0.0.1 is in use"):
        second.start()
    with connect(any_broker):
        pass


def test_stopping_frees_the_port_and_leaves_no_process_and_no_folder(
    any_broker: BrokerProcess, connect: Any
) -> None:
    with type(any_broker)(port=0) as broker:  # type: ignore[call-arg]
        process = psutil.Process(broker.pid)
        folder = broker._folder
        assert folder is not None
        assert folder.stat().st_mode & 0o077 == 0
    assert not process.is_running()
    assert not folder.exists()
    with type(any_broker)(port=broker.port) as again:  # type: ignore[call-arg]
        assert again.url == broker.url
        with connect(again):
            pass


def test_a_restart_answers_on_the_same_port_with_a_new_process(
    any_broker: BrokerProcess, connect: Any
) -> None:
    with type(any_broker)(port=0) as broker:  # type: ignore[call-arg]
        url, pid = broker.url, broker.pid
        broker.restart()
        assert broker.url == url
        assert broker.pid != pid
        with connect(broker):
            pass


def test_a_broker_that_ends_by_itself_is_an_error(any_broker: BrokerProcess) -> None:
    with type(any_broker)(port=0) as broker:  # type: ignore[call-arg]
        broker.wait(0.0)
        psutil.Process(broker.pid).kill()
        with pytest.raises(BrokerStoppedError, match="ended by itself"):
            broker.wait(10.0)


def test_a_broker_outlives_the_thread_that_started_it(
    any_broker: BrokerProcess, connect: Any
) -> None:
    with type(any_broker)(port=0) as broker:  # type: ignore[call-arg]
        broker.stop()
        starter = threading.Thread(target=broker.start)
        starter.start()
        starter.join()
        broker.wait(0.3)
        with connect(broker):
            pass


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_broker_ends_with_its_parent(
    any_broker: BrokerProcess, eventually: Any, tmp_path: Path, death: signal.Signals
) -> None:
    kind = type(any_broker)
    program = (
        f"from {kind.__module__} import {kind.__name__} as Broker\n"
        "import signal, sys\n"
        # A background job of a shell starts without a SIGINT handler, nohup ignores SIGHUP.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "broker = Broker(port=0).start()\n"
        "print(broker.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # A killed parent cannot delete its broker's folder.
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as parent:
        assert parent.stdout is not None
        broker = psutil.Process(int(parent.stdout.readline()))
        assert broker.is_running()
        parent.send_signal(death)
        parent.wait()
        assert eventually(
            lambda: not broker.is_running() or broker.status() == psutil.STATUS_ZOMBIE
        )
