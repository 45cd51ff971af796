"""Connections to a test's broker, and the messages that they receive."""

from __future__ import annotations

import queue
import uuid
from typing import TYPE_CHECKING

import pytest
from any_topic import any_topic

from edge_core.mqtt.broker_address import BrokerAddress
from edge_core.mqtt.connection import Connection, Message

if TYPE_CHECKING:
    from broker_config.serve.broker_process import BrokerProcess

PATIENCE_S = 20.0
SILENCE_S = 0.3

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
