"""Reads the retained messages that match a topic filter."""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING

from edge_core.contract.topics import Topic
from edge_core.errors import BrokerUnreachableError

if TYPE_CHECKING:
    from edge_core.mqtt.connection import Connection
    from edge_core.mqtt.message import Message


def read_retained(
    connection: Connection, topic_filter: Topic, own_topic: Topic, *, timeout_s: float = 10.0
) -> dict[Topic, bytes]:
    """Return the payloads of the retained messages that match a filter, by topic.

    A broker sends a subscriber the retained messages before any later message. The function
    therefore publishes a marker message below ``own_topic``. When the marker arrives, all retained
    messages have arrived.

    Args:
        connection: An open connection.
        topic_filter: MQTT topic filter.
        own_topic: A topic that no other client uses.
        timeout_s: Longest wait for each answer of the broker, in seconds.

    Raises:
        BrokerRefusedError: The access list forbids a subscription.
        BrokerUnreachableError: The broker did not answer a subscription, or the marker did not
            arrive, within ``timeout_s``.
    """
    found: dict[Topic, bytes] = {}
    marker, end = uuid.uuid4().bytes, threading.Event()

    def keep(message: Message) -> None:
        if message.retained and message.payload:
            found[Topic(message.topic, topic_filter.kind)] = bytes(message.payload)

    def finish(message: Message) -> None:
        if message.correlation_data == marker:
            end.set()

    marker_topic = own_topic.below(marker.hex())
    try:
        # With QoS 1, mosquitto queues at most 1,000 messages and rumqttd sends at most 100. Both
        # brokers drop further messages without an error. QoS 0 has no such limit.
        connection.subscribe(marker_topic, finish, qos=0, timeout_s=timeout_s)
        connection.subscribe(topic_filter, keep, qos=0, timeout_s=timeout_s)
        connection.publish(marker_topic, b"", correlation_data=marker)
        arrived = end.wait(timeout_s)
    finally:
        connection.unsubscribe(topic_filter)
        connection.unsubscribe(marker_topic)
    if not arrived:
        raise BrokerUnreachableError(connection.address.url, f"no answer within {timeout_s:g} s")
    return found
