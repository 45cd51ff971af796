"""The type of the messages that feeds pass to the fleet's state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Arrival:
    """A received message.

    Attributes:
        time_s: Arrival time by the monitor's clock, in seconds since the epoch.
        topic: The message's topic.
        payload: The payload; empty for a result with tensors in a recording.
        retained: Whether the broker had retained the message.
        correlation_data: The request's id; empty if the message has none.
        user: The MQTT 5 user properties, by name.
    """

    time_s: float
    topic: str
    payload: bytes
    retained: bool = False
    correlation_data: bytes = b""
    user: Mapping[str, str] = field(default_factory=dict)
