"""The stand-in steps a connection while the owner is busy for long, and at no other time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from any_topic import any_topic
from connections import PATIENCE_S, address_of, name
from mqtt_server import PINGREQ, Server

from edge_core.mqtt.connection import Connection
from edge_core.mqtt.data_connection import DataConnection
from edge_core.mqtt.stand_in import LONG_S, LOOK_S, StandIn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from broker_config.serve.mosquitto import MosquittoBroker
    from edge_core.mqtt.message import Message


class Owner:
    """A connection with a stand-in, and a sender of messages to it."""

    def __init__(self, broker: MosquittoBroker) -> None:
        self.topic = any_topic(name())
        self.arrived: list[Message] = []
        self.connection = DataConnection(
            address_of(broker),
            name(),
            on_message=self.arrived.append,
        )
        self.connection.subscribe(self.topic)
        self.connection.open()
        self.sender = Connection(address_of(broker), name())
        self.sender.open()
        self.stand_in = StandIn(self.connection)
        self.stand_in.start()

    def close(self) -> None:
        self.stand_in.close()
        self.sender.close()
        self.connection.close()


@pytest.fixture
def owner(mosquitto: MosquittoBroker) -> Iterator[Owner]:
    made = Owner(mosquitto)
    yield made
    made.close()


def test_messages_arrive_while_the_owner_is_busy(
    owner: Owner, eventually: Callable[..., bool]
) -> None:
    owner.stand_in.owner_is_busy()
    owner.sender.publish_and_wait(owner.topic, b"x")
    assert eventually(lambda: owner.arrived)
    assert owner.stand_in.is_stepping
    owner.sender.publish_and_wait(owner.topic, bytes(1_000_000))
    assert eventually(lambda: len(owner.arrived) == 2)


def test_nobody_steps_for_an_owner_that_is_not_busy(owner: Owner) -> None:
    owner.stand_in.owner_is_busy()
    owner.stand_in.owner_steps()
    owner.sender.publish_and_wait(owner.topic, b"x")
    time.sleep(5 * LOOK_S)
    assert owner.arrived == []
    assert not owner.stand_in.is_stepping
    owner.connection.step(PATIENCE_S)
    assert len(owner.arrived) == 1


def test_an_owner_with_short_work_keeps_the_messages_for_itself(owner: Owner) -> None:
    owner.sender.publish_and_wait(owner.topic, b"x")
    deadline = time.monotonic() + 5 * LOOK_S
    while time.monotonic() < deadline:
        owner.stand_in.owner_is_busy()
        owner.stand_in.owner_steps()
        assert not owner.stand_in.is_stepping
    assert owner.arrived == []


def test_the_stand_in_steps_at_once_for_an_owner_whose_work_was_long(owner: Owner) -> None:
    """Each piece of work ends before a look would find it older than the look before."""
    stepping = 0
    for _ in range(20):
        owner.stand_in.owner_is_busy()
        time.sleep(3 * LONG_S)
        stepping += owner.stand_in.is_stepping
        owner.stand_in.owner_steps()
        time.sleep(LONG_S)
    assert stepping > 5


def test_the_owners_step_ends_the_stand_ins(owner: Owner, eventually: Callable[..., bool]) -> None:
    for number in range(1, 21):
        owner.stand_in.owner_is_busy()
        assert eventually(lambda: owner.stand_in.is_stepping)
        owner.stand_in.owner_steps()
        # The stand-in's step would last for 5 s.
        owner.sender.publish(owner.topic, b"x")
        owner.connection.step(4.0)
        owner.connection.step(0)
        assert eventually(lambda n=number: len(owner.arrived) == n or owner.connection.step(0.1))
        assert not owner.stand_in.is_stepping


def test_the_connection_lives_while_nobody_steps() -> None:
    with Server() as server:
        connection = DataConnection(server.address, name(), keepalive_s=1)
        connection.open()
        stand_in = StandIn(connection)
        stand_in.start()
        link = server.links[-1]
        link.settimeout(PATIENCE_S)
        for _ in range(2):
            assert link.recv(100) == PINGREQ
            link.sendall(b"\xd0\x00")
        stand_in.close()
        connection.close(0)


@pytest.mark.timeout(60)
def test_a_stand_in_may_be_closed_at_any_time(mosquitto: MosquittoBroker) -> None:
    owner = Owner(mosquitto)
    owner.close()
    for number in range(200):
        stand_in = StandIn(owner.connection)
        stand_in.start()
        if number % 2:
            stand_in.owner_is_busy()
        stand_in.close()
    StandIn(owner.connection).close()
