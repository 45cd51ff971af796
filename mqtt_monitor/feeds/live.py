"""Reads a live fleet from a broker, over one connection that only subscribes.

An account that may only read is enough: this connection publishes nothing and has no will. All
subscriptions use QoS 0. With QoS 1, mosquitto would queue at most 1,000 retained messages for one
client, and would drop the other messages of a large fleet without an error. With QoS 0 a statistics
message may be lost. The monitor notices the loss, because a sequence number is then missing.

A result contains the times of its request, which the monitor wants, and the model's outputs, which
are large. The monitor therefore subscribes to results only while a front end shows requests, and
then only for a moment every few seconds. In this way the monitor receives only a few of the
results.
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
#: Time from the start of one sample of results to the start of the next, in seconds.
_SAMPLE_EVERY_S = 5.0
#: Longest duration of one sample, in seconds.
_SAMPLE_FOR_S = 1.0
#: Most results in one sample.
_SAMPLE_RESULTS = 4
#: Time without a retained message after which all retained messages count as received, in seconds.
_QUIET_S = 0.3
_POLL_S = 0.05


class LiveFeed(Feed):
    """A feed of the fleet at a broker. A context manager, which connects and subscribes on entry.

    Each message updates the state in the network thread.
    """

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
            listener: Called with each message, in the network thread, after the message has updated
                the state.
            on_broker: Called with ``(connected, reason)``, in the network thread, when the
                connection is made or lost. ``reason`` says why the connection was lost; it is None
                when the connection is made.

        Raises:
            BrokerAddressError: The URL is invalid, or a password or certificate file cannot be
                read.
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
        """Connect and subscribe; the broker then sends its retained messages.

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
            # This call does not wait for the broker's answer: an account without the right to read
            # traces can still read everything else.
            self._connection.subscribe(topics.trace("+"), self._arrive)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop sampling results and disconnect."""
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
        """Wait for all retained messages, then for statistics of every board that is online.

        Args:
            stats_within_s: The longest wait for statistics, in seconds.
        """
        # The broker has acknowledged every subscription and sends retained messages at once. Only a
        # pause shows their end: a read-only account cannot publish a message that marks the end.
        while (quiet_s := time.monotonic() - self._last_retained) < _QUIET_S:
            time.sleep(_QUIET_S - quiet_s)
        deadline = time.monotonic() + stats_within_s
        while time.monotonic() < deadline:
            devices = self.snapshot().devices.values()
            if all(device.load is not None for device in devices if device.state == "online"):
                return
            time.sleep(_POLL_S)

    def watch_requests(self, wanted: bool) -> None:
        """Start or stop sampling results.

        Args:
            wanted: Whether to sample results from now on.
        """
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
            # Ignored: the account may have no right to read results, or no connection may exist.
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

    # The network thread calls the methods below.

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
