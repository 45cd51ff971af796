"""How well `edge-partition simulate` forecasts throughput and latency of real, emulated boards.

    sudo python benchmarks/simulate_accuracy.py             # every configuration: some 15 minutes
    sudo python benchmarks/simulate_accuracy.py two --requests 60 --loads 0.7

The boards measure the model, the plan rests on that alone, and what is forecast from the plan's
document is held against what then happens: a Poisson stream at several shares of the planned
throughput, and a stream that keeps the window full. Arrivals are the same in both. Latency counts
from a request's arrival, throughput from the first arrival to the last result.

Boards are rarely as fast minutes later as they were when they measured themselves, least of all on
a machine with other work. So a few lone requests go before each stream: how much slower inferences
are by then stands in ``slower``, and a second forecast, ``at_that_speed``, is made with stage times
stretched by it. The first forecast's error is that of profile, plan and simulation together, the
second's that of the simulation.

Nothing else should run meanwhile. Figures are kept in ``docs/measured``, beside those of
other configurations. Goals: throughput within 10 %, p99 latency within 25 %.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import emulated_fleet as emulation
import numpy as np

from edge_partition.fleet import Fleet
from edge_partition.pipeline import Pipeline
from edge_partition.plan_document import plan_document
from edge_partition.plan_split import plan_split
from edge_partition.read_plan import read_plan
from edge_partition.simulate_plan import Stream, arrival_times_s, simulate_plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_partition.pipeline import Result
    from edge_partition.plan import Plan
    from edge_partition.read_plan import PipelineTimes, ReplicaTimes
    from edge_partition.read_tflite import TfliteModel
    from edge_partition.simulate_plan import Forecast

_RESULTS = "simulate_accuracy"
_LOADS = (0.4, 0.7, 0.9)
_WARM_UP = 20
_LONE = 16
_TIMEOUT_S = 60.0
_SEED = 7


@dataclass(frozen=True)
class Configuration:
    """A model, and boards of these shares of a processor of this machine.

    ``stages`` is None where the planner chooses, replicas among it; ``link_mbit_s`` is None where
    links are as fast as loopback.
    """

    model: str
    shares: tuple[float, ...]
    stages: int | None
    link_mbit_s: float | None = None
    link_ms: float = 0.0

    @property
    def fleet(self) -> Fleet:
        fleet = emulation.boards_of(self.shares)
        if self.link_mbit_s is None:
            return fleet
        return Fleet(
            tuple(
                replace(device, link_mbit_s=self.link_mbit_s, link_ms=self.link_ms)
                for device in fleet.devices
            )
        )


CONFIGURATIONS = {
    "two": Configuration("MobileNetV3Large", (0.4, 0.24), stages=2),
    "three": Configuration("EfficientNetV2B0", (0.48, 0.32, 0.24), stages=3),
    "four": Configuration(
        "EfficientNetV2B0", (0.24,) * 4, stages=None, link_mbit_s=200, link_ms=1.0
    ),
}


def run_stream(pipeline: Pipeline, arrays: list[Any], stream: Stream) -> dict[str, Any]:
    """Send a stream of requests to real boards and return what came of it."""
    arrivals_s = [0.0] * stream.requests
    if stream.rate_per_s is not None:
        arrivals_s = arrival_times_s(stream).tolist()
    sent_s: list[float] = []
    started = time.monotonic()

    def inputs() -> Iterator[Any]:
        for arrival_s, item in zip(arrivals_s, itertools.cycle(arrays)):
            time.sleep(max(0.0, started + arrival_s - time.monotonic()))
            sent_s.append(time.monotonic() - started)
            yield item

    results = list(pipeline.stream(inputs()))
    answered_s = np.array(sent_s) + np.array([result.latency_ms for result in results]) / 1000
    counted_from = np.array(sent_s if stream.rate_per_s is None else arrivals_s)
    latency_ms = (answered_s - counted_from) * 1000
    return {
        "seconds": float(answered_s.max()),
        "throughput_per_s": len(results) / float(answered_s.max()),
        "latency_ms": {
            "mean": float(latency_ms.mean()),
            "median": float(np.median(latency_ms)),
            "p95": float(np.percentile(latency_ms, 95)),
            "p99": float(np.percentile(latency_ms, 99)),
            "max": float(latency_ms.max()),
        },
        "sent_late_ms": float(np.mean(np.array(sent_s) - arrivals_s) * 1000),
        "stages": by_stage(results),
    }


def by_stage(results: list[Result]) -> list[dict[str, Any]]:
    """Return what each stage took on each board, from the traces."""
    times: dict[tuple[int, str], list[tuple[float, float]]] = defaultdict(list)
    for result in results:
        for stage in result.trace:
            times[stage.stage, stage.device].append((stage.queue_ms, stage.invoke_ms))
    found = []
    for (index, device), rows in sorted(times.items()):
        queue_ms, invoke_ms = np.array(rows).T
        found.append(
            {
                "stage": index,
                "device": device,
                "queue_mean_ms": float(queue_ms.mean()),
                "invoke_mean_ms": float(invoke_ms.mean()),
                "invoke_median_ms": float(np.median(invoke_ms)),
                "invoke_spread": float(invoke_ms.std() / invoke_ms.mean()),
                "invoke_p99_over_mean": float(np.percentile(invoke_ms, 99) / invoke_ms.mean()),
            }
        )
    return found


def lone_slowness(times: PipelineTimes, pipeline: Pipeline, arrays: list[Any]) -> dict[str, float]:
    """Return by board how much longer lone inferences take now than the plan says."""
    planned = {item.device: item.invoke_ms for stage in times.stages for item in stage}
    results = [
        next(iter(pipeline.stream([item])))
        for item in itertools.islice(itertools.cycle(arrays), _LONE)
    ]
    return {
        stage["device"]: stage["invoke_mean_ms"] / planned[stage["device"]]
        for stage in by_stage(results)
    }


def stretched(times: PipelineTimes, slower: dict[str, float]) -> PipelineTimes:
    """Return the plan's times with the processor's part of each board stretched."""

    def stretch(item: ReplicaTimes) -> ReplicaTimes:
        factor = slower[item.device]
        return replace(
            item,
            receive_handling_ms=item.receive_handling_ms * factor,
            invoke_ms=item.invoke_ms * factor,
            send_handling_ms=item.send_handling_ms * factor,
            busy_ms=item.busy_ms * factor,
        )

    return replace(times, stages=tuple(tuple(map(stretch, stage)) for stage in times.stages))


def compare(
    times: PipelineTimes, pipeline: Pipeline, arrays: list[Any], stream: Stream
) -> dict[str, Any]:
    slower = lone_slowness(times, pipeline, arrays)
    real = run_stream(pipeline, arrays, stream)
    after = lone_slowness(times, pipeline, arrays)
    mean = {device: (slower[device] + after[device]) / 2 for device in slower}
    return {
        "rate_per_s": stream.rate_per_s,
        "requests": stream.requests,
        "slower": {"before": slower, "after": after},
        "real": real,
        "forecast": held_against(simulate_plan(times, stream), real),
        "at_that_speed": held_against(simulate_plan(stretched(times, mean), stream), real),
    }


def held_against(forecast: Forecast, real: dict[str, Any]) -> dict[str, Any]:
    return {
        **asdict(forecast),
        "throughput_error": forecast.throughput_per_s / real["throughput_per_s"] - 1,
        "p99_error": forecast.latency_ms["p99"] / real["latency_ms"]["p99"] - 1,
    }


def measure(configuration: Configuration, requests: int, loads: list[float]) -> dict[str, Any]:
    model = emulation.load(configuration.model)
    fleet = configuration.fleet
    shape_links = configuration.link_mbit_s is not None
    with emulation.emulated(fleet, shape_links=shape_links) as desk:

        def best(boards: Fleet, model: TfliteModel) -> list[Plan]:
            return [plan_split(model.graph, boards, stages=configuration.stages)]

        fleet = emulation.measured(fleet, model, desk, best)
        (plan,) = best(fleet, model)
        document = plan_document(plan)
        times = read_plan(document)
        runs = []
        with (
            emulation.deployed(plan, model, desk),
            Pipeline("benchmark", desk.url, timeout_s=_TIMEOUT_S) as pipeline,
        ):
            arrays = emulation.inputs_of(pipeline, _SEED)
            list(pipeline.stream(itertools.islice(itertools.cycle(arrays), _WARM_UP)))
            for load in (*loads, None):
                rate = None if load is None else load * plan.throughput_per_s
                run = compare(
                    times, pipeline, arrays, Stream(requests, rate_per_s=rate, seed=_SEED)
                )
                runs.append({"load": load, **run})
                show(run)
    return {
        **asdict(configuration),
        "machine": emulation.machine(),
        "broker": desk.broker_description,
        "plan": document,
        "runs": runs,
    }


def show(run: dict[str, Any]) -> None:
    real = run["real"]
    rate = "window full" if run["rate_per_s"] is None else f"{run['rate_per_s']:.1f}/s offered"
    slower = ", ".join(
        f"{device} {run['slower']['before'][device]:.2f} to {after:.2f}"
        for device, after in run["slower"]["after"].items()
    )
    print(
        f"{rate}: {real['throughput_per_s']:.2f}/s, p99 {real['latency_ms']['p99']:.1f} ms; "
        f"inferences took of the plan's time: {slower}"
    )
    for name in ("forecast", "at_that_speed"):
        forecast = run[name]
        print(
            f"  {name}: {forecast['throughput_per_s']:.2f}/s ({forecast['throughput_error']:+.1%}),"
            f" p99 {forecast['latency_ms']['p99']:.1f} ms ({forecast['p99_error']:+.1%})",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configurations", nargs="*", metavar="NAME", help=", ".join(CONFIGURATIONS))
    parser.add_argument("--requests", type=int, default=500, help="of each stream")
    parser.add_argument("--loads", type=float, nargs="*", default=list(_LOADS))
    options = parser.parse_args()
    for name in options.configurations or CONFIGURATIONS:
        print(name, flush=True)
        result = measure(CONFIGURATIONS[name], options.requests, options.loads)
        path = emulation.MEASURED / f"{_RESULTS}.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        emulation.keep(_RESULTS, {**known, name: result})


if __name__ == "__main__":
    main()
