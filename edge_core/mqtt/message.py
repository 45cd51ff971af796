"""A message that arrived, and a will."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import paho.mqtt.client as paho


@dataclass(frozen=True)
class Message:
    """A message that arrived.

    Attributes:
        topic: Topic of the message.
        payload: Payload; may be empty.
        response_topic: Topic for the answer; None if the sender expects no answer.
        correlation_data: Request id that the answer repeats; empty if there is none.
        expiry_s: Time to live when the broker sent the message, in seconds; None: no expiry.
        user: User properties; for a repeated key, the last value.
        retained: Whether the broker had stored the message before the subscription.
        arrived: ``time.monotonic()`` at arrival, in seconds.
    """

    topic: str
    payload: bytes | bytearray
    response_topic: str | None
    correlation_data: bytes
    expiry_s: int | None
    user: dict[str, str]
    retained: bool
    arrived: float
    _packet_id: int = 0
    _qos: int = 0
    _connection_number: int = 0


@dataclass(frozen=True)
class Will:
    """A message that the broker publishes when the client is lost (MQTT 5.0, section 3.1.2.5)."""

    topic: str
    payload: bytes


def read_message(message: paho.MQTTMessage, connection_number: int) -> Message:
    """Return paho's message as a :class:`Message`.

    Args:
        message: Message as paho gives it to a callback.
        connection_number: Number of the connection on which the message arrived. A packet id means
            nothing on a later connection.
    """
    properties = message.properties
    return Message(
        topic=message.topic,
        payload=message.payload,
        response_topic=getattr(properties, "ResponseTopic", None),
        correlation_data=getattr(properties, "CorrelationData", b""),
        expiry_s=getattr(properties, "MessageExpiryInterval", None),
        user=dict(getattr(properties, "UserProperty", ())),
        retained=message.retain,
        arrived=time.monotonic(),
        _packet_id=message.mid,
        _qos=message.qos,
        _connection_number=connection_number,
    )
