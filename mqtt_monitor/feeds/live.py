"""A live fleet: one connection that listens and says nothing.

A read-only account will do: the monitor publishes nothing and leaves no will. Everything is asked
for with QoS 0: of the messages that a broker retains for a large fleet, mosquitto queues 1,000 of
QoS 1 for one client and drops the rest in silence; what is lost on the way shows as a gap in the
statistics' sequence.

Results carry the trace of a request, and a model's outputs with it. They are asked for only while a
face wants to show requests, and then for a moment at a time: a broker copies a few results every
few seconds, not every one.
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
#: Every so often results are listened for, until there are enough of them or time is up.
_SAMPLE_EVERY_S = 5.0
_SAMPLE_FOR_S = 1.0
_SAMPLE_RESULTS = 4
#: After the last retained message a broker is silent for so long.
_QUIET_S = 0.3
_POLL_S = 0.05


class LiveFeed(Feed):
    """The fleet at a broker. A context manager: entering connects and subscribes."""

    def __init__(
        self,
        broker: str | BrokerAddress,
        *,
        prefix: str = DEFAULT_PREFIX,
        listener: Callable[[Arrival], None] | None = None,
        on_broker: Callable[[bool, str | None], None] | None = None,
    ) -> None:
        """Prepare.

        Args:
            broker: Its URL or address.
            prefix: The topics' prefix.
            listener: Called with each message, in the network thread, after it was folded.
            on_broker: Called with whether the broker is there, and why not.

        Raises:
            BrokerAddressError: The URL, or a file that goes with it, can't be used.
            TopicPrefixError: The prefix is no topic prefix.
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
        """Connect, subscribe and take in what the broker retains.

        Raises:
            BrokerUnreachableError: No broker there.
            BrokerRefusedError: The broker said no to the connection or a subscription.
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
            # Not waited for: an account that may not read it still sees everything else.
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
        """Return the time."""
        return time.time()

    def wait_until_known(self, stats_within_s: float) -> None:
        """Wait for what the broker retains, then for statistics of every board online.

        Args:
            stats_within_s: The longest to wait for statistics, in seconds.
        """
        # The broker has acknowledged every subscription, and sends what it retains at once; a
        # reader that may not publish can't mark its end by a message of its own.
        while (quiet_s := time.monotonic() - self._last_retained) < _QUIET_S:
            time.sleep(_QUIET_S - quiet_s)
        deadline = time.monotonic() + stats_within_s
        while time.monotonic() < deadline:
            devices = self.snapshot().devices.values()
            if all(device.load is not None for device in devices if device.state == "online"):
                return
            time.sleep(_POLL_S)

    def watch_requests(self, wanted: bool) -> None:
        """Begin or end to listen for results, a moment every few seconds."""
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
            # An account that may not read results sees no requests; the broker may be away.
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

    # In the network thread

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
