"""MQTT messages: a received message, its receipt, and a will."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import paho.mqtt.client as paho


class Receipt(NamedTuple):
    """The data with which a receiver acknowledges a message.

    Attributes:
        packet_id: MQTT packet id; 0 for a message that needs no acknowledgement.
        connection_number: Number of the connection on which the message arrived, counted from 1. A
            packet id is valid on that connection only.
    """

    packet_id: int
    connection_number: int


#: Receipt of a message with quality of service 0, which needs no acknowledgement.
NO_RECEIPT = Receipt(0, 0)


class Message(NamedTuple):
    """A received message.

    The class is a named tuple: an instance of a dataclass takes four times as long to create.

    Attributes:
        topic: Topic of the message.
        payload: Payload; may be empty.
        response_topic: Topic for the answer; None if the sender expects no answer.
        correlation_data: Request id, which the answer must repeat; empty: the message has no id.
        expiry_s: Time from the sending by the broker until the message expires, in seconds; None:
            no limit.
        user: User properties, by name. If a name occurs several times, the last value counts.
        retained: Whether the broker had stored the message before the subscription.
        arrived: ``time.monotonic()`` when the message arrived, in seconds.
        receipt: The data with which the receiver acknowledges the message.
    """

    topic: str
    payload: bytes | memoryview
    response_topic: str | None
    correlation_data: bytes
    expiry_s: int | None
    user: dict[str, str]
    retained: bool
    arrived: float
    receipt: Receipt = NO_RECEIPT


@dataclass(frozen=True)
class Will:
    """A message that the broker publishes if the client's connection is lost.

    Source: MQTT 5.0, section 3.1.2.5.
    """

    topic: str
    payload: bytes


def read_message(message: paho.MQTTMessage) -> Message:
    """Return a message of paho as a :class:`Message`. It has no receipt: paho acknowledges it."""
    properties = message.properties
    return Message(
        topic=message.topic,
        payload=bytes(message.payload),
        response_topic=getattr(properties, "ResponseTopic", None),
        correlation_data=getattr(properties, "CorrelationData", b""),
        expiry_s=getattr(properties, "MessageExpiryInterval", None),
        user=dict(getattr(properties, "UserProperty", ())),
        retained=message.retain,
        arrived=time.monotonic(),
    )
