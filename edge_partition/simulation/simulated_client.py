"""The client in simulated time: arrivals, the window, routes and repeats.

The window is the limit on requests in flight. A route is the board of each stage. The code of the
real client chooses the routes, the window and the times of repeats: :class:`Router`,
:class:`AdaptiveWindow` and :class:`RequestsInFlight` run here with simulated times. The client
learns without delay that a board fails or comes back. The program that uses the client takes each
result without delay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_core.contract.manifest import Predicted, Stage
from edge_partition.client.adaptive_window import AdaptiveWindow
from edge_partition.client.choose_route import Router
from edge_partition.client.deployment_connection import EXPIRY_SLACK_S
from edge_partition.client.requests_in_flight import Request, RequestsInFlight
from edge_partition.client.stream_window import most_answered
from edge_partition.inputs.take_inputs import TakenInputs
from edge_partition.simulation.simulated_board import RESENT, SOURCE, SPENT, Copy
from edge_partition.simulation.stream import arrival_times_s

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_core.contract.messages import StageTrace
    from edge_partition.planning.read_plan import PipelineTimes
    from edge_partition.simulation.event_queue import EventQueue
    from edge_partition.simulation.forecast import Outcome
    from edge_partition.simulation.stream import Stream

#: The simulation carries no tensors.
_NO_INPUTS = TakenInputs({})


class SimulatedClient:
    """A client that sends the requests of a stream, and repeats requests as the real client does.

    Attributes:
        outcomes: Number of requests with each outcome.
        resent: Number of messages sent again.
        overloaded: Number of times that a board with a full queue refused a request.
        latency_ms: Time from arrival to result of each answered request, in milliseconds.
        spent_ms: For each part of :data:`SPENT`, the total time that the answered requests spent in
            it, in milliseconds.
        full_ms: Total time during which the window was full and a request waited, in milliseconds.
        largest_window: Largest size of the window.
    """

    def __init__(
        self,
        events: EventQueue,
        plan: PipelineTimes,
        stream: Stream,
        publish: Callable[[Copy], None],
    ) -> None:
        """Create a client without requests.

        Args:
            events: The events in simulated time.
            plan: The times of one request on each board. The router starts with these times as
                estimates.
            stream: The requests, and the limits of the client.
            publish: Called with a copy of a request, to send it to the first board of its route.
        """
        self.outcomes: dict[Outcome, int] = {"answered": 0, "timed_out": 0}
        self.resent = self.overloaded = self.largest_window = 0
        self.latency_ms: list[float] = []
        self.spent_ms = [0.0] * len(SPENT)
        self.full_ms = 0.0
        self._events = events
        self._stream = stream
        self._publish = publish
        stages = _stages_of(plan)
        self._router = Router(stages)
        self._window = AdaptiveWindow(stages)
        self._in_flight = RequestsInFlight()
        #: Arrival of each request in flight, by id, in simulated milliseconds.
        self._arrived_ms: dict[bytes, float] = {}
        self._arrivals_ms = (
            None if stream.rate_per_s is None else (arrival_times_s(stream) * 1000).tolist()
        )
        #: Number of submitted requests, and the index of the oldest request without an outcome.
        self._submitted = self._head = 0
        #: Since when the next request waits because the window is full, in simulated milliseconds;
        #: None: no request waits.
        self._full_since_ms: float | None = None

    def start(self) -> None:
        """Send the first requests, and start to watch the deadlines."""
        self._submit()
        self._watch_deadlines()

    def take_result(self, copy: Copy) -> None:
        """Record the result of a request. Further results of the same request are ignored."""
        request = self._in_flight.find(copy.id)
        if request is None:
            return
        now = self._now()
        lone_ms, trace = request.lone_latency_ms(now), tuple(copy.trace)
        self._router.take_result(copy.id, trace, lone_ms)
        if lone_ms is not None:
            self._window.add_result(now, lone_ms, trace, len(self._in_flight))
        self.latency_ms.append(self._events.now_ms - self._arrived_ms[copy.id])
        for where, spent_ms in enumerate(copy.spent_ms):
            self.spent_ms[where] += spent_ms
        self._end(request, "answered")

    def take_overloaded(self, copy: Copy) -> None:
        """Handle the refusal of a request by a board whose queue is full.

        The client waits, then sends the request again.
        """
        self.overloaded += 1
        self._retry(copy, copy.trace)

    def take_not_listening(self, copy: Copy) -> None:
        """Handle a request that did not reach a board because the board's session has expired.

        The client waits, then sends the request again. In a real fleet, the previous board of the
        route reports this to the client. For the first board of the route, the broker reports it.
        """
        self._retry(copy, copy.trace[:-1])

    def take_availability(self, device: str, *, is_online: bool) -> None:
        """Record whether a board is online, and repeat the requests that are due because of it."""
        self._router.set_online(device, is_online=is_online)
        now = self._now()
        self._in_flight.take_availability(self._router, device, is_online=is_online, now=now)
        for request in self._in_flight.all():
            if request.resend_at == now:
                self._repeat(request, now)

    def _now(self) -> float:
        """Return the current simulated time, in seconds."""
        return self._events.now_ms / 1000

    # Sending

    def _submit(self) -> None:
        """Send the requests that have arrived, as many as the window allows."""
        now_ms, has_arrived = self._events.now_ms, True
        while has_arrived and self._submitted < self._stream.requests:
            if not self._has_room():
                self._full_since_ms = now_ms
                return
            number, now = self._submitted, self._now()
            request = Request(
                number.to_bytes(8, "big"),
                _NO_INPUTS,
                started=now,
                deadline=now + self._stream.timeout_s,
            )
            self._submitted = number + 1
            self._arrived_ms[request.id] = (
                now_ms if self._arrivals_ms is None else self._arrivals_ms[number]
            )
            self._in_flight.add(request)
            self._send(request)
            has_arrived = self._await_arrival()

    def _has_room(self) -> bool:
        size = self._stream.window or self._window.size
        self.largest_window = max(self.largest_window, size)
        in_flight = len(self._in_flight)
        answered = self._submitted - self._head - in_flight
        return in_flight < size and answered < most_answered(size)

    def _await_arrival(self) -> bool:
        """Return whether the next request has arrived. If not, schedule its submission.

        In a stream without a rate, the next request has always arrived.
        """
        if self._arrivals_ms is None or self._submitted == self._stream.requests:
            return True
        wait_ms = self._arrivals_ms[self._submitted] - self._events.now_ms
        if wait_ms <= 0:
            return True
        self._events.call_after(wait_ms, self._submit)
        return False

    def _send(self, request: Request) -> None:
        """Send a request. If all boards of a stage are offline, the request waits for a board."""
        now = self._now()
        route = self._router.choose(request.id, now)
        if route is None:
            return
        self.resent += request.sends > 0
        request.sent_at = now
        request.sends += 1
        expires_ms = (request.deadline + EXPIRY_SLACK_S) * 1000
        copy = Copy(request.id, route, self._arrived_ms[request.id], expires_ms)
        copy.spend(SOURCE, request.started * 1000)
        copy.spend(RESENT, self._events.now_ms)
        self._publish(copy)

    def _retry(self, copy: Copy, trace: Sequence[StageTrace]) -> None:
        request = self._in_flight.find(copy.id)
        if request is not None:
            self._router.take_error(copy.id, trace)
            request.schedule_retry(self._now())
            self._repeat_later(request)

    def _repeat_later(self, request: Request) -> None:
        at = request.resend_at
        if at is not None:
            self._events.call_after(max(0.0, (at - self._now()) * 1000), self._repeat, request, at)

    def _repeat(self, request: Request, at: float) -> None:
        """Send a request again.

        Do nothing if the request has an outcome, or if its repeat is no longer due at ``at``.

        Args:
            request: The request.
            at: Time for which this call was scheduled, in seconds.
        """
        if request.resend_at != at or self._in_flight.find(request.id) is None:
            return
        if request.take_turn(at):
            self._send(request)
            self._repeat_later(request)

    # Outcomes

    def _watch_deadlines(self) -> None:
        """End the requests whose deadline has passed, oldest first, and schedule the next check."""
        now, timeout_s = self._now(), self._stream.timeout_s
        while (head := self._find_head()) is not None and head.deadline <= now:
            self._router.release(head.id)
            self._end(head, "timed_out")
        deadline = now + timeout_s if head is None else head.deadline
        self._events.call_after((deadline - now) * 1000, self._watch_deadlines)

    def _find_head(self) -> Request | None:
        return self._in_flight.find(self._head.to_bytes(8, "big"))

    def _end(self, request: Request, outcome: Outcome) -> None:
        self._in_flight.discard([request])
        del self._arrived_ms[request.id]
        self.outcomes[outcome] += 1
        while self._head < self._submitted and self._find_head() is None:
            self._head += 1
        if self._head == self._stream.requests:
            self._events.call_after(0, self._events.clear)
        elif self._full_since_ms is not None:
            self.full_ms += self._events.now_ms - self._full_since_ms
            self._full_since_ms = None
            self._events.call_after(0, self._submit)


def _stages_of(plan: PipelineTimes) -> list[Stage]:
    """Return the plan's stages as entries of a manifest.

    Only the fields that the router and the window read have values. Other fields are empty.
    """
    return [
        Stage(
            index=index,
            devices=tuple(times.device for times in replicas),
            file="",
            sha256="",
            size_bytes=0,
            inputs=(),
            outputs=(),
            predicted=Predicted(
                max(times.invoke_ms for times in replicas),
                0,
                tuple(times.invoke_ms for times in replicas),
                tuple(times.transfer_ms for times in replicas),
            ),
        )
        for index, replicas in enumerate(plan.stages)
    ]
