"""Forecast the throughput and latency of a plan by discrete-event simulation.

Requests arrive as a Poisson process, at equal intervals, or whenever the client's window (the limit
on requests in flight) allows another request. A request waits while the window is full
(:mod:`edge_partition.simulation.simulated_client`). Then the request passes through the boards of
its route, one board for each stage (:mod:`edge_partition.simulation.simulated_board`). The
simulated client uses the code of the real client,
:class:`edge_partition.client.pipeline.Pipeline`, to choose routes, to adapt the window and to send
requests again. A request without an answer within the timeout ends as timed out, and the stream
continues.

Each inference time is the plan's time multiplied by a random lognormal factor with mean 1. The
simulation has one client. The client's and the broker's processors and links are not simulated.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edge_partition.simulation.event_queue import EventQueue
from edge_partition.simulation.find_capacity import Capacity, find_capacity
from edge_partition.simulation.forecast import (
    BoardForecast,
    Forecast,
    Outcome,
    describe_failures,
    describe_limit,
    summarize_latency,
)
from edge_partition.simulation.simulated_board import SPENT, Copy, SimulatedBoard
from edge_partition.simulation.simulated_client import SimulatedClient
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
    "Capacity",
    "Failure",
    "Forecast",
    "Outcome",
    "SimulationError",
    "Stream",
    "arrival_times_s",
    "find_capacity",
    "simulate_plan",
]

#: Number of random numbers that are drawn at once.
_BLOCK = 4096


def simulate_plan(plan: PipelineTimes, stream: Stream) -> Forecast:
    """Simulate a stream of requests through the boards of a plan, and return the forecast.

    Args:
        plan: The times of one request on each board.
        stream: The requests, the client's limits, and the failures of boards.

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
    """One simulation: the boards, and the client that sends the requests."""

    def __init__(self, plan: PipelineTimes, stream: Stream) -> None:
        self._plan = plan
        self._stream = stream
        self._events = EventQueue()
        self._client = SimulatedClient(self._events, plan, stream, self._publish)
        self._boards = self._make_boards()
        self._times = [{times.device: times for times in stage} for stage in plan.stages]

    def run(self) -> Forecast:
        self._client.start()
        for failure in self._stream.failures:
            self._events.call_after(failure.start_s * 1000, self._fail, failure)
        self._events.run()
        return self._forecast()

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
                on_overloaded=self._client.take_overloaded,
                on_not_listening=self._client.take_not_listening,
            )
            for number, (name, of_board) in enumerate(roles.items())
        }

    def _spread(self, roles: Sequence[ReplicaTimes]) -> float:
        spreads = [role.invoke_spread for role in roles if role.invoke_spread is not None]
        return max(spreads, default=self._stream.spread)

    def _publish(self, copy: Copy) -> None:
        device = copy.route[copy.stage]
        copy.times = self._times[copy.stage][device]
        self._boards[device].publish(copy)

    def _pass_on(self, copy: Copy) -> None:
        copy.stage += 1
        if copy.stage < len(self._plan.stages):
            self._publish(copy)
        else:
            self._client.take_result(copy)

    def _fail(self, failure: Failure) -> None:
        self._boards[failure.device].fail()
        self._events.call_after(failure.duration_s * 1000, self._restore, failure)
        self._client.take_availability(failure.device, is_online=False)

    def _restore(self, failure: Failure) -> None:
        self._boards[failure.device].restore()
        self._client.take_availability(failure.device, is_online=True)

    def _forecast(self) -> Forecast:
        client, seconds = self._client, self._events.now_ms / 1000
        answered = client.outcomes["answered"]
        boards = tuple(self._board_forecast(board) for board in self._boards.values())
        energy_j = self._energy_j()
        throughput_per_s = answered / seconds if seconds else 0.0
        capacity = find_capacity(self._plan, self._stream.receive_maximum)
        return Forecast(
            requests=self._stream.requests,
            outcomes=client.outcomes,
            resent=client.resent,
            overloaded=client.overloaded,
            seconds=seconds,
            throughput_per_s=throughput_per_s,
            capacity_per_s=capacity.rate_per_s,
            largest_window=client.largest_window,
            latency_ms=summarize_latency(client.latency_ms),
            spent_ms={
                name: spent_ms / max(1, answered)
                for name, spent_ms in zip(SPENT, client.spent_ms, strict=True)
            },
            boards=boards,
            energy_j=energy_j / answered if answered and energy_j is not None else None,
            limit=describe_limit(
                boards,
                capacity,
                rate_per_s=self._stream.rate_per_s,
                window=self._stream.window,
                full_share=client.full_ms / self._events.now_ms if seconds else 0.0,
                throughput_per_s=throughput_per_s,
            ),
        )

    def _energy_j(self) -> float | None:
        """Return the energy of all boards above their idle power, in joules.

        None if the power of a board is not known.
        """
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
    """Yield random lognormal factors endlessly: mean 1, standard deviation ``spread``."""
    if spread == 0:
        return itertools.repeat(1.0)
    variance = math.log1p(spread**2)
    random = np.random.default_rng(seed)
    blocks = (
        random.lognormal(-variance / 2, math.sqrt(variance), _BLOCK).tolist()
        for _ in itertools.count()
    )
    return itertools.chain.from_iterable(blocks)
