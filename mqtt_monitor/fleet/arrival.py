"""One message as the monitor takes it: what arrived, where, when."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Arrival:
    """A message that arrived.

    Attributes:
        time_s: When, by the watcher's clock: seconds since 1970.
        topic: Where it was published.
        payload: Its bytes. Of tensors (results) a recording keeps none.
        retained: It was kept by the broker and is not new.
        correlation_data: The request id.
        user: MQTT 5 user properties.
    """

    time_s: float
    topic: str
    payload: bytes
    retained: bool = False
    correlation_data: bytes = b""
    user: Mapping[str, str] = field(default_factory=dict)
