from __future__ import annotations

from importlib.metadata import version
from typing import Any

import psutil
import pytest

from broker_config.serve.broker_process import BrokerStartError
from broker_config.serve.embedded import EmbeddedBroker

pytestmark = pytest.mark.usefixtures("embedded_installed")


def test_a_broker_has_a_kind_a_version_and_a_url() -> None:
    with EmbeddedBroker(port=0) as broker:
        assert broker.kind == "embedded"
        assert broker.version == version("iotcore")
        assert broker.url == f"mqtt://127.0.0.1:{broker.port}"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::"])  # noqa: S104
def test_the_embedded_broker_listens_on_loopback_addresses_only(host: str) -> None:
    with pytest.raises(BrokerStartError, match="Install mosquitto"):
        EmbeddedBroker(host, 0)


def test_the_embedded_broker_listens_on_a_name_of_this_machine(connect: Any) -> None:
    with EmbeddedBroker("localhost", 0) as broker, connect(broker):
        pass


def test_a_window_of_large_messages_waits_for_a_slow_reader(connect: Any) -> None:
    payloads = [bytes([number]) * 800_000 for number in range(16)]
    with EmbeddedBroker(port=0) as broker, connect(broker) as reader, connect(broker) as sender:
        reader.subscribe("edge/v1/slow")
        # The reader reads nothing from the socket while its network thread is stopped.
        reader.paho.loop_stop()
        for payload in payloads:
            sender.publish("edge/v1/slow", payload)
        reader.paho.loop_start()
        assert [reader.next().payload for _ in payloads] == payloads


def test_log_and_memory_stay_bounded_under_traffic(connect: Any) -> None:
    payload = bytes(800_000)
    with EmbeddedBroker(port=0) as broker, connect(broker) as client:
        client.subscribe("edge/v1/busy")
        for _ in range(300):
            client.publish("edge/v1/busy", payload)
            client.next()
        # The broker passed on 240 MB; with the default segments it would keep all of them.
        assert psutil.Process(broker.pid).memory_info().rss < 150 * 1024 * 1024
        assert broker._log_path.stat().st_size == 0
