"""The subscriptions of the connection for activations, and the handlers of their messages.

This module uses no socket: the connection sends the packets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import mqtt5
from paho.mqtt.client import topic_matches_sub

from edge_core.mqtt.subscriptions import FIRST_ERROR_CODE, topic_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_core.mqtt.message import Message

    Handler: TypeAlias = Callable[[Message], None]

_QOS = (mqtt5.QoS.AT_MOST_ONCE, mqtt5.QoS.AT_LEAST_ONCE)


class DataSubscriptions:
    """Topic filters, their handlers, and the broker's answers to the subscriptions.

    Attributes:
        refused: The broker's reason for each refused subscription, by topic filter.
    """

    def __init__(self, on_message: Handler | None) -> None:
        """Start without subscriptions.

        Args:
            on_message: Handler of messages that no other handler takes; None: drop such messages.
        """
        self._on_message = on_message
        #: Highest quality of service, 0 or 1, by filter.
        self._filters: dict[str, int] = {}
        #: Handlers, by filter without the prefix ``$share/GROUP/``.
        self._handlers: dict[str, Handler] = {}
        #: Filters of each SUBSCRIBE packet that the broker has not answered, by packet id.
        self._requested: dict[int, Sequence[str]] = {}
        self.refused: dict[str, str] = {}

    @property
    def filters(self) -> list[str]:
        """All topic filters, in the order in which they were added."""
        return list(self._filters)

    @property
    def is_answered(self) -> bool:
        """Whether the broker has answered all SUBSCRIBE packets."""
        return not self._requested

    def start_over(self) -> None:
        """Delete the broker's answers of the previous connection; keep the filters."""
        self._requested.clear()
        self.refused.clear()

    def add(self, topic_filter: str, handler: Handler | None, qos: int) -> None:
        """Add a filter and its handler, or replace the handler of an added filter.

        Args:
            topic_filter: MQTT topic filter.
            handler: Handler of the filter's messages; None: ``on_message``.
            qos: Highest quality of service, 0 or 1.
        """
        self._filters[topic_filter] = qos
        if handler is not None:
            self._handlers[topic_pattern(topic_filter)] = handler

    def remove(self, topic_filter: str) -> None:
        """Remove a filter and its handler."""
        self._filters.pop(topic_filter, None)
        self._handlers.pop(topic_pattern(topic_filter), None)

    def handler_of(self, topic: str) -> Handler | None:
        """Return the handler of messages with a topic; None if the message is to be dropped."""
        handler = self._handlers.get(topic)
        if handler is not None:
            return handler
        for pattern, candidate in list(self._handlers.items()):
            if topic_matches_sub(pattern, topic):
                return candidate
        return self._on_message

    def request(self, packet_id: int, filters: Sequence[str]) -> bytes:
        """Return the SUBSCRIBE packet for ``filters``; record that its answer has not arrived."""
        self._requested[packet_id] = filters
        wanted = [
            # The retain flag then marks only messages that the broker had stored before.
            mqtt5.TopicFilter(
                str(item), max_qos=_QOS[self._filters.get(item, 1)], retain_as_published=False
            )
            for item in filters
        ]
        return mqtt5.SubscribePacket(packet_id, wanted).write()

    def take_answer(self, packet: mqtt5.SubAckPacket) -> list[tuple[str, str]]:
        """Record the broker's answer; return each refused filter with the broker's reason."""
        filters = self._requested.pop(packet.packet_id, ())
        refused = [
            (topic_filter, code.name.replace("_", " ").capitalize())
            for topic_filter, code in zip(filters, packet.reason_codes, strict=False)
            if int(code) >= FIRST_ERROR_CODE
        ]
        self.refused.update(refused)
        return refused
