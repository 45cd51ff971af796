"""The subscriptions of one paho client. The client subscribes again after every connect.

This is necessary because a broker that restarts without persistence forgets all subscriptions.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from edge_core.errors import BrokerRefusedError, BrokerUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

    import paho.mqtt.client as paho
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

#: Reason codes of this value or above are errors (MQTT 5.0, section 2.4).
FIRST_ERROR_CODE = 0x80


class Subscriptions:
    """Topic filters, their handlers, and the SUBSCRIBE packets that the broker has not answered.

    Methods may be called from any thread.
    """

    def __init__(self, client: paho.Client, broker_url: str) -> None:
        self._client = client
        self._broker_url = broker_url
        self._lock = threading.Lock()
        self._qos: dict[str, int] = {}
        #: The broker's answers that callers wait for, by the packet id of SUBSCRIBE.
        self._answers: dict[int, Future[ReasonCode]] = {}
        client.on_subscribe = self._handle_subscribe

    def add(
        self,
        topic_filter: str,
        handler: Callable[[paho.MQTTMessage], None],
        *,
        qos: int,
        timeout_s: float | None,
    ) -> None:
        """Subscribe to a topic filter, now and after every connect.

        Args:
            topic_filter: MQTT topic filter. The prefix ``$share/GROUP/`` makes the subscription
                shared: the broker sends each message to one client of the group.
            handler: Called with each message that matches, in the network thread.
            qos: Highest quality of service, 0 or 1.
            timeout_s: Longest wait for the broker's answer, in seconds; None: do not wait.

        Raises:
            BrokerRefusedError: The access list forbids the subscription. Without ``timeout_s``, no
                error is raised.
            BrokerUnreachableError: The broker did not answer within ``timeout_s``.
        """
        self._client.message_callback_add(
            topic_pattern(topic_filter), lambda _client, _userdata, message: handler(message)
        )
        answer: Future[ReasonCode] = Future()
        # The lock keeps an answer from arriving before its packet id is known.
        with self._lock:
            self._qos[topic_filter] = qos
            _, packet_id = self._client.subscribe(topic_filter, qos)
            if timeout_s is None or packet_id is None:
                return
            self._answers[packet_id] = answer
        try:
            code = answer.result(timeout_s)
        except TimeoutError:
            raise BrokerUnreachableError(
                self._broker_url, f"no answer within {timeout_s:g} s"
            ) from None
        if code.value >= FIRST_ERROR_CODE:
            raise BrokerRefusedError(
                self._broker_url, f"no subscription to {topic_filter} ({code})"
            )

    def remove(self, topic_filter: str) -> None:
        """Unsubscribe from a filter, and remove its handler."""
        with self._lock:
            self._qos.pop(topic_filter, None)
        self._client.unsubscribe(topic_filter)
        self._client.message_callback_remove(topic_pattern(topic_filter))

    def restore(self) -> None:
        """Subscribe to all filters again; called after every connect."""
        with self._lock:
            subscriptions = list(self._qos.items())
        if subscriptions:
            self._client.subscribe(subscriptions)

    def _handle_subscribe(
        self,
        _client: paho.Client,
        _userdata: Any,
        packet_id: int,
        codes: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        with self._lock:
            answer = self._answers.pop(packet_id, None)
        if answer is not None:
            answer.set_result(codes[0])


def topic_pattern(topic_filter: str) -> str:
    """Return a topic filter without its prefix ``$share/GROUP/`` (MQTT 5.0, section 4.8.2)."""
    return topic_filter.split("/", 2)[2] if topic_filter.startswith("$share/") else topic_filter
