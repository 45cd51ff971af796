"""A discrete-event simulation of clients, broker, links and boards, in simulated time.

The real :class:`Router` and :class:`AdaptiveWindow` are under test; the rest is modelled:

- The broker has a queue per board, without a bound. A board has at most ``RECEIVE_MAXIMUM``
  requests: the ones on the link to the board, the ones that wait, and the one in service.
- Each link (broker to board, board to broker, broker to client) carries one message at a time, for
  ``transfer_ms`` each, in order; the message arrives ``latency_ms`` after the end of its transfer.
- A board serves one request at a time, in order of arrival. Beside the inference, which the trace
  gives, each request takes the board ``OVERHEAD_MS``.
- A request is acknowledged when its result is at the broker.
"""

from __future__ import annotations

import collections
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge_core.contract.manifest import Predicted, Stage
from edge_core.contract.messages import RECEIVE_MAXIMUM, StageTrace
from edge_partition.client.adaptive_window import AdaptiveWindow
from edge_partition.client.choose_route import Router
from edge_partition.simulation.event_queue import EventQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Time of a board for a request beside the inference, in milliseconds.
OVERHEAD_MS = 0.2


def make_stages(*boards_ms: Mapping[str, float]) -> tuple[Stage, ...]:
    """Return stages with the given boards; a stage's own prediction is its boards' mean time."""
    return tuple(
        Stage(
            index=index,
            devices=tuple(times_ms),
            file=f"stages/{index}.tflite",
            sha256="0" * 64,
            size_bytes=1,
            inputs=(),
            outputs=(),
            predicted=Predicted(
                sum(times_ms.values()) / len(times_ms), 1, tuple(times_ms.values())
            ),
        )
        for index, times_ms in enumerate(boards_ms)
    )


def make_router(*boards_ms: Mapping[str, float]) -> Router:
    """Return a router that starts with each board's own time."""
    return Router(make_stages(*boards_ms))


@dataclass(eq=False)
class _Request:
    """A request on its way; a request that is sent again is another one with the same id."""

    id: bytes
    client: SimulatedClient
    route: tuple[str, ...]
    started_ms: float
    sent_ms: float
    arrived_ms: float = 0.0
    trace: list[StageTrace] = field(default_factory=list)


class _Link:
    """Carries one message at a time, in order."""

    def __init__(self, events: EventQueue, transfer_ms: float, latency_ms: float) -> None:
        self._events = events
        self._transfer_ms = transfer_ms
        self._latency_ms = latency_ms
        self._free_ms = 0.0

    def carry(self, action: Callable[[_Request], None], request: _Request) -> None:
        now_ms = self._events.now_ms
        self._free_ms = max(now_ms, self._free_ms) + self._transfer_ms
        self._events.call_after(self._free_ms + self._latency_ms - now_ms, action, request)


class _Board:
    """A board, the link to it, and its queue in the broker."""

    def __init__(self, simulation: PipelineSimulation, name: str) -> None:
        self.is_online = True
        self.is_known_offline = False
        self.longest_at_broker = 0
        self._simulation = simulation
        self._events = simulation.events
        self._name = name
        self._downlink = _Link(simulation.events, simulation.transfer_ms, simulation.latency_ms)
        self._at_broker: collections.deque[_Request] = collections.deque()
        self._waiting: collections.deque[_Request] = collections.deque()
        self._unacknowledged = 0
        self._is_busy = False

    def publish(self, request: _Request) -> None:
        assert not self.is_known_offline, f"{self._name} is offline, and gets a request"
        if not self.is_online:
            return
        self._at_broker.append(request)
        self._deliver()
        self.longest_at_broker = max(self.longest_at_broker, len(self._at_broker))

    def die(self) -> None:
        """Lose all requests."""
        self.is_online = False
        self._at_broker.clear()
        self._waiting.clear()

    def _deliver(self) -> None:
        while self._at_broker and self._unacknowledged < RECEIVE_MAXIMUM:
            self._unacknowledged += 1
            self._downlink.carry(self._arrive, self._at_broker.popleft())

    def _arrive(self, request: _Request) -> None:
        if self.is_online:
            request.arrived_ms = self._events.now_ms
            self._waiting.append(request)
            self._serve()

    def _serve(self) -> None:
        if self._waiting and not self._is_busy:
            self._is_busy = True
            request = self._waiting.popleft()
            stage = len(request.trace)
            invoke_ms = self._simulation.draw_invoke_ms(stage, self._name)
            queue_ms = self._events.now_ms - request.arrived_ms
            request.trace.append(StageTrace(stage, self._name, queue_ms, invoke_ms))
            self._events.call_after(invoke_ms + OVERHEAD_MS, self._finish, request)

    def _finish(self, request: _Request) -> None:
        if self.is_online:
            self._is_busy = False
            self._unacknowledged -= 1
            self._deliver()
            self._serve()
            self._simulation.pass_on(request)


class SimulatedClient:
    """A client that always has a next input.

    Attributes:
        router: The router under test.
        window: The window under test.
        answers_ms: Times of the answers, in simulated milliseconds.
        latencies_ms: Times from the first sending to the answer, in milliseconds.
        sizes: Size of the window after each answer.
        sent_again: Number of requests that were sent again.
    """

    def __init__(self, simulation: PipelineSimulation, number: int) -> None:
        self._simulation = simulation
        self._number = number
        stages = make_stages(*simulation.boards_ms)
        self.router = Router(stages)
        self.window = AdaptiveWindow(stages)
        self.answers_ms: list[float] = []
        self.latencies_ms: list[float] = []
        self.sizes: list[int] = []
        self.sent_again = 0
        self._downlink = _Link(simulation.events, simulation.transfer_ms, simulation.latency_ms)
        self._open: dict[bytes, _Request] = {}
        self._sent = 0
        self._is_stopped = False

    @property
    def in_flight(self) -> int:
        """Number of unanswered requests."""
        return len(self._open)

    def fill(self) -> None:
        """Send requests while the window has room."""
        now_ms = self._simulation.events.now_ms
        while self.in_flight < self.window.size and not self._is_stopped:
            self._sent += 1
            request_id = b"%d-%d" % (self._number, self._sent)
            self._send(request_id, now_ms)

    def stop(self) -> None:
        """Send no further request."""
        self._is_stopped = True

    def _send(self, request_id: bytes, started_ms: float) -> None:
        now_ms = self._simulation.events.now_ms
        route = self.router.choose(request_id, now_ms / 1000)
        assert route is not None
        request = _Request(request_id, self, route, started_ms, now_ms)
        self._open[request_id] = request
        self._simulation.publish(request)

    def note_offline(self, device: str) -> None:
        """Send the requests that were at a board again."""
        self.router.set_online(device, is_online=False)
        for request_id in self.router.routes_through(device):
            self.sent_again += 1
            self._send(request_id, self._open[request_id].started_ms)

    def carry_answer(self, request: _Request) -> None:
        """Carry a result to the client."""
        self._downlink.carry(self._take_answer, request)

    def _take_answer(self, request: _Request) -> None:
        if self._open.get(request.id) is None:
            return  # The request was sent again, and an earlier result arrived.
        now_ms = self._simulation.events.now_ms
        trace = tuple(request.trace)
        was_sent_once = request.sent_ms == request.started_ms
        latency_ms = now_ms - request.sent_ms
        self.router.take_result(request.id, trace, latency_ms if was_sent_once else None)
        if was_sent_once:
            self.window.add_result(now_ms / 1000, latency_ms, trace, self.in_flight)
        del self._open[request.id]
        self.answers_ms.append(now_ms)
        self.latencies_ms.append(now_ms - request.started_ms)
        self.sizes.append(self.window.size)
        self.fill()

    def rate_per_s(self, start_ms: float, stop_ms: float) -> float:
        """Return the answers per second within ``[start_ms, stop_ms)``."""
        answers = sum(start_ms <= time_ms < stop_ms for time_ms in self.answers_ms)
        return answers / (stop_ms - start_ms) * 1000


class PipelineSimulation:
    """Clients, broker, links and boards.

    Attributes:
        events: The simulated time.
        boards_ms: For each stage, the time of an inference by board, in milliseconds.
        transfer_ms: Time of a message on a link, one message at a time, in milliseconds.
        latency_ms: Further delay of a message on a link, in milliseconds.
        clients: The clients, in order of :meth:`add_client`.
    """

    def __init__(
        self,
        *boards_ms: Mapping[str, float],
        transfer_ms: float = 0.0,
        latency_ms: float = 0.5,
        jitter: float = 0.0,
        slow_ms: Mapping[int, float] | None = None,
        seed: int = 0,
    ) -> None:
        """Start without clients.

        Args:
            boards_ms: See the attributes.
            transfer_ms: See the attributes.
            latency_ms: See the attributes.
            jitter: Standard deviation of the service times, relative to their mean.
            slow_ms: Times of single inferences of the first stage, in milliseconds, by number.
            seed: Seed of the service times.
        """
        self.events = EventQueue()
        self.boards_ms = boards_ms
        self.transfer_ms = transfer_ms
        self.latency_ms = latency_ms
        self.clients: list[SimulatedClient] = []
        self._jitter = jitter
        self._slow_ms = slow_ms or {}
        self._inferences = 0
        self._random = random.Random(seed)  # noqa: S311 - service times are no secret
        names = {name for times_ms in boards_ms for name in times_ms}
        self._boards = {name: _Board(self, name) for name in sorted(names)}

    def add_client(self, start_ms: float = 0.0, stop_ms: float | None = None) -> SimulatedClient:
        """Add a client that sends requests within ``[start_ms, stop_ms)``."""
        client = SimulatedClient(self, len(self.clients))
        self.clients.append(client)
        self.events.call_after(start_ms, client.fill)
        if stop_ms is not None:
            self.events.call_after(stop_ms, client.stop)
        return client

    def run(self, time_ms: float) -> None:
        """Run once, for a simulated time in milliseconds."""
        self.events.call_after(time_ms, self.events.clear)
        self.events.run()

    def kill(self, device: str, notice_ms: float) -> None:
        """Let a board lose its requests, and tell the clients ``notice_ms`` later."""
        self._boards[device].die()
        self.events.call_after(notice_ms, self._tell_clients, device)

    def _tell_clients(self, device: str) -> None:
        self._boards[device].is_known_offline = True
        for client in self.clients:
            client.note_offline(device)

    def forget_longest(self) -> None:
        """Measure :attr:`longest_at_broker` from now on."""
        for board in self._boards.values():
            board.longest_at_broker = 0

    @property
    def longest_at_broker(self) -> int:
        """The most requests that waited for one board in the broker."""
        return max(board.longest_at_broker for board in self._boards.values())

    @property
    def in_flight(self) -> int:
        """Unanswered requests of all clients."""
        return sum(client.in_flight for client in self.clients)

    def draw_invoke_ms(self, stage: int, device: str) -> float:
        """Return the time of the next inference."""
        if stage == 0:
            self._inferences += 1
            if self._inferences in self._slow_ms:
                return self._slow_ms[self._inferences]
        return max(0.1, self._random.gauss(1.0, self._jitter)) * self.boards_ms[stage][device]

    def publish(self, request: _Request) -> None:
        """Publish a request to the board of its next stage."""
        self._boards[request.route[len(request.trace)]].publish(request)

    def pass_on(self, request: _Request) -> None:
        """Publish the result of a stage."""
        if len(request.trace) < len(request.route):
            self.publish(request)
        else:
            request.client.carry_answer(request)
