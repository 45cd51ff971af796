"""A plan and a stream of requests -> throughput and latency, by discrete-event simulation.

Requests arrive (as a Poisson process, at equal intervals, or whenever the window has a place), wait
for a place in the client's window, and pass through the boards of the stages
(:mod:`edge_partition.simulation.simulated_board`). The replicas of a stage get requests in turn, as
in an MQTT shared subscription, also while a replica has failed.

The simulated client behaves as :class:`edge_partition.client.pipeline.Pipeline`. The window reaches
from the oldest request without an answer to the newest request. After a board fails or returns, the
client sends each request without an answer again, first after 0.5 s and then at growing intervals,
and takes the first answer. The client also sends each new request again while some boards of a
stage have failed and others have not. A request without an answer within the timeout ends as timed
out.

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
from edge_partition.client.requests_in_flight import RESEND_FIRST_S, RESEND_MAX_S
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
        self._turns = [itertools.cycle(replicas) for replicas in plan.stages]
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
        #: Number of times that a board failed or returned.
        self._board_changes = 0
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
        copy.times = next(self._turns[copy.stage])
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
        self._resend_all()

    def _restore(self, failure: Failure) -> None:
        self._boards[failure.device].restore()
        self._resend_all()

    # The client

    def _submit(self) -> None:
        """Send arrived requests until the next one has to wait for its arrival or for a place."""
        now_ms, has_arrived = self._events.now_ms, True
        while has_arrived and self._submitted < self._stream.requests:
            number = self._submitted
            if number - self._head >= self._window:
                self._full_since_ms = now_ms
                return
            self._arrived_ms[number] = (
                now_ms if self._arrivals_ms is None else self._arrivals_ms[number]
            )
            self._sent_ms[number] = now_ms
            self._submitted = number + 1
            self._send(number)
            has_arrived = self._await_arrival()
            if self._has_partly_failed_stage():
                self._resend_later(number)

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
        copy = Copy(number, self._arrived_ms[number], expires_ms)
        copy.spend(SOURCE, sent_ms)
        copy.spend(RESENT, self._events.now_ms)
        self._publish(copy)

    def _resend_all(self) -> None:
        """Send each request without an outcome again, because a board failed or returned."""
        self._board_changes += 1
        for number in self._sent_ms:
            self._resend_later(number)

    def _has_partly_failed_stage(self) -> bool:
        """Whether a stage has a board that has failed and a board that has not."""
        return any(
            0 < sum(self._boards[replica.device].is_up for replica in replicas) < len(replicas)
            for replicas in self._plan.stages
        )

    def _resend_later(self, number: int) -> None:
        pause_ms = RESEND_FIRST_S * 1000
        self._events.call_after(pause_ms, self._resend, number, self._board_changes, pause_ms)

    def _resend(self, number: int, board_changes: int, pause_ms: float) -> None:
        if number not in self._sent_ms or self._board_changes != board_changes:
            return
        self._resent += 1
        self._send(number)
        next_pause_ms = min(RESEND_MAX_S * 1000, 2 * pause_ms)
        self._events.call_after(pause_ms, self._resend, number, board_changes, next_pause_ms)

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
        energy_j = self._energy_j()
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
            energy_j=energy_j / answered if answered and energy_j is not None else None,
            limit=describe_limit(
                self._plan,
                boards,
                rate_per_s=self._stream.rate_per_s,
                window=self._window,
                full_share=self._full_ms / self._events.now_ms if seconds else 0.0,
                throughput_per_s=throughput_per_s,
            ),
        )

    def _energy_j(self) -> float | None:
        """Return the energy of all boards above their idle power, in joules, if it is known."""
        watts = {
            replica.device: replica.watts_above_idle
            for replicas in self._plan.stages
            for replica in replicas
        }
        energies = [
            watts_above_idle * board.processor_ms / 1000
            for board in self._boards.values()
            if (watts_above_idle := watts[board.name]) is not None
        ]
        return sum(energies) if len(energies) == len(self._boards) else None

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
