from __future__ import annotations

import os
import queue
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from broker_config.serve.embedded import EmbeddedBroker, has_embedded
from broker_config.serve.mosquitto import MosquittoBroker, find_mosquitto

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from broker_config.serve.broker_process import BrokerProcess

PATIENCE_S = 20.0
SILENCE_S = 0.3


def _need(found: object, what: str) -> None:
    """Skip the test if a broker is missing; fail in CI, where a skip would hide a defect."""
    if found:
        return
    if os.environ.get("CI"):
        pytest.fail(f"{what} must be installed in CI")
    pytest.skip(f"{what} is not installed")


@pytest.fixture
def mosquitto_installed() -> None:
    _need(find_mosquitto(), "mosquitto")


@pytest.fixture
def embedded_installed() -> None:
    _need(has_embedded(), "iotcore")


@pytest.fixture(scope="module", params=["mosquitto", "embedded"])
def any_broker(request: pytest.FixtureRequest) -> Iterator[BrokerProcess]:
    """A broker of each kind on a free port, one for a module; tests use topics of their own."""
    broker: BrokerProcess
    if request.param == "mosquitto":
        _need(find_mosquitto(), "mosquitto")
        broker = MosquittoBroker(port=0)
    else:
        _need(has_embedded(), "iotcore")
        broker = EmbeddedBroker(port=0)
    with broker:
        yield broker


@pytest.fixture(scope="module")
def mosquitto() -> Iterator[MosquittoBroker]:
    """A mosquitto on a free port, one for a module; tests use topics of their own."""
    _need(find_mosquitto(), "mosquitto")
    with MosquittoBroker(port=0) as broker:
        yield broker


@dataclass
class Client:
    """A plain paho MQTT 5 client that puts its messages into a queue."""

    paho: mqtt.Client
    announced: Properties
    messages: queue.Queue[mqtt.MQTTMessage]
    subscribed: queue.Queue[int] = field(default_factory=queue.Queue)

    def subscribe(self, topic: str, qos: int = 1) -> None:
        self.paho.on_subscribe = lambda *details: self.subscribed.put(details[2])
        self.paho.subscribe(topic, options=SubscribeOptions(qos=qos))
        self.subscribed.get(timeout=PATIENCE_S)

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        properties: Properties | None = None,
    ) -> None:
        self.paho.publish(topic, payload, qos, retain, properties).wait_for_publish(PATIENCE_S)

    def next(self) -> mqtt.MQTTMessage:
        return self.messages.get(timeout=PATIENCE_S)

    def expect_silence(self) -> None:
        with pytest.raises(queue.Empty):
            self.messages.get(timeout=SILENCE_S)


@contextmanager
def _connected(
    broker: BrokerProcess,
    *,
    will: tuple[str, bytes] | None = None,
    session: str | None = None,
) -> Iterator[Client]:
    """Connect a client; ``session`` is the client id of a session that the broker keeps."""
    paho = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=session or "", protocol=mqtt.MQTTv5)
    accepted: queue.Queue[Properties | None] = queue.Queue()
    messages: queue.Queue[mqtt.MQTTMessage] = queue.Queue()
    paho.on_socket_open = lambda _client, _data, link: link.setsockopt(
        socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
    )
    paho.on_connect = lambda *details: accepted.put(None if details[3].is_failure else details[4])
    paho.on_message = lambda _client, _data, message: messages.put(message)
    if will is not None:
        paho.will_set(will[0], will[1], qos=1)
    properties = Properties(PacketTypes.CONNECT)
    if session is not None:
        properties.SessionExpiryInterval = 3600
    host = broker.url.removeprefix("mqtt://").rpartition(":")[0]
    paho.connect(host, broker.port, clean_start=session is None, properties=properties)
    paho.loop_start()
    try:
        announced = accepted.get(timeout=PATIENCE_S)
        assert announced is not None
        yield Client(paho, announced, messages)
    finally:
        paho.disconnect()
        paho.loop_stop()


@pytest.fixture
def connect() -> Callable[..., object]:
    return _connected


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], bool]:
    def wait(holds: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    return wait
