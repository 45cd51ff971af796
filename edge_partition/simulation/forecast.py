"""The result of a simulation, and the resource that limits the throughput."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_partition.planning.read_plan import PipelineTimes, ReplicaTimes
    from edge_partition.simulation.stream import Failure

Outcome: TypeAlias = Literal["answered", "timed_out", "overloaded"]

#: Share of the time above which a busy resource limits the throughput.
_SATURATED = 0.95
#: Share of the time above which a full window limits the throughput.
_FULL = 0.9
#: Least time of a board for one request, so that a board without times has a speed.
_LEAST_MS = 1e-9


@dataclass(frozen=True)
class BoardForecast:
    """The load of one board.

    Attributes:
        device: Name of the board.
        stages: Stages that the board serves.
        served: Number of requests served, repeats included.
        processor: Share of the time from the first request to the last result in which the
            processors are busy, 0 to 1.
        link: Share of this time in which the link is busy, 0 to 1.
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
        outcomes: Number of requests with each outcome; the sum is ``requests``.
        resent: Number of messages that the client sent again.
        seconds: Time from the first arrival to the last answer or failure, in seconds.
        throughput_per_s: Answers per second during ``seconds``.
        capacity_per_s: Requests per second that the busiest board can serve.
        latency_ms: ``mean``, ``median``, ``p95``, ``p99`` and ``max`` over answered requests, from
            the arrival (without a rate: from sending) to the result.
        spent_ms: Parts of the mean latency: waiting for a place in the window (``source``), from
            the first sending to the sending of the answered copy (``resent``), waiting at the
            broker (``broker``), on links (``link``), in the boards' network threads (``handling``),
            waiting for inference (``queue``) and inference (``invoke``), in milliseconds.
        boards: Load of each board, in the order of the stages.
        energy_j: Energy of all boards above their idle power, for each answered request, in joules;
            repeats and the inferences of requests without an answer count. ``None`` if a board's
            power is not known or no request was answered.
        limit: A sentence on the resource that limits the throughput, and a sentence on the effect
            of failures.
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
    energy_j: float | None = None


def capacity_per_s(plan: PipelineTimes) -> tuple[float, str, str]:
    """Return the largest throughput in requests per second, the limiting board and its resource.

    The resource is ``processor`` or ``link``. Replicas get requests in proportion to their speed. A
    board that serves several stages has the speed at which it serves all of them.
    """
    loads: dict[tuple[str, str], float] = {}
    for replica in itertools.chain.from_iterable(plan.stages):
        for part, load_ms in _parts(replica):
            key = (replica.device, part)
            loads[key] = loads.get(key, 0.0) + load_ms
    speeds = {
        device: 1 / max(loads[device, "processor"], loads[device, "link"], _LEAST_MS)
        for device, _ in loads
    }
    needs: dict[tuple[str, str], float] = dict.fromkeys(loads, 0.0)
    for replicas in plan.stages:
        total = sum(speeds[replica.device] for replica in replicas)
        for replica in replicas:
            for part, load_ms in _parts(replica):
                needs[replica.device, part] += load_ms * speeds[replica.device] / total
    (device, part), need_ms = max(needs.items(), key=lambda item: item[1])
    return (1000 / need_ms if need_ms else math.inf), device, part


def _parts(replica: ReplicaTimes) -> tuple[tuple[str, float], ...]:
    return ("processor", replica.busy_ms), ("link", replica.transfer_ms)


def summarize_latency(latency_ms: Sequence[float]) -> dict[str, float]:
    """Return the mean, the median, two percentiles and the maximum; 0 without values."""
    values = np.array(latency_ms) if latency_ms else np.zeros(1)
    return {
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "p95": float(np.percentile(values, 95)),
        "p99": float(np.percentile(values, 99)),
        "max": float(values.max()),
    }


def describe_limit(
    plan: PipelineTimes,
    boards: Sequence[BoardForecast],
    *,
    rate_per_s: float | None,
    window: int,
    full_share: float,
    throughput_per_s: float,
) -> str:
    """Return a sentence on the resource that limits the throughput.

    Args:
        plan: The times of the plan.
        boards: The load of each board.
        rate_per_s: Arrivals per second; ``None`` if the window alone limits the client.
        window: Largest number of requests in flight.
        full_share: Share of the time in which a request waited for a place in the window, 0 to 1.
        throughput_per_s: Answers per second.
    """
    most_per_s, slowest, part = capacity_per_s(plan)
    if rate_per_s is not None and rate_per_s > most_per_s:
        return (
            f"{rate_per_s:g} requests/s exceed the capacity of {slowest}'s {part}, "
            f"{most_per_s:.1f} requests/s: the time that requests wait grows without limit."
        )
    share, device, busiest = max(
        (share, board.device, part)
        for board in boards
        for part, share in (("processor", board.processor), ("link", board.link))
    )
    if share >= _SATURATED:
        return f"{device}'s {busiest} is busy {share:.0%} of the time and limits the throughput."
    if rate_per_s is None or full_share > _FULL:
        return (
            f"The window of {window} request{'s' * (window > 1)} limits the throughput: the "
            f"busiest resource, {device}'s {busiest}, is busy {share:.0%} of the time. A larger "
            f"window would serve more than {throughput_per_s:.1f} requests/s."
        )
    return (
        f"The arrival rate limits the throughput: the busiest resource, {device}'s {busiest}, is "
        f"busy {share:.0%} of the time. The boards can serve {most_per_s:.1f} requests/s."
    )


def describe_failures(
    failures: Sequence[Failure], forecast: Forecast, undisturbed: Forecast
) -> str:
    """Return a sentence that compares a forecast with the forecast without failures."""
    away = ", ".join(f"{failure.device} away for {failure.duration_s:g} s" for failure in failures)
    lost = forecast.requests - forecast.outcomes["answered"]
    return (
        f"With {away}: {forecast.throughput_per_s:.1f} requests/s instead of "
        f"{undisturbed.throughput_per_s:.1f}, p99 {forecast.latency_ms['p99']:.0f} ms instead of "
        f"{undisturbed.latency_ms['p99']:.0f} ms, {lost or 'no'} "
        f"request{'s' * (lost != 1)} without an answer."
    )
