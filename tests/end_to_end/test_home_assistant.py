"""What Home Assistant would read of real boards: its discovery messages and its templates."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from any_topic import any_topic
from desk import BOARDS, PATIENCE_S, wait_until
from jinja2.sandbox import ImmutableSandboxedEnvironment
from monitors import MONITOR, monitor, stream

from edge_core.mqtt.broker_address import BrokerAddress
from edge_core.mqtt.connection import Connection
from edge_core.mqtt.read_retained import read_retained
from edge_partition.boards.deploy_bundle import Deployer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from desk import Desk

    from edge_core.mqtt.connection import Message
    from edge_partition.bundles.bundle import Bundle

from brokers import free_port, mosquitto_with_accounts


class Assistant:
    """Does what Home Assistant's MQTT integration does: configures entities, renders states."""

    def __init__(self, connection: Connection, prefix: str = "homeassistant") -> None:
        self._connection = connection
        self.prefix = prefix
        self.configs: dict[str, dict[str, Any]] = {}
        self.received: list[str] = []
        self.last: dict[str, bytes] = {}
        #: Home Assistant's templates are Jinja's, in its sandbox.
        self._jinja = ImmutableSandboxedEnvironment()
        connection.subscribe(
            any_topic(f"{prefix}/+/+/config"), self._discover, qos=0, timeout_s=PATIENCE_S
        )

    def _discover(self, message: Message) -> None:
        self.received.append(message.topic)
        _, component, object_id, _ = message.topic.split("/")
        assert component == "device"
        if not message.payload:
            self.configs.pop(object_id, None)
            return
        config = self.configs[object_id] = json.loads(bytes(message.payload))
        topics = {entity["state_topic"] for entity in config["cmps"].values()}
        for topic in topics | {item["topic"] for item in config["availability"]}:
            self._connection.subscribe(any_topic(topic), self._state, qos=0)

    def _state(self, message: Message) -> None:
        self.last[message.topic] = bytes(message.payload)

    def board(self, name: str) -> dict[str, Any]:
        (config,) = [item for item in self.configs.values() if item["dev"]["name"] == name]
        return config

    def entity(self, board: str, key: str) -> str | None:
        """An entity's state; None: nothing came yet."""
        entity = self.board(board)["cmps"][key]
        payload = self.last.get(entity["state_topic"])
        if payload is None:
            return None
        if "value_template" not in entity:
            return payload.decode()
        template = self._jinja.from_string(entity["value_template"])
        return template.render(value=payload.decode(), value_json=json.loads(payload))

    def render(self, board: str, key: str, document: dict[str, Any]) -> str:
        template = self.board(board)["cmps"][key]["value_template"]
        return self._jinja.from_string(template).render(value_json=document)


@contextmanager
def telling(url: str, *words: str, user: str = "") -> Iterator[subprocess.Popen[str]]:
    broker = url.replace("//", f"//{user}@") if user else url
    process = subprocess.Popen(
        [MONITOR, "home-assistant", "--broker", broker, *words], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert "boards are announced" in process.stdout.readline()
        yield process
    finally:
        process.terminate()
        assert process.wait(PATIENCE_S) == 0


def test_boards_appear_with_their_figures_and_go_when_asked(
    three_boards: Desk, digits_bundle: Bundle, images: list[dict[str, np.ndarray]]
) -> None:
    desk = three_boards
    desk.start_agent("pi.spare_1")
    with Deployer(desk.url) as deployer:
        deployer.deploy(digits_bundle)
    with Connection(BrokerAddress.parse(desk.url, environ={}), "home-assistant") as connection:
        home = Assistant(connection)
        with telling(desk.url) as teller:
            wait_until(lambda: len(home.configs) == 4, "four boards")
            with stream(desk, images):
                wait_until(lambda: float(home.entity("board-1", "requests") or 0) > 1, "requests")
                assert float(home.entity("board-1", "cpu") or 0) > 0
            for name in (*BOARDS, "pi.spare_1"):
                assert home.entity(name, "connectivity") == "online"
                wait_until(lambda name=name: home.entity(name, "memory") is not None, "statistics")
                memory_mib = float(home.entity(name, "memory") or 0)
                assert 10 < memory_mib < 2000, name
                assert float(home.entity(name, "free_memory") or 0) > memory_mib / 100
                stats = json.loads(home.last[home.board(name)["cmps"]["memory"]["state_topic"]])
                assert home.entity(name, "temperature") == str(stats["temperature_c"])
                throttled = {None: "None", True: "ON", False: "OFF"}[stats["throttled"]]
                assert home.entity(name, "throttled") == throttled
            assert home.entity("pi.spare_1", "requests") == "0.0"
            # An agent of another version may tell less: unknown, and no error.
            for key in ("cpu", "memory", "free_memory", "temperature", "throttled"):
                assert home.render("board-0", key, {}) == "None"
            assert home.render("board-0", "throttled", {"throttled": True}) == "ON"
            assert home.render("board-0", "requests", {}) == "0.0"
            some_at_rest = {"stages": [{"invoke_ms": None}, {"invoke_ms": {"count": 10}}]}
            assert home.render("board-0", "requests", some_at_rest | {"period_s": 4}) == "2.5"

            # Started anew, Home Assistant says so, and is told again.
            told = len(home.received)
            connection.publish_and_wait(any_topic("homeassistant/status"), b"online")
            wait_until(lambda: len(home.received) == told + 4, "all boards again")
            desk.kill_agent("board-1")
            wait_until(lambda: home.entity("board-1", "connectivity") == "offline", "its end")
            # A board that is to be forgotten goes from Home Assistant too.
            connection.publish_and_wait(
                any_topic("edge/v1/device/board-1/availability", retained=True), b""
            )
            wait_until(lambda: len(home.configs) == 3, "its removal")
            assert teller.poll() is None
        # What was told stays when the monitor ends, and others' boards are others'.
        other = "homeassistant/device/zigbee/config"
        connection.publish_and_wait(
            any_topic(other, retained=True),
            b'{"dev":{"name":"z"},"cmps":{},"o":{"name":"z2m"},"availability":[]}',
        )
        assert (
            len(
                read_retained(
                    connection, any_topic("homeassistant/device/+/config"), any_topic("test/own")
                )
            )
            == 4
        )
        removed = monitor(desk.url, "home-assistant", "--remove")
        assert (removed.returncode, removed.stdout) == (
            0,
            "removed 3 boards below homeassistant/\n",
        )
        assert set(
            read_retained(
                connection, any_topic("homeassistant/device/+/config"), any_topic("test/own")
            )
        ) == {other}


def test_a_broker_that_forgot_everything_is_told_again(desk: Desk) -> None:
    desk.start_agent("board-0")
    with telling(desk.url, "--discovery-prefix", "ha"):
        desk.broker.restart()
        with Connection(BrokerAddress.parse(desk.url, environ={}), "home-assistant") as connection:
            home = Assistant(connection, "ha")
            wait_until(lambda: len(home.configs) == 1, "the board again")
            wait_until(lambda: home.entity("board-0", "connectivity") == "online", "its state")


def test_an_account_that_may_write_there_alone_is_enough(tmp_path: Path) -> None:
    """The access list of docs/monitoring."""
    with (
        mosquitto_with_accounts(tmp_path, free_port()) as url,
        Connection(BrokerAddress.parse(url, username="agent", environ={}), "agent") as agent,
        Connection(BrokerAddress.parse(url, username="discovery", environ={}), "home") as home,
    ):
        agent.publish_and_wait(
            any_topic("edge/v1/device/pi-1/availability", retained=True), b"online"
        )
        with telling(url, user="discovery"):
            pass
        (topic,) = read_retained(
            home, any_topic("homeassistant/device/+/config"), any_topic("homeassistant/test/own")
        )
        assert topic == "homeassistant/device/edge_2fv1_2fpi-1/config"


def test_an_account_that_may_not_write_there_is_told_so_in_one_line(tmp_path: Path) -> None:
    with mosquitto_with_accounts(tmp_path, free_port()) as url:
        started = time.monotonic()
        result = monitor(url, "home-assistant")
        assert time.monotonic() - started < 30
    assert (result.returncode, result.stdout) == (1, "")
    assert "can't read and write homeassistant/#" in result.stderr
    assert result.stderr.count("\n") == 1
    assert "prefix" in monitor(url, "home-assistant", "--discovery-prefix", "a/#").stderr
