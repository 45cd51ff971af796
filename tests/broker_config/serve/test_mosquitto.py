from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from broker_config.serve.broker_process import MAX_PACKET_SIZE_BYTES, BrokerStartError
from broker_config.serve.mosquitto import MosquittoBroker

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("mosquitto_installed")

TOPIC = "edge/v1/deployment/digits/manifest"


def test_a_broker_has_a_kind_a_version_and_a_url() -> None:
    with MosquittoBroker(port=0) as broker:
        assert broker.kind == "mosquitto"
        assert re.fullmatch(r"\d+\.\d+\.\d+.*", broker.version)
        assert broker.url == f"mqtt://127.0.0.1:{broker.port}"
        assert "mosquitto" in psutil.Process(broker.pid).name()


def test_the_broker_announces_its_packet_limit(connect: Any) -> None:
    with MosquittoBroker(port=0) as broker, connect(broker) as client:
        assert client.announced.MaximumPacketSize == MAX_PACKET_SIZE_BYTES


def test_a_restart_with_a_state_dir_keeps_retained_messages(tmp_path: Path, connect: Any) -> None:
    with MosquittoBroker(port=0, state_dir=tmp_path / "state") as broker:
        with connect(broker) as client:
            client.publish(TOPIC, b"live", retain=True)
        broker.restart()
        with connect(broker) as client:
            client.subscribe(TOPIC)
            assert client.next().payload == b"live"


def test_a_new_broker_uses_an_old_state_dir(tmp_path: Path, connect: Any) -> None:
    with MosquittoBroker(port=0, state_dir=tmp_path) as first, connect(first) as client:
        client.publish(TOPIC, b"live", retain=True)
    with MosquittoBroker(port=0, state_dir=tmp_path) as second, connect(second) as client:
        client.subscribe(TOPIC)
        assert client.next().payload == b"live"


def test_a_restart_without_a_state_dir_loses_retained_messages(connect: Any) -> None:
    with MosquittoBroker(port=0) as broker:
        with connect(broker) as client:
            client.publish(TOPIC, b"live", retain=True)
        broker.restart()
        with connect(broker) as client:
            client.subscribe(TOPIC)
            client.expect_silence()


def test_a_session_receives_messages_from_its_clients_absence(connect: Any) -> None:
    with MosquittoBroker(port=0) as broker:
        with connect(broker, session="pi-1") as client:
            client.subscribe(TOPIC)
        with connect(broker) as publisher:
            publisher.publish(TOPIC, b"while away")
        with connect(broker, session="pi-1") as client:
            assert client.next().payload == b"while away"


def test_an_error_about_a_broken_database_has_the_brokers_message(tmp_path: Path) -> None:
    (tmp_path / "mosquitto.db").write_bytes(os.urandom(4096))
    with pytest.raises(BrokerStartError, match=r"(?i)persist|database|db file") as caught:
        MosquittoBroker(port=0, state_dir=tmp_path).start()
    assert "\n" not in str(caught.value)


def test_an_error_about_the_state_dir_names_the_option(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BrokerStartError, match="--state-dir"):
        MosquittoBroker(port=0, state_dir=tmp_path / "file" / "state").start()


@pytest.mark.parametrize("host", ["", "no-such-host.invalid", "192.0.2.1"])
def test_an_error_about_the_host_names_the_option(host: str) -> None:
    with pytest.raises(BrokerStartError, match="--listen"):
        MosquittoBroker(host, 0).start()


def test_localhost_is_reachable_by_its_name(connect: Any) -> None:
    with MosquittoBroker("localhost", 0) as broker:
        assert broker.url == f"mqtt://localhost:{broker.port}"
        with connect(broker):
            pass
