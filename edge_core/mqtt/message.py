"""A message that arrived, and a will."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import paho.mqtt.client as paho


class Receipt(NamedTuple):
    """The part of a message that its acknowledgement needs, without the payload.

    Attributes:
        packet_id: MQTT packet id; 0 for a message that needs no acknowledgement.
        connection_number: Number of the connection on which the message arrived. A packet id means
            nothing on a later connection.
    """

    packet_id: int
    connection_number: int


#: A message with quality of service 0.
NO_RECEIPT = Receipt(0, 0)


class Message(NamedTuple):
    """A message that arrived: a tuple, because a dataclass takes four times as long to make.

    Attributes:
        topic: Topic of the message.
        payload: Payload; may be empty.
        response_topic: Topic for the answer; None if the sender expects no answer.
        correlation_data: Request id that the answer repeats; empty if there is none.
        expiry_s: Time to live when the broker sent the message, in seconds; None: no expiry.
        user: User properties; for a repeated key, the last value.
        retained: Whether the broker had stored the message before the subscription.
        arrived: ``time.monotonic()`` at arrival, in seconds.
        receipt: The receiver's means to acknowledge the message.
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
    """A message that the broker publishes when the client is lost (MQTT 5.0, section 3.1.2.5)."""

    topic: str
    payload: bytes


def read_message(message: paho.MQTTMessage) -> Message:
    """Return paho's message as a :class:`Message`; paho acknowledges the message."""
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
