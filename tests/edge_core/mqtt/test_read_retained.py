from __future__ import annotations

from typing import TYPE_CHECKING

from any_topic import any_topic
from connections import address_of, name

from edge_core.mqtt.connection import Connection
from edge_core.mqtt.read_retained import read_retained

if TYPE_CHECKING:
    from broker_config.serve.broker_process import BrokerProcess


def test_read_retained_returns_all_retained_messages_and_no_others(
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
