"""A plan and a stream of requests -> throughput and latency, by discrete-event simulation.

Requests arrive (as a Poisson process, at equal intervals, or whenever the window has a place), wait
for a place in the client's window, and pass through the boards of the stages
(:mod:`edge_partition.simulation.simulated_board`).

The simulated client behaves as :class:`edge_partition.client.pipeline.Pipeline`. The window limits
the requests in flight. The client chooses the boards of a request when it sends the request
(:mod:`edge_partition.simulation.choose_route`). When a board fails or returns, the client at once
sends each request again that has a failed board in its route and a working board to go around it,
and takes the first answer. A request without an answer within the timeout ends as timed out.

Inference times vary by a lognormal factor with mean 1. The simulation has one client, and leaves
out the processors and links of the client and the broker.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edge_partition.client.deployment_connection import EXPIRY_SLACK_S
from edge_partition.simulation.choose_route import RouteChooser
from edge_partition.simulation.event_queue import EventQueue
from edge_partition.simulation.forecast import (
    BoardForecast,
    Forecast,
    Outcome,
    capacity_per_s,
    describe_failures,
    describe_limit,
    summarize_latency,
)
from edge_partition.simulation.simulated_board import RESENT, SOURCE, SPENT, Copy, SimulatedBoard
from edge_partition.simulation.stream import (
    DEFAULT_SPREAD,
    Failure,
    SimulationError,
    Stream,
    arrival_times_s,
    check_stream,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edge_partition.planning.read_plan import PipelineTimes, ReplicaTimes

__all__ = [
    "DEFAULT_SPREAD",
    "BoardForecast",
    "Failure",
    "Forecast",
    "Outcome",
    "SimulationError",
    "Stream",
    "arrival_times_s",
    "capacity_per_s",
    "simulate_plan",
]

#: Random numbers that are drawn at a time.
_BLOCK = 4096


def simulate_plan(plan: PipelineTimes, stream: Stream) -> Forecast:
    """Return the forecast for a stream of requests.

    Raises:
        SimulationError: A value is out of range, or a failing board is not in the plan.
    """
    check_stream(stream, plan.devices)
    forecast = _Simulation(plan, stream).run()
    if not stream.failures:
        return forecast
    undisturbed = _Simulation(plan, replace(stream, failures=())).run()
    effect = describe_failures(stream.failures, forecast, undisturbed)
    return replace(forecast, limit=f"{undisturbed.limit} {effect}")


class _Simulation:
    """One run: the boards, and the client that sends the requests. Times are milliseconds."""

    def __init__(self, plan: PipelineTimes, stream: Stream) -> None:
        self._plan = plan
        self._stream = stream
        self._events = EventQueue()
        self._boards = self._make_boards()
        self._window = stream.window or min(16, max(4, 2 * len(self._boards)))
        self._routes = RouteChooser(plan)
        self._arrivals_ms = (
            None if stream.rate_per_s is None else (arrival_times_s(stream) * 1000).tolist()
        )
        #: For each request without an outcome: the times of sending and of arrival.
        self._sent_ms: dict[int, float] = {}
        self._arrived_ms: dict[int, float] = {}
        #: Number of submitted requests, and the oldest request without an outcome.
        self._submitted = self._head = 0
        #: Start of the wait for a place in the window, if the next request waits for one.
        self._full_since_ms: float | None = None
        self._full_ms = 0.0
        self._resent = 0
        self._outcomes: dict[Outcome, int] = {"answered": 0, "timed_out": 0, "overloaded": 0}
        self._latency_ms: list[float] = []
        self._spent_ms = [0.0] * len(SPENT)

    def run(self) -> Forecast:
        self._submit()
        self._watch_deadlines()
        for failure in self._stream.failures:
            self._events.call_after(failure.start_s * 1000, self._fail, failure)
        self._events.run()
        return self._forecast()

    # Boards

    def _make_boards(self) -> dict[str, SimulatedBoard]:
        roles: dict[str, list[ReplicaTimes]] = {}
        for replica in itertools.chain.from_iterable(self._plan.stages):
            roles.setdefault(replica.device, []).append(replica)
        return {
            name: SimulatedBoard(
                self._events,
                name,
                of_board,
                receive_maximum=self._stream.receive_maximum,
                time_factors=_time_factors(self._spread(of_board), [self._stream.seed, 1, number]),
                on_result=self._pass_on,
                on_overloaded=lambda copy: self._end(copy.number, "overloaded"),
            )
            for number, (name, of_board) in enumerate(roles.items())
        }

    def _spread(self, roles: Sequence[ReplicaTimes]) -> float:
        spreads = [role.invoke_spread for role in roles if role.invoke_spread is not None]
        return max(spreads, default=self._stream.spread)

    def _publish(self, copy: Copy) -> None:
        self._boards[copy.times.device].publish(copy)

    def _pass_on(self, copy: Copy) -> None:
        copy.stage += 1
        if copy.stage < len(self._plan.stages):
            self._publish(copy)
        elif copy.number in self._sent_ms:
            self._latency_ms.append(self._events.now_ms - self._arrived_ms[copy.number])
            for where, spent_ms in enumerate(copy.spent_ms):
                self._spent_ms[where] += spent_ms
            self._end(copy.number, "answered")

    def _fail(self, failure: Failure) -> None:
        self._boards[failure.device].fail()
        self._events.call_after(failure.duration_s * 1000, self._restore, failure)
        self._routes.fail(failure.device)
        self._go_around()

    def _restore(self, failure: Failure) -> None:
        self._boards[failure.device].restore()
        self._routes.restore(failure.device)
        self._go_around()

    # The client

    def _submit(self) -> None:
        """Send arrived requests until the next one has to wait for its arrival or for a place."""
        now_ms, has_arrived = self._events.now_ms, True
        while has_arrived and self._submitted < self._stream.requests:
            number = self._submitted
            if len(self._sent_ms) >= self._window:
                self._full_since_ms = now_ms
                return
            self._arrived_ms[number] = (
                now_ms if self._arrivals_ms is None else self._arrivals_ms[number]
            )
            self._sent_ms[number] = now_ms
            self._submitted = number + 1
            self._send(number)
            has_arrived = self._await_arrival()

    def _await_arrival(self) -> bool:
        """Whether the next request has arrived. If not, submit the request when it arrives."""
        if self._arrivals_ms is None or self._submitted == self._stream.requests:
            return True
        wait_ms = self._arrivals_ms[self._submitted] - self._events.now_ms
        if wait_ms <= 0:
            return True
        self._events.call_after(wait_ms, self._submit)
        return False

    def _send(self, number: int) -> None:
        sent_ms = self._sent_ms[number]
        expires_ms = sent_ms + (self._stream.timeout_s + EXPIRY_SLACK_S) * 1000
        copy = Copy(number, self._routes.choose(number), self._arrived_ms[number], expires_ms)
        copy.spend(SOURCE, sent_ms)
        copy.spend(RESENT, self._events.now_ms)
        self._publish(copy)

    def _go_around(self) -> None:
        """Send the requests again that wait for a failed board and can pass another one."""
        for number in self._routes.stranded():
            self._resent += 1
            self._send(number)

    def _watch_deadlines(self) -> None:
        """End requests without an answer within the timeout; the oldest is the first to expire."""
        timeout_ms, now_ms = self._stream.timeout_s * 1000, self._events.now_ms
        while (deadline_ms := self._sent_ms.get(self._head, now_ms) + timeout_ms) <= now_ms:
            self._end(self._head, "timed_out")
        self._events.call_after(deadline_ms - now_ms, self._watch_deadlines)

    def _end(self, number: int, outcome: Outcome) -> None:
        if self._sent_ms.pop(number, None) is None:
            return
        del self._arrived_ms[number]
        self._routes.end(number)
        self._outcomes[outcome] += 1
        while self._head < self._submitted and self._head not in self._sent_ms:
            self._head += 1
        if self._head == self._stream.requests:
            self._events.call_after(0, self._events.clear)
        elif self._full_since_ms is not None:
            self._full_ms += self._events.now_ms - self._full_since_ms
            self._full_since_ms = None
            self._events.call_after(0, self._submit)

    # The result

    def _forecast(self) -> Forecast:
        seconds = self._events.now_ms / 1000
        answered = self._outcomes["answered"]
        boards = tuple(self._board_forecast(board) for board in self._boards.values())
        throughput_per_s = answered / seconds if seconds else 0.0
        return Forecast(
            requests=self._stream.requests,
            outcomes=self._outcomes,
            resent=self._resent,
            seconds=seconds,
            throughput_per_s=throughput_per_s,
            capacity_per_s=capacity_per_s(self._plan)[0],
            latency_ms=summarize_latency(self._latency_ms),
            spent_ms={
                name: spent_ms / max(1, answered)
                for name, spent_ms in zip(SPENT, self._spent_ms, strict=True)
            },
            boards=boards,
            limit=describe_limit(
                self._plan,
                boards,
                rate_per_s=self._stream.rate_per_s,
                window=self._window,
                full_share=self._full_ms / self._events.now_ms if seconds else 0.0,
                throughput_per_s=throughput_per_s,
            ),
        )

    def _board_forecast(self, board: SimulatedBoard) -> BoardForecast:
        span_ms = 0.0 if board.first_ms is None else board.last_ms - board.first_ms
        per_ms = 1 / span_ms if span_ms > 0 else 0.0
        return BoardForecast(
            device=board.name,
            stages=tuple(
                index
                for index, replicas in enumerate(self._plan.stages)
                if board.name in {replica.device for replica in replicas}
            ),
            served=board.served,
            processor=min(1.0, board.processor_ms * per_ms),
            link=min(1.0, board.link_ms * per_ms),
            queue_mean=board.queue_ms * per_ms,
            queue_max=board.most_queued,
            at_broker_mean=board.broker_ms * per_ms,
            at_broker_max=board.most_at_broker,
        )


def _time_factors(spread: float, seed: Sequence[int]) -> Iterator[float]:
    """Yield lognormal factors with mean 1 and standard deviation ``spread``, without end."""
    if spread == 0:
        return itertools.repeat(1.0)
    variance = math.log1p(spread**2)
    random = np.random.default_rng(seed)
    blocks = (
        random.lognormal(-variance / 2, math.sqrt(variance), _BLOCK).tolist()
        for _ in itertools.count()
    )
    return itertools.chain.from_iterable(blocks)
