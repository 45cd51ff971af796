"""The result of a simulation, and the resource that limits the throughput."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from edge_partition.simulation.find_capacity import RECEIVE_LIMIT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_partition.simulation.find_capacity import Capacity
    from edge_partition.simulation.stream import Failure

Outcome: TypeAlias = Literal["answered", "timed_out"]

#: A resource limits the throughput if it is busy for at least this share of the time.
_SATURATED = 0.95
#: The window limits the throughput if it is full for more than this share of the time.
_FULL = 0.9


@dataclass(frozen=True)
class BoardForecast:
    """The load of one board.

    Attributes:
        device: Name of the board.
        stages: Stages that the board serves.
        served: Number of requests that the board served, including repeated requests.
        processor: Share of the time, from 0 to 1, for which the processors are busy. The time runs
            from the board's first request to its last result.
        link: Share of the same time, from 0 to 1, for which the link is busy.
        queue_mean: Mean number of requests waiting for inference.
        queue_max: Largest number of requests waiting for inference.
        at_broker_mean: Mean number of requests waiting at the broker.
        at_broker_max: Largest number of requests waiting at the broker.
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
    """The result of a simulation.

    Attributes:
        requests: Number of requests.
        outcomes: Number of requests with each outcome. The numbers add up to ``requests``.
        resent: Number of messages that the client sent again.
        overloaded: Number of times that a board with a full queue refused a request. The client
            then waits and sends the request again.
        seconds: Time from the first arrival until every request is answered or has timed out, in
            seconds.
        throughput_per_s: Answers per second during ``seconds``.
        capacity_per_s: Largest number of requests per second that the boards can serve.
        largest_window: Largest number of requests that the window allowed in flight.
        latency_ms: ``mean``, ``median``, ``p95``, ``p99`` and ``max`` of the latencies of answered
            requests, in milliseconds. A latency is the time from a request's arrival to its result.
            If the stream has no rate, a request arrives when the window allows it.
        spent_ms: Parts of the mean latency, in milliseconds, by name. ``source``: wait until the
            window allows the request. ``resent``: from the first message with the request to the
            repeat that is answered; 0 if the first message is answered. ``broker``: wait at the
            broker. ``link``: transfer on links. ``handling``: reading and writing of messages on
            the boards. ``queue``: wait for an inference. ``invoke``: inferences.
        boards: Load of each board, in the order of the stages.
        energy_j: Energy of all boards above their idle power, divided by the number of answered
            requests, in joules. Repeats and requests without an answer also use energy. ``None`` if
            a board's power is not known or no request was answered.
        limit: A sentence that says what limits the throughput. If boards fail, a second sentence
            says what the failures change.
    """

    requests: int
    outcomes: dict[Outcome, int]
    resent: int
    overloaded: int
    seconds: float
    throughput_per_s: float
    capacity_per_s: float
    largest_window: int
    latency_ms: dict[str, float]
    spent_ms: dict[str, float]
    boards: tuple[BoardForecast, ...]
    limit: str
    energy_j: float | None = None


def summarize_latency(latency_ms: Sequence[float]) -> dict[str, float]:
    """Return the values of :attr:`Forecast.latency_ms`. Without latencies, each value is 0."""
    values = np.array(latency_ms) if latency_ms else np.zeros(1)
    return {
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "p95": float(np.percentile(values, 95)),
        "p99": float(np.percentile(values, 99)),
        "max": float(values.max()),
    }


def describe_limit(
    boards: Sequence[BoardForecast],
    capacity: Capacity,
    *,
    rate_per_s: float | None,
    window: int | None,
    full_share: float,
    throughput_per_s: float,
) -> str:
    """Return a sentence that says what limits the throughput.

    Args:
        boards: The load of each board.
        capacity: The largest throughput of the plan.
        rate_per_s: Arrivals per second; ``None``: only the window limits the client.
        window: Largest number of requests in flight; ``None``: the client adapts the number.
        full_share: Share of the simulated time, from 0 to 1, during which the window was full and a
            request waited.
        throughput_per_s: Answers per second.
    """
    most_per_s = f"{capacity.rate_per_s:.1f} requests/s"
    if rate_per_s is not None and rate_per_s > capacity.rate_per_s:
        return (
            f"{rate_per_s:g} requests/s arrive, but the capacity of {capacity} is {most_per_s}: "
            "requests wait longer and longer."
        )
    share, device, part = max(
        (share, board.device, part)
        for board in boards
        for part, share in (("processor", board.processor), ("link", board.link))
    )
    is_reached = throughput_per_s >= _SATURATED * capacity.rate_per_s
    if is_reached and capacity.part == RECEIVE_LIMIT:
        return (
            f"The broker waits for acknowledgements from {', '.join(capacity.devices)} before it "
            f"sends more. With the link's delay, this limits the throughput to {most_per_s}."
        )
    is_set = is_reached and len(capacity.devices) > 1 and device in capacity.devices
    if is_set or share >= _SATURATED:
        return (
            f"{capacity} serve at most {most_per_s} and limit the throughput."
            if is_set
            else f"{device}'s {part} is busy {share:.0%} of the time and limits the throughput."
        )
    busiest = f"the busiest resource, {device}'s {part}, is busy {share:.0%} of the time"
    if rate_per_s is not None and full_share <= _FULL:
        return (
            f"The arrival rate limits the throughput: {busiest}. The boards can serve {most_per_s}."
        )
    if window is None:
        return (
            f"The window that the client chose limits the throughput: {busiest}. The boards can "
            f"serve {most_per_s}."
        )
    return (
        f"The window of {window} request{'s' * (window > 1)} limits the throughput: {busiest}. A "
        f"larger window would reach more than {throughput_per_s:.1f} requests/s."
    )


def describe_failures(
    failures: Sequence[Failure], forecast: Forecast, undisturbed: Forecast
) -> str:
    """Return a sentence that compares a forecast with the forecast if no board fails."""
    away = ", ".join(
        f"{failure.device} offline for {failure.duration_s:g} s" for failure in failures
    )
    lost = forecast.requests - forecast.outcomes["answered"]
    return (
        f"With {away}: {forecast.throughput_per_s:.1f} requests/s instead of "
        f"{undisturbed.throughput_per_s:.1f}, {forecast.latency_ms['p99']:.0f} ms or less for 99 "
        f"of 100 requests instead of {undisturbed.latency_ms['p99']:.0f} ms, {lost or 'no'} "
        f"request{'s' * (lost != 1)} without an answer."
    )
