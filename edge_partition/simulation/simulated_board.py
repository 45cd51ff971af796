"""A board in simulated time: its queue at the broker, its link and its processors.

The simulation follows these rules. A module in parentheses does the same on a real board.

- The broker sends a board at most ``receive_maximum`` unacknowledged requests
  (:mod:`edge_core.mqtt.connection`). Other requests wait at the broker.
- The link is half duplex: if a message arrives while another message leaves, each message gets half
  of the bandwidth.
- The inference thread serves the requests in order: the thread runs the inference, then writes the
  result (:mod:`device_agent.worker`). Meanwhile a second thread, the stand-in
  (:mod:`edge_core.mqtt.stand_in`), reads the next requests. The more the threads share processors,
  the more they slow each other down.
- At full load, a board serves one request every ``busy_ms`` of the plan. Writing a result therefore
  occupies the inference thread for at most ``busy_ms`` minus the inference time. The rest of the
  writing is done by the kernel on other processors, and delays only this result.
- A board acknowledges a request when the broker has acknowledged the result
  (:mod:`device_agent.serve_request`). A board that fails loses its work. When the board is back,
  the broker sends all unacknowledged requests again, unless the board's session has expired.
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

from edge_core.contract.messages import SESSION_EXPIRY_S, StageTrace
from edge_partition.simulation.shared_server import SharedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edge_partition.planning.read_plan import ReplicaTimes
    from edge_partition.simulation.event_queue import EventQueue

#: Parts of the time of a request, in the order of :attr:`Copy.spent_ms`.
SOURCE, RESENT, BROKER, LINK, HANDLING, QUEUE, INVOKE = range(7)
SPENT = ("source", "resent", "broker", "link", "handling", "queue", "invoke")

#: Most requests that wait in an agent. Equal to :data:`device_agent.worker.QUEUE_LENGTH`, which the
#: host does not import.
AGENT_QUEUE_LENGTH = 32
#: Most messages that wait at the broker for a board: mosquitto's ``max_queued_messages``, as set by
#: :mod:`broker_config.serve.mosquitto`. The broker drops further messages without an error.
BROKER_QUEUE_LENGTH = 1000
_INDEPENDENT = 1.0
_HALF_DUPLEX = 0.5


class Copy:
    """A copy of a request on its way through the stages.

    The client makes a new copy each time that it sends a request.

    Attributes:
        id: Identifier of the request.
        route: Name of the board that serves each stage.
        expires_ms: Time from which the broker drops the copy instead of sending it, in simulated
            milliseconds.
        stage: Index of the current stage.
        trace: For each stage that has served the copy: the board, the wait and the inference time.
        times: The plan's times for the board that serves the current stage.
        work_ms: Time of the inference at the current stage, on a board that does nothing else.
        accounted_ms: Time up to which ``spent_ms`` is complete, in simulated milliseconds.
        spent_ms: Time that the copy spent in each part of :data:`SPENT`, in milliseconds.
    """

    __slots__ = (
        "accounted_ms",
        "expires_ms",
        "id",
        "route",
        "spent_ms",
        "stage",
        "times",
        "trace",
        "work_ms",
    )

    def __init__(
        self, request_id: bytes, route: tuple[str, ...], now_ms: float, expires_ms: float
    ) -> None:
        self.id = request_id
        self.route = route
        self.expires_ms = expires_ms
        self.stage = 0
        self.trace: list[StageTrace] = []
        self.times: ReplicaTimes
        self.work_ms = 0.0
        self.accounted_ms = now_ms
        self.spent_ms = [0.0] * len(SPENT)

    def duplicate(self) -> Copy:
        """Return a second object with the values of this copy. The two can then differ."""
        other = Copy(self.id, self.route, self.accounted_ms, self.expires_ms)
        other.stage, other.times = self.stage, self.times
        other.trace, other.spent_ms = [*self.trace], [*self.spent_ms]
        return other

    def spend(self, where: int, until_ms: float) -> None:
        """Add the time from ``accounted_ms`` to ``until_ms`` to part ``where`` of ``spent_ms``.

        Then ``accounted_ms`` is set to ``until_ms``.
        """
        self.spent_ms[where] += until_ms - self.accounted_ms
        self.accounted_ms = until_ms


class SimulatedBoard:
    """A board and its queue at the broker.

    Attributes:
        name: Name of the board.
        processor_ms: Busy time of the processors, in milliseconds.
        link_ms: Busy time of the link, in milliseconds.
        served: Number of requests served.
        queue_ms: Sum of the times that requests waited for inference, in milliseconds.
        broker_ms: Sum of the times that requests waited at the broker, in milliseconds.
        most_queued: Largest number of requests waiting for inference at once.
        most_at_broker: Largest number of requests waiting at the broker at once.
        first_ms: Time of the first request, in simulated milliseconds; ``None``: no request yet.
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
        on_not_listening: Callable[[Copy], None],
    ) -> None:
        """Create an idle board.

        Args:
            events: The events in simulated time.
            name: Name of the board.
            roles: Times of one request at each stage that the board serves.
            receive_maximum: Largest number of unacknowledged requests that the broker sends the
                board.
            time_factors: For each inference, the factor by which the plan's time is multiplied.
            on_result: Called with a copy when its result has reached the broker.
            on_overloaded: Called with a copy that a board with a full queue refuses.
            on_not_listening: Called with a copy that reaches the broker when the board's session
                has expired.
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
        self._on_not_listening = on_not_listening
        #: Queue 0 carries inputs, queue 1 outputs.
        self._link = SharedServer(events, _HALF_DUPLEX)
        #: Queue 0 is the stand-in, which reads; queue 1 the thread that computes and writes.
        self._processor = SharedServer(events, _shared_speed(roles))
        self._failures = 0
        self._has_session = True
        self._at_broker: collections.deque[Copy] = collections.deque()
        #: Unacknowledged copies, in the order in which the broker sent them.
        self._unacknowledged: dict[Copy, None] = {}

    def publish(self, copy: Copy) -> None:
        """Add a copy of a request to the board's queue at the broker.

        If the queue is full, the copy is dropped. If the board's session has expired, the broker
        refuses the copy.
        """
        if not self._has_session:
            self._on_not_listening(copy)
            return
        if len(self._at_broker) >= BROKER_QUEUE_LENGTH:
            return
        self._at_broker.append(copy)
        self._send_from_broker()
        self.most_at_broker = max(self.most_at_broker, len(self._at_broker))

    def fail(self) -> None:
        """Take the board offline.

        The work in progress is lost. Unacknowledged requests return to the queue at the broker.
        """
        self.is_up = False
        self._failures += 1
        self._link.clear()
        self._processor.clear()
        self._at_broker.extendleft(reversed(self._unacknowledged))
        self._unacknowledged.clear()
        self._events.call_after(SESSION_EXPIRY_S * 1000, self._expire_session, self._failures)

    def restore(self) -> None:
        """Bring the board back online. The broker then sends it the requests in its queue."""
        self.is_up = self._has_session = True
        self._send_from_broker()

    def _expire_session(self, failures: int) -> None:
        if not self.is_up and failures == self._failures:
            self._has_session = False
            self._at_broker.clear()

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
        self._after(copy.times.link_delay_ms, self._on_received, copy)

    def _after(self, delay_ms: float, then: Callable[[Copy], None], copy: Copy) -> None:
        """Call ``then(copy)`` after a delay, unless the board fails during the delay."""
        if not delay_ms:
            then(copy)
            return
        self._events.call_after(delay_ms, self._unless_failed, self._failures, then, copy)

    def _unless_failed(self, failures: int, then: Callable[[Copy], None], copy: Copy) -> None:
        if failures == self._failures:
            then(copy)

    def _on_received(self, copy: Copy) -> None:
        copy.spend(LINK, self._events.now_ms)
        self._processor.add(0, copy.times.receive_handling_ms, copy, self._on_decoded)

    def _on_decoded(self, copy: Copy, _started_ms: float) -> None:
        copy.spend(HANDLING, self._events.now_ms)
        served = self._processor.queues[1]
        if len(served) > AGENT_QUEUE_LENGTH:
            self._acknowledge(copy)
            self._on_overloaded(copy)
            return
        times = copy.times
        copy.work_ms = times.invoke_ms * next(self._time_factors)
        self.processor_ms += copy.work_ms + times.busy_ms - times.invoke_ms
        self._processor.add(1, copy.work_ms + _write_ms(times), copy, self._on_written)
        self.most_queued = max(self.most_queued, len(served) - 1)

    def _on_written(self, copy: Copy, started_ms: float) -> None:
        now_ms, write_ms = self._events.now_ms, _write_ms(copy.times)
        written_ms = 0.0
        if write_ms:
            written_ms = (now_ms - started_ms) * write_ms / (copy.work_ms + write_ms)
        queue_ms, invoke_ms = started_ms - copy.accounted_ms, now_ms - written_ms - started_ms
        self.queue_ms += queue_ms
        # A request that the broker sends again may already have an entry for this stage.
        copy.trace[copy.stage :] = [StageTrace(copy.stage, self.name, queue_ms, invoke_ms)]
        copy.spend(QUEUE, started_ms)
        copy.spend(INVOKE, now_ms - written_ms)
        self._after(copy.times.send_handling_ms - write_ms, self._on_encoded, copy)

    def _on_encoded(self, copy: Copy) -> None:
        copy.spend(HANDLING, self._events.now_ms)
        self._link.add(1, copy.times.send_transfer_ms, copy, self._on_sent)

    def _on_sent(self, copy: Copy, _started_ms: float) -> None:
        self.link_ms += copy.times.send_transfer_ms
        self.served += 1
        self.last_ms = self._events.now_ms
        delay_ms = copy.times.link_delay_ms
        if not delay_ms:
            self._acknowledge(copy)
            self._on_published(copy)
            return
        # A result on its way arrives even if the board fails. The broker may then send the request
        # again, so the result goes on as a separate copy.
        self._events.call_after(delay_ms, self._on_published, copy.duplicate())
        # Three messages take the link's delay: the result, the broker's acknowledgement of the
        # result, and the board's acknowledgement of the request.
        self._after(3 * delay_ms, self._acknowledge, copy)

    def _on_published(self, copy: Copy) -> None:
        copy.spend(LINK, self._events.now_ms)
        self._on_result(copy)

    def _acknowledge(self, copy: Copy) -> None:
        del self._unacknowledged[copy]
        self._send_from_broker()


def _write_ms(times: ReplicaTimes) -> float:
    """Return how long the inference thread is busy with writing a result, in milliseconds."""
    return min(times.send_handling_ms, times.busy_ms - times.invoke_ms)


def _shared_speed(roles: Sequence[ReplicaTimes]) -> float:
    """Return the speed at which the stand-in and the inference thread run if both are busy.

    A thread that is busy alone runs at speed 1. At full load, both threads are busy until the
    thread with less work is done. Then the other thread does the rest of its work alone. Both
    phases together take ``busy_ms``.
    """
    read_ms = sum(times.receive_handling_ms for times in roles)
    serve_ms = sum(times.invoke_ms + _write_ms(times) for times in roles)
    busy_ms = sum(times.busy_ms for times in roles)
    shorter_ms, longer_ms = sorted((read_ms, serve_ms))
    return shorter_ms / (busy_ms - longer_ms + shorter_ms) if shorter_ms else _INDEPENDENT
