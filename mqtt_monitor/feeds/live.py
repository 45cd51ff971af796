"""The live fleet at a broker: one connection that only listens.

A read-only account is enough: the monitor publishes nothing and has no will. All subscriptions use
QoS 0. With QoS 1, mosquitto would queue 1,000 retained messages for one client and drop the rest of
a large fleet silently. A lost statistics message leaves a gap in the messages' numbers.

A result carries the trace of its request and the model's outputs. The monitor subscribes to results
only while a front end shows requests, and only for a moment every few seconds, so that the broker
copies a few results and not all of them.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from typing import TYPE_CHECKING, Self

from edge_core.contract.topics import DEFAULT_PREFIX, Topics
from edge_core.errors import EdgePartitionError
from edge_core.mqtt.broker_address import BrokerAddress
from edge_core.mqtt.connection import Connection
from mqtt_monitor.feeds.feed import Feed
from mqtt_monitor.fleet.arrival import Arrival

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_core.mqtt.connection import Message

_ANSWER_S = 10.0
#: Time between two samples of results, in seconds.
_SAMPLE_EVERY_S = 5.0
#: Longest time of one sample, in seconds.
_SAMPLE_FOR_S = 1.0
#: Most results in one sample.
_SAMPLE_RESULTS = 4
#: Silence after which all retained messages count as received, in seconds.
_QUIET_S = 0.3
_POLL_S = 0.05


class LiveFeed(Feed):
    """The fleet at a broker. A context manager: entering the context connects and subscribes."""

    def __init__(
        self,
        broker: str | BrokerAddress,
        *,
        prefix: str = DEFAULT_PREFIX,
        listener: Callable[[Arrival], None] | None = None,
        on_broker: Callable[[bool, str | None], None] | None = None,
    ) -> None:
        """Prepare the connection.

        Args:
            broker: URL or address of the broker.
            prefix: The topics' prefix.
            listener: Called with each message in the network thread, after the state is updated.
            on_broker: Called with (connected, reason) when the connection is made or lost.

        Raises:
            BrokerAddressError: The URL, or a file that it needs, cannot be used.
            TopicPrefixError: The prefix is not a valid topic prefix.
        """
        address = BrokerAddress.parse(broker) if isinstance(broker, str) else broker
        super().__init__(prefix, address.url)
        self._topics = Topics(prefix)
        self._listener = listener
        self._on_broker = on_broker
        self._connection = Connection(
            address,
            f"edge-monitor-{uuid.uuid4().hex[:12]}",
            on_connected=self._connected,
            on_disconnected=self._disconnected,
        )
        self._last_retained = time.monotonic()
        self._sampling = threading.Event()
        self._closing = threading.Event()
        self._sampled = threading.Semaphore(0)
        self._sampler: threading.Thread | None = None

    def open(self) -> None:
        """Connect and subscribe. The broker then sends its retained messages.

        Raises:
            BrokerUnreachableError: No broker answers at the address.
            BrokerRefusedError: The broker refused the connection or a subscription.
        """
        self._connection.open()
        try:
            topics = self._topics
            for topic_filter in (
                topics.manifest("+"),
                topics.availability("+"),
                topics.profile("+"),
                topics.stats("+"),
            ):
                self._connection.subscribe(topic_filter, self._arrive, qos=0, timeout_s=_ANSWER_S)
            # Without waiting: an account that may not read traces still sees everything else.
            self._connection.subscribe(topics.trace("+"), self._arrive)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Disconnect."""
        self._closing.set()
        self._sampling.set()
        if self._sampler is not None:
            self._sampler.join()
        self._connection.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def now_s(self) -> float:
        """Return this machine's time, in seconds since the epoch."""
        return time.time()

    def wait_until_known(self, stats_within_s: float) -> None:
        """Wait for all retained messages, then for statistics of every online board.

        Args:
            stats_within_s: The longest wait for statistics, in seconds.
        """
        # The broker has acknowledged every subscription and sends retained messages at once. A
        # read-only account cannot mark their end with a message of its own.
        while (quiet_s := time.monotonic() - self._last_retained) < _QUIET_S:
            time.sleep(_QUIET_S - quiet_s)
        deadline = time.monotonic() + stats_within_s
        while time.monotonic() < deadline:
            devices = self.snapshot().devices.values()
            if all(device.load is not None for device in devices if device.state == "online"):
                return
            time.sleep(_POLL_S)

    def watch_requests(self, wanted: bool) -> None:
        """Start or stop sampling results."""
        if not wanted:
            self._sampling.clear()
            return
        self._sampling.set()
        if self._sampler is None:
            self._sampler = threading.Thread(target=self._sample, name="sampler", daemon=True)
            self._sampler.start()

    def _sample(self) -> None:
        topic_filter = self._topics.result("+")
        while True:
            self._sampling.wait()
            if self._closing.is_set():
                return
            # The account may have no right to read results, or the broker may be unreachable.
            with contextlib.suppress(EdgePartitionError):
                self._connection.subscribe(topic_filter, self._result, qos=0, timeout_s=_ANSWER_S)
            ends = time.monotonic() + _SAMPLE_FOR_S
            for _ in range(_SAMPLE_RESULTS):
                if not self._sampled.acquire(timeout=max(0.0, ends - time.monotonic())):
                    break
            self._connection.unsubscribe(topic_filter)
            while self._sampled.acquire(blocking=False):
                pass
            if self._closing.wait(_SAMPLE_EVERY_S - _SAMPLE_FOR_S):
                return

    # Called in the network thread

    def _result(self, message: Message) -> None:
        self._arrive(message)
        self._sampled.release()

    def _arrive(self, message: Message) -> None:
        if message.retained:
            self._last_retained = message.arrived
        arrival = Arrival(
            time_s=time.time(),
            topic=message.topic,
            payload=bytes(message.payload),
            retained=message.retained,
            correlation_data=message.correlation_data,
            user=message.user,
        )
        self._fold(arrival)
        if self._listener is not None:
            self._listener(arrival)

    def _connected(self) -> None:
        self._last_retained = time.monotonic()
        self._tell(connected=True)

    def _disconnected(self, reason: str) -> None:
        self._tell(connected=False, reason=reason)

    def _tell(self, *, connected: bool, reason: str | None = None) -> None:
        self._note_broker(time.time(), connected=connected, reason=reason)
        if self._on_broker is not None:
            self._on_broker(connected, reason)
