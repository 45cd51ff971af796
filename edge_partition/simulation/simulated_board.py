"""A board in simulated time: its queue at the broker, its link and its processors.

The parts of the model, with the modelled module in parentheses:

- The broker sends a board at most its receive maximum of unacknowledged requests
  (:mod:`edge_core.mqtt.connection`); other requests wait at the broker.
- The link is half duplex: a message in and a message out at the same time each get half of the
  bandwidth.
- The network thread and the inference thread each serve first come, first served. Each slows the
  other down to the degree that they share processors.
- A board acknowledges a request when the result has left the board (:mod:`device_agent.worker`). A
  board that fails loses its work. When the board is back, the broker sends all unacknowledged
  requests again.
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

from edge_partition.simulation.shared_server import SharedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edge_partition.planning.read_plan import ReplicaTimes
    from edge_partition.simulation.event_queue import EventQueue

#: Parts of the time of a request, in the order of :attr:`Copy.spent_ms`.
SOURCE, RESENT, BROKER, LINK, HANDLING, QUEUE, INVOKE = range(7)
SPENT = ("source", "resent", "broker", "link", "handling", "queue", "invoke")

#: Equal to :data:`device_agent.worker.QUEUE_LENGTH`, which the host does not import.
AGENT_QUEUE_LENGTH = 32
#: mosquitto's ``max_queued_messages``, as :mod:`broker_config.serve.mosquitto` sets it. The broker
#: drops a message for a full queue without an error.
BROKER_QUEUE_LENGTH = 1000
_INDEPENDENT = 1.0
_HALF_DUPLEX = 0.5


class Copy:
    """A copy of a request on the way through the stages; each sending makes a copy.

    Attributes:
        number: Number of the request.
        expires_ms: Time at which the broker and the boards drop the copy, in simulated
            milliseconds.
        route: For each stage, the times of the board that serves the copy.
        stage: Current stage.
        accounted_ms: Time up to which ``spent_ms`` accounts for the copy.
        spent_ms: Milliseconds spent in each of :data:`SPENT`.
    """

    __slots__ = ("accounted_ms", "expires_ms", "number", "route", "spent_ms", "stage")

    def __init__(
        self, number: int, route: tuple[ReplicaTimes, ...], now_ms: float, expires_ms: float
    ) -> None:
        self.number = number
        self.route = route
        self.expires_ms = expires_ms
        self.stage = 0
        self.accounted_ms = now_ms
        self.spent_ms = [0.0] * len(SPENT)

    @property
    def times(self) -> ReplicaTimes:
        """Times of the board that serves the copy at the current stage."""
        return self.route[self.stage]

    def spend(self, where: int, until_ms: float) -> None:
        """Account for the time from ``accounted_ms`` to ``until_ms``."""
        self.spent_ms[where] += until_ms - self.accounted_ms
        self.accounted_ms = until_ms


class SimulatedBoard:
    """A board and its queue at the broker.

    Attributes:
        name: Name of the board.
        processor_ms: Busy time of the processors, in milliseconds.
        link_ms: Busy time of the link, in milliseconds.
        served: Number of requests served.
        queue_ms: Sum over requests of the time waiting for inference, in milliseconds.
        broker_ms: Sum over requests of the time waiting at the broker, in milliseconds.
        most_queued: Largest number of requests waiting for inference at once.
        most_at_broker: Largest number of requests waiting at the broker at once.
        first_ms: Time of the first request, in simulated milliseconds; ``None`` before the request.
        last_ms: Time of the last result, in simulated milliseconds.
        is_up: Whether the board serves requests.
    """

    def __init__(
        self,
        events: EventQueue,
        name: str,
        roles: Sequence[ReplicaTimes],
        *,
        receive_maximum: int,
        time_factors: Iterator[float],
        on_result: Callable[[Copy], None],
        on_overloaded: Callable[[Copy], None],
    ) -> None:
        """Create an idle board.

        Args:
            events: The events in simulated time.
            name: Name of the board.
            roles: Times of one request at each stage that the board serves.
            receive_maximum: Largest number of unacknowledged requests at the board.
            time_factors: Factors for the times of successive inferences.
            on_result: Called with a copy when its result has reached the broker.
            on_overloaded: Called with a copy that the board refuses.
        """
        self.name = name
        self.processor_ms = self.link_ms = self.queue_ms = self.broker_ms = 0.0
        self.served = self.most_queued = self.most_at_broker = 0
        self.first_ms: float | None = None
        self.last_ms = 0.0
        self.is_up = True
        self._events = events
        self._receive_maximum = receive_maximum
        self._time_factors = time_factors
        self._on_result = on_result
        self._on_overloaded = on_overloaded
        #: Queue 0 carries inputs, queue 1 outputs.
        self._link = SharedServer(events, _HALF_DUPLEX)
        #: Queue 0 is the network thread, queue 1 the inference thread.
        self._processor = SharedServer(events, _shared_speed(roles))
        self._failures = 0
        self._at_broker: collections.deque[Copy] = collections.deque()
        #: Unacknowledged copies, in the order in which the broker sent them.
        self._unacknowledged: dict[Copy, None] = {}

    def publish(self, copy: Copy) -> None:
        """Add a copy to the board's queue at the broker."""
        if len(self._at_broker) >= BROKER_QUEUE_LENGTH:
            return
        self._at_broker.append(copy)
        self._send_from_broker()
        self.most_at_broker = max(self.most_at_broker, len(self._at_broker))

    def fail(self) -> None:
        """Stop service and lose all work in progress."""
        self.is_up = False
        self._failures += 1
        self._link.clear()
        self._processor.clear()
        self._at_broker.extendleft(reversed(self._unacknowledged))
        self._unacknowledged.clear()

    def restore(self) -> None:
        """Resume service."""
        self.is_up = True
        self._send_from_broker()

    def _send_from_broker(self) -> None:
        now_ms = self._events.now_ms
        while self.is_up and self._at_broker and len(self._unacknowledged) < self._receive_maximum:
            copy = self._at_broker.popleft()
            if now_ms >= copy.expires_ms:
                continue
            self.broker_ms += now_ms - copy.accounted_ms
            copy.spend(BROKER, now_ms)
            if self.first_ms is None:
                self.first_ms = now_ms
            self._unacknowledged[copy] = None
            self._link.add(0, copy.times.receive_transfer_ms, copy, self._on_transferred)

    def _on_transferred(self, copy: Copy, _started_ms: float) -> None:
        self.link_ms += copy.times.receive_transfer_ms
        failures = self._failures
        self._delay(copy, lambda: self._on_received(copy) if failures == self._failures else None)

    def _delay(self, copy: Copy, then: Callable[[], None]) -> None:
        """Call ``then`` after the link's delay."""
        if not copy.times.link_delay_ms:
            then()
            return
        self._events.call_after(copy.times.link_delay_ms, then)

    def _on_received(self, copy: Copy) -> None:
        copy.spend(LINK, self._events.now_ms)
        self._processor.add(0, copy.times.receive_handling_ms, copy, self._on_decoded)

    def _on_decoded(self, copy: Copy, _started_ms: float) -> None:
        copy.spend(HANDLING, self._events.now_ms)
        inferences = self._processor.queues[1]
        if len(inferences) > AGENT_QUEUE_LENGTH:
            self._acknowledge(copy)
            self._on_overloaded(copy)
            return
        work_ms = copy.times.invoke_ms * next(self._time_factors)
        self.processor_ms += work_ms + copy.times.busy_ms - copy.times.invoke_ms
        self._processor.add(1, work_ms, copy, self._on_invoked)
        self.most_queued = max(self.most_queued, len(inferences) - 1)

    def _on_invoked(self, copy: Copy, started_ms: float) -> None:
        self.queue_ms += started_ms - copy.accounted_ms
        copy.spend(QUEUE, started_ms)
        copy.spend(INVOKE, self._events.now_ms)
        self._processor.add(0, copy.times.send_handling_ms, copy, self._on_encoded)

    def _on_encoded(self, copy: Copy, _started_ms: float) -> None:
        copy.spend(HANDLING, self._events.now_ms)
        self._link.add(1, copy.times.send_transfer_ms, copy, self._on_sent)

    def _on_sent(self, copy: Copy, _started_ms: float) -> None:
        self.link_ms += copy.times.send_transfer_ms
        self.served += 1
        self._acknowledge(copy)
        self._delay(copy, lambda: self._on_published(copy))

    def _on_published(self, copy: Copy) -> None:
        copy.spend(LINK, self._events.now_ms)
        self._on_result(copy)

    def _acknowledge(self, copy: Copy) -> None:
        self.last_ms = self._events.now_ms
        del self._unacknowledged[copy]
        self._send_from_broker()


def _shared_speed(roles: Sequence[ReplicaTimes]) -> float:
    """Return the speed of each of the two threads while both are busy.

    At full load both threads run for the shorter of their two times divided by this speed; then the
    rest of the longer time runs alone. Both parts together take ``busy_ms``.
    """
    invoke_ms, handling_ms, busy_ms = (
        sum(times)
        for times in zip(*((t.invoke_ms, t.handling_ms, t.busy_ms) for t in roles), strict=True)
    )
    shorter_ms, longer_ms = sorted((invoke_ms, handling_ms))
    return shorter_ms / (busy_ms - longer_ms + shorter_ms) if shorter_ms else _INDEPENDENT
