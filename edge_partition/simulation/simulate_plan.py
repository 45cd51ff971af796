"""A plan and a stream of requests -> what throughput and latency will be, by simulation.

Requests arrive (a Poisson process, evenly, or each as soon as there is room for it), wait for a
place in the client's window, and pass through the stages' boards
(:mod:`edge_partition.simulation.simulated_board`). A stage on several boards gives each its turn,
as an MQTT shared subscription does, whether the board is up or not.

The client is :class:`edge_partition.client.pipeline.Pipeline`: its window reaches from the oldest
request without an answer to the newest; after a board went or came back it sends what has no answer
again, after 0.5 s and then at growing intervals, and takes the first answer; a request without one
in time counts as timed out. While some of a stage's boards are away it sends each new request
again, too.

Inferences vary by a lognormal factor of mean 1. Not modelled: the client's and the broker's own
processors and links, and more than one client.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import simpy

from edge_core.contract.messages import RECEIVE_MAXIMUM
from edge_core.errors import EdgePartitionError
from edge_partition.client.deployment_connection import EXPIRY_SLACK_S
from edge_partition.client.request_window import default_window
from edge_partition.client.requests_in_flight import RESEND_FIRST_S, RESEND_MAX_S
from edge_partition.simulation.simulated_board import RESENT, SOURCE, SPENT, Copy, SimulatedBoard

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from numpy.typing import NDArray

    from edge_partition.planning.read_plan import PipelineTimes, ReplicaTimes

Outcome: TypeAlias = Literal["answered", "timed_out", "overloaded"]

#: Relative standard deviation of an inference's time, where the plan doesn't say. Inferences of
#: emulated boards on a machine busy with other work had 0.11 to 0.19, 0.01 to 0.06 of it from the
#: messages handled meanwhile, which are simulated.
DEFAULT_SPREAD = 0.1
#: A resource busier than this sets the pace; a window full longer than this does.
_SATURATED = 0.95
_FULL = 0.9
_BLOCK = 4096


class SimulationError(EdgePartitionError):
    """What is to be simulated makes no sense."""


@dataclass(frozen=True)
class Failure:
    """A board that is away for a while.

    Attributes:
        device: Its name.
        start_s: After the first request could arrive.
        duration_s: Until it serves again.
    """

    device: str
    start_s: float
    duration_s: float


@dataclass(frozen=True)
class Stream:
    """The requests, and the client that sends them.

    Attributes:
        requests: How many.
        rate_per_s: Arrivals a second; None: each as soon as the window has a place.
        steady: Arrivals at equal intervals instead of a Poisson process.
        window: Requests in flight at once; None: the client's own rule.
        timeout_s: After this long without an answer a request has failed.
        failures: Boards that go away.
        receive_maximum: Requests that the broker hands a board before one is acknowledged.
        spread: Relative standard deviation of inferences where the plan says none.
        seed: Of arrivals and inferences; equal seeds give equal forecasts.
    """

    requests: int
    rate_per_s: float | None = None
    steady: bool = False
    window: int | None = None
    timeout_s: float = 30.0
    failures: tuple[Failure, ...] = ()
    receive_maximum: int = RECEIVE_MAXIMUM
    spread: float = DEFAULT_SPREAD
    seed: int = 0


@dataclass(frozen=True)
class BoardForecast:
    """A board under the stream.

    Attributes:
        device: Its name.
        stages: The stages that it serves.
        served: Requests, repeats included.
        processor: Share of the time, from the first request to the last result, that its
            processors were busy.
        link: The same of its link.
        queue_mean: Requests that waited for inference, over that time.
        queue_max: At most.
        at_broker_mean: Requests that waited at the broker, over that time.
        at_broker_max: At most.
    """

    device: str
    stages: tuple[int, ...]
    served: int
    processor: float
    link: float
    queue_mean: float
    queue_max: int
    at_broker_mean: float
    at_broker_max: int


@dataclass(frozen=True)
class Forecast:
    """What became of the requests.

    Attributes:
        requests: How many there were.
        outcomes: How many of each; together all of them.
        resent: Messages that the client sent again.
        seconds: From the first arrival to the last answer or failure.
        throughput_per_s: Answers in that time.
        capacity_per_s: Requests a second that the slowest board allows.
        latency_ms: ``mean``, ``median``, ``p95``, ``p99`` and ``max`` of the answered, from arrival
            (without a rate: from sending) to the result.
        spent_ms: Where that mean was spent: waiting for a place in the window (``source``), for
            the copy that was answered to be sent (``resent``), at the broker for the board
            (``broker``), on links, in the boards' network threads (``handling``), for inference
            (``queue``), and in it (``invoke``).
        boards: In the order of the stages.
        limit: What sets the pace; and what the failures, if any, cost.
    """

    requests: int
    outcomes: dict[Outcome, int]
    resent: int
    seconds: float
    throughput_per_s: float
    capacity_per_s: float
    latency_ms: dict[str, float]
    spent_ms: dict[str, float]
    boards: tuple[BoardForecast, ...]
    limit: str


def simulate_plan(plan: PipelineTimes, stream: Stream) -> Forecast:
    """Return what becomes of a stream of requests.

    Raises:
        SimulationError: A number is out of range, or a failure is of a board that isn't there.
    """
    _check(plan, stream)
    forecast = _Simulation(plan, stream).run()
    if not stream.failures:
        return forecast
    undisturbed = _Simulation(plan, replace(stream, failures=())).run()
    return replace(
        forecast,
        limit=f"{undisturbed.limit} {_harm(stream.failures, forecast, undisturbed)}",
    )


def arrival_times_s(stream: Stream) -> NDArray[np.float64]:
    """Return ``(requests,)``, when requests arrive, in seconds; the stream has a rate."""
    if stream.rate_per_s is None:
        raise SimulationError("A stream without a rate has no arrival times.")
    if stream.steady:
        return np.arange(stream.requests) / stream.rate_per_s
    gaps_s = np.random.default_rng([stream.seed, 0]).exponential(
        1 / stream.rate_per_s, stream.requests
    )
    arrivals_s: NDArray[np.float64] = np.cumsum(gaps_s) - gaps_s[0]
    return arrivals_s


def capacity_per_s(plan: PipelineTimes) -> tuple[float, str, str]:
    """Return the most requests a second, and which board and which part of it allows no more.

    A board with a share of a stage's requests works for that share only, whatever the others do.
    """
    needs: dict[tuple[str, str], float] = {}
    for replicas in plan.stages:
        for replica in replicas:
            for part, need_ms in (("processor", replica.busy_ms), ("link", replica.transfer_ms)):
                key = (replica.device, part)
                needs[key] = needs.get(key, 0.0) + need_ms / len(replicas)
    (device, part), need_ms = max(needs.items(), key=lambda item: item[1])
    return (1000 / need_ms if need_ms else math.inf), device, part


class _Simulation:
    """One run. Times are milliseconds."""

    def __init__(self, plan: PipelineTimes, stream: Stream) -> None:
        self._plan = plan
        self._stream = stream
        self._env = simpy.Environment()
        self._boards = self._make_boards()
        self._window = stream.window or default_window(len(self._boards))
        self._turns = [itertools.cycle(replicas) for replicas in plan.stages]
        #: Requests without an outcome: when each was sent.
        self._sent_ms: dict[int, float] = {}
        self._arrived_ms: dict[int, float] = {}
        self._submitted = self._head = 0
        self._places = self._env.event()
        self._finished = self._env.event()
        self._breaks = 0
        self._resent = 0
        self._full_ms = 0.0
        self._outcomes: dict[Outcome, int] = {"answered": 0, "timed_out": 0, "overloaded": 0}
        self._latency_ms: list[float] = []
        self._spent_ms = [0.0] * len(SPENT)

    def run(self) -> Forecast:
        env = self._env
        env.process(self._submit_all())
        env.process(self._watch_deadlines())
        for failure in self._stream.failures:
            env.process(self._fail(failure))
        env.run(until=self._finished)
        return self._forecast()

    # Boards

    def _make_boards(self) -> dict[str, SimulatedBoard]:
        roles: dict[str, list[ReplicaTimes]] = {}
        for replica in itertools.chain.from_iterable(self._plan.stages):
            roles.setdefault(replica.device, []).append(replica)
        return {
            name: SimulatedBoard(
                self._env,
                name,
                of_board,
                receive_maximum=self._stream.receive_maximum,
                stretches=_stretches(self._spread(of_board), [self._stream.seed, 1, number]),
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
            self._latency_ms.append(self._env.now - self._arrived_ms[copy.number])
            for where, spent_ms in enumerate(copy.spent_ms):
                self._spent_ms[where] += spent_ms
            self._end(copy.number, "answered")

    def _fail(self, failure: Failure) -> Generator[simpy.Event, None, None]:
        board = self._boards[failure.device]
        yield self._env.timeout(failure.start_s * 1000)
        board.fail()
        self._unsettle()
        yield self._env.timeout(failure.duration_s * 1000)
        board.restore()
        self._unsettle()

    # The client

    def _submit_all(self) -> Generator[simpy.Event, None, None]:
        env, stream = self._env, self._stream
        arrivals_ms = (
            itertools.repeat(None, stream.requests)
            if stream.rate_per_s is None
            else (arrival_s * 1000 for arrival_s in arrival_times_s(stream).tolist())
        )
        for number, arrival_ms in enumerate(arrivals_ms):
            if arrival_ms is not None and arrival_ms > env.now:
                yield env.timeout(arrival_ms - env.now)
            if number - self._head >= self._window:
                full_since_ms = env.now
                while number - self._head >= self._window:
                    self._places = env.event()
                    yield self._places
                self._full_ms += env.now - full_since_ms
            self._arrived_ms[number] = env.now if arrival_ms is None else arrival_ms
            self._sent_ms[number] = env.now
            self._submitted = number + 1
            self._send(number)
            if self._has_lost_a_replica():
                env.process(self._send_again(number, self._breaks))

    def _send(self, number: int) -> None:
        sent_ms = self._sent_ms[number]
        expires_ms = sent_ms + (self._stream.timeout_s + EXPIRY_SLACK_S) * 1000
        copy = Copy(number, self._arrived_ms[number], expires_ms)
        copy.spend(SOURCE, sent_ms)
        copy.spend(RESENT, self._env.now)
        self._publish(copy)

    def _unsettle(self) -> None:
        """A board went or came back: send again what has no answer."""
        self._breaks += 1
        for number in self._sent_ms:
            self._env.process(self._send_again(number, self._breaks))

    def _has_lost_a_replica(self) -> bool:
        """Whether a stage has boards that are away beside others that are not."""
        return any(
            0 < sum(self._boards[replica.device].is_up for replica in replicas) < len(replicas)
            for replicas in self._plan.stages
        )

    def _send_again(self, number: int, breaks: int) -> Generator[simpy.Event, None, None]:
        pause_ms = RESEND_FIRST_S * 1000
        yield self._env.timeout(pause_ms)
        while number in self._sent_ms and self._breaks == breaks:
            self._resent += 1
            self._send(number)
            yield self._env.timeout(pause_ms)
            pause_ms = min(RESEND_MAX_S * 1000, 2 * pause_ms)

    def _watch_deadlines(self) -> Generator[simpy.Event, None, None]:
        """Give up requests that got no answer in time; the oldest is always the first."""
        timeout_ms = self._stream.timeout_s * 1000
        while True:
            deadline_ms = self._sent_ms.get(self._head, self._env.now) + timeout_ms
            if deadline_ms <= self._env.now:
                self._end(self._head, "timed_out")
            else:
                yield self._env.timeout(deadline_ms - self._env.now)

    def _end(self, number: int, outcome: Outcome) -> None:
        if self._sent_ms.pop(number, None) is None:
            return
        del self._arrived_ms[number]
        self._outcomes[outcome] += 1
        while self._head < self._submitted and self._head not in self._sent_ms:
            self._head += 1
        if self._head == self._stream.requests:
            self._finished.succeed()
        elif not self._places.triggered:
            self._places.succeed()

    # The end

    def _forecast(self) -> Forecast:
        seconds = self._env.now / 1000
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
            latency_ms=_summary(self._latency_ms),
            spent_ms={
                name: spent_ms / max(1, answered)
                for name, spent_ms in zip(SPENT, self._spent_ms, strict=True)
            },
            boards=boards,
            limit=self._limit(boards, throughput_per_s),
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

    def _limit(self, boards: Sequence[BoardForecast], throughput_per_s: float) -> str:
        rate_per_s = self._stream.rate_per_s
        most_per_s, slowest, part = capacity_per_s(self._plan)
        if rate_per_s is not None and rate_per_s > most_per_s:
            return (
                f"{rate_per_s:g} requests/s are more than {slowest}'s {part} can do, "
                f"{most_per_s:.1f}/s: requests wait longer and longer to be sent."
            )
        share, device, busiest = max(
            (share, board.device, part)
            for board in boards
            for part, share in (("processor", board.processor), ("link", board.link))
        )
        if share >= _SATURATED:
            return f"{device}'s {busiest} is busy {share:.0%} of the time: it sets the pace."
        if rate_per_s is None or self._full_ms > _FULL * self._env.now:
            return (
                f"The window of {self._window} requests sets the pace: the busiest part, "
                f"{device}'s {busiest}, is busy {share:.0%} of the time; a larger window "
                f"would serve more than {throughput_per_s:.1f} requests/s."
            )
        return (
            f"The arrivals set the pace: the busiest part, {device}'s {busiest}, is busy "
            f"{share:.0%} of the time; {most_per_s:.1f} requests/s are the most the boards can do."
        )


def _harm(failures: Sequence[Failure], forecast: Forecast, undisturbed: Forecast) -> str:
    away = ", ".join(f"{failure.device} away for {failure.duration_s:g} s" for failure in failures)
    lost = forecast.requests - forecast.outcomes["answered"]
    return (
        f"With {away}: {forecast.throughput_per_s:.1f} requests/s instead of "
        f"{undisturbed.throughput_per_s:.1f}, p99 {forecast.latency_ms['p99']:.0f} ms instead of "
        f"{undisturbed.latency_ms['p99']:.0f} ms, {lost or 'no'} "
        f"request{'s' * (lost != 1)} without an answer."
    )


def _check(plan: PipelineTimes, stream: Stream) -> None:
    positive = {"requests": stream.requests, "timeout": stream.timeout_s}
    positive["receive maximum"] = stream.receive_maximum
    if stream.rate_per_s is not None:
        positive["rate"] = stream.rate_per_s
    if stream.window is not None:
        positive["window"] = stream.window
    for name, value in positive.items():
        if not 0 < value < math.inf:
            raise SimulationError(f"The {name} is {value:g}; expected more than 0.")
    if not 0 <= stream.spread < math.inf:
        raise SimulationError(f"The spread is {stream.spread:g}; expected 0 or more.")
    back_s: dict[str, float] = {}
    for failure in sorted(stream.failures, key=lambda failure: failure.start_s):
        if failure.device not in plan.devices:
            raise SimulationError(
                f"The plan has no board {failure.device!r} that could fail; it has "
                f"{', '.join(sorted(plan.devices))}."
            )
        if not (0 <= failure.start_s < math.inf and 0 < failure.duration_s < math.inf):
            raise SimulationError(
                f"{failure.device} fails at {failure.start_s:g} s for {failure.duration_s:g} s; "
                "expected a start of 0 or more and a duration of more than 0."
            )
        if failure.start_s < back_s.get(failure.device, 0.0):
            raise SimulationError(
                f"{failure.device} fails again at {failure.start_s:g} s, before it is back at "
                f"{back_s[failure.device]:g} s."
            )
        back_s[failure.device] = failure.start_s + failure.duration_s


def _stretches(spread: float, seed: Sequence[int]) -> Iterator[float]:
    """Return factors without end: lognormal, of mean 1 and standard deviation ``spread``."""
    if spread == 0:
        return itertools.repeat(1.0)
    variance = math.log1p(spread**2)
    random = np.random.default_rng(seed)
    blocks = (
        random.lognormal(-variance / 2, math.sqrt(variance), _BLOCK).tolist()
        for _ in itertools.count()
    )
    return itertools.chain.from_iterable(blocks)


def _summary(latency_ms: Sequence[float]) -> dict[str, float]:
    values = np.array(latency_ms) if latency_ms else np.zeros(1)
    return {
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "p95": float(np.percentile(values, 95)),
        "p99": float(np.percentile(values, 99)),
        "max": float(values.max()),
    }
