"""Measure a pipeline's throughput with and without an open page of the monitor.

    sudo python benchmarks/monitor_cost.py MobileNetV3Large    # ten minutes

Two equal fleets, each with its own broker and emulated boards, run the model at the same time. The
window of each client is always full. In each pair of turns, ``mqtt-monitor web`` watches first one
fleet and then the other: a page is open (the benchmark reads its stream of changes as a browser
does), and ``/metrics`` is scraped once a turn. The benchmark compares the throughputs of both
fleets in the same seconds. The speed of a shared machine varies by up to a third within ten
seconds. This variation would hide a loss of 1 %, but the variation affects both fleets equally.
A pair has two ratios of the watched fleet's throughput to the other fleet's throughput. Their
geometric mean cancels a constant difference between the fleets.

The monitor's own processor time slows both fleets equally, so the comparison leaves this time out.
In use, a monitor does not run on a board. ``benchmarks/monitor_live.py`` measures this time.

The results are the median of the geometric means, its 95 % interval (bootstrap), and the brokers'
processor time per result. Goal: a loss below 1 %.

With ``--control``, the benchmark opens no page. Instead it stops the boards of one fleet, and then
the boards of the other fleet, for 2 % of the time. The result shows whether the comparison finds a
loss of this size.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import emulated_fleet as emulation
import psutil

from edge_partition.client.pipeline import Pipeline
from edge_partition.planning.fleet import Fleet
from edge_partition.planning.plan_split import plan_split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from edge_partition.tflite.read_tflite import TfliteModel

_MONITOR = Path(sys.executable).parent / "mqtt-monitor"
#: Each board's share of one processor. The shares leave idle time on the machine although two
#: fleets, two brokers, the clients and the monitor run.
_SHARES = (0.3, 0.2)
_SETTLE_S, _TURN_S = 2.0, 4.0
#: Time from one stop of the boards to the next with ``--control``, in seconds. A stop of 20 ms is
#: much longer than the period of the kernel's shares, a millisecond. So the boards cannot make up
#: for the lost time.
_HINDER_S = 1.0
_SAMPLES = 10_000


@dataclass(frozen=True)
class Side:
    """One of the two fleets, with its pipeline.

    Attributes:
        url: Address of the fleet's broker.
        broker: Process of the broker.
        agents: Processes of the agents, in the order of the boards.
        ends: Arrival times of the results so far, in seconds of :func:`time.perf_counter`.
    """

    url: str
    broker: psutil.Process
    agents: list[psutil.Process]
    ends: list[float]


@dataclass(frozen=True)
class Rate:
    """Throughput and broker cost of one side in one turn.

    Attributes:
        per_s: Results per second.
        broker_ms: The broker's processor time per result, in milliseconds.
    """

    per_s: float
    broker_ms: float


@contextmanager
def watched(side: Side) -> Iterator[None]:
    """Keep a page of the monitor open inside the ``with`` block."""
    words = [str(_MONITOR), "web", "--listen", "127.0.0.1:0", "--broker", side.url]
    monitor = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        address = monitor.stdout.readline().strip().rstrip("/")
        with (
            urllib.request.urlopen(f"{address}/api/stream") as page,  # noqa: S310 -- ours
            urllib.request.urlopen(f"{address}/metrics") as metrics,  # noqa: S310
        ):
            metrics.read()
            reader = threading.Thread(target=_read, args=(page,), daemon=True)
            reader.start()
            yield
    finally:
        monitor.kill()
        monitor.wait()


def _read(page: object) -> None:
    try:
        while page.readline():  # type: ignore[attr-defined]
            pass
    except (OSError, ValueError, AttributeError):
        pass  # The page was closed.


def hindered(side: Side) -> AbstractContextManager[None]:
    """Stop the boards for 2 % of the time inside the ``with`` block."""

    def hinder(ended: threading.Event) -> None:
        while not ended.wait(0.98 * _HINDER_S):
            for agent in side.agents:
                agent.suspend()
            time.sleep(0.02 * _HINDER_S)
            for agent in side.agents:
                agent.resume()

    return _meanwhile(hinder)


@contextmanager
def _meanwhile(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run ``work`` in a thread inside the ``with`` block.

    ``work`` takes an event and returns when the event is set, at the end of the block.
    """
    ended = threading.Event()
    worker = threading.Thread(target=work, args=(ended,))
    worker.start()
    try:
        yield
    finally:
        ended.set()
        worker.join()


def measure(
    name: str, pairs: int, what: Callable[[Side], AbstractContextManager[None]]
) -> dict[str, object]:
    model = emulation.load(name)
    with _side(model, "one") as one, _side(model, "other") as other:
        turns = [
            _turn(what, *sides) for _ in range(pairs) for sides in ((one, other), (other, one))
        ]
    with_it, without = zip(*turns, strict=True)
    ratios = [watched.per_s / alone.per_s for watched, alone in turns]
    means = [math.sqrt(a * b) for a, b in zip(ratios[::2], ratios[1::2], strict=True)]
    rng = random.Random(1)  # noqa: S311 -- the same samples every time
    medians = sorted(statistics.median(rng.choices(means, k=len(means))) for _ in range(_SAMPLES))
    return {
        "model": name,
        "shares": _SHARES,
        "machine": emulation.machine(),
        "pairs": pairs,
        "without_per_s": statistics.median(rate.per_s for rate in without),
        "with_per_s": statistics.median(rate.per_s for rate in with_it),
        "ratio": statistics.median(means),
        "mean_ratio": statistics.geometric_mean(means),
        "interval": [medians[int(0.025 * _SAMPLES)], medians[int(0.975 * _SAMPLES)]],
        "broker_ms_without": statistics.median(rate.broker_ms for rate in without),
        "broker_ms_with": statistics.median(rate.broker_ms for rate in with_it),
    }


@contextmanager
def _side(model: TfliteModel, word: str) -> Iterator[Side]:
    """Deploy the model on a fleet of its own; stream requests inside the ``with`` block."""
    shares = emulation.boards_of(_SHARES).devices
    fleet = Fleet(tuple(replace(board, name=f"{word}-{board.name}") for board in shares))
    earlier = set(_brokers())
    with emulation.emulated(fleet) as desk:
        (broker,) = set(_brokers()) - earlier
        started = emulation.agent_processes()
        agents = [started[board.name] for board in fleet.devices]
        # The boards are not profiled: the quality of the plan matters little here.
        plan = plan_split(model.graph, fleet, "throughput", stages=len(_SHARES))
        with emulation.deployed(plan, model, desk):
            side = Side(desk.url, broker, agents, ends=[])
            with _meanwhile(lambda ended: _stream(side, ended)):
                yield side


def _brokers() -> list[psutil.Process]:
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if process.name() == "mosquitto"
    ]


def _stream(side: Side, ended: threading.Event) -> None:
    with Pipeline("benchmark", side.url, window=4 * len(_SHARES), timeout_s=120) as pipeline:
        inputs = itertools.cycle(emulation.inputs_of(pipeline, 0))
        stream = pipeline.stream(itertools.takewhile(lambda _: not ended.is_set(), inputs))
        side.ends.extend(time.perf_counter() for _ in stream)


def _turn(
    what: Callable[[Side], AbstractContextManager[None]], watched_side: Side, other: Side
) -> tuple[Rate, Rate]:
    """Return the rates of the watched side and of the other side in the same seconds."""
    sides = (watched_side, other)
    with what(watched_side):
        time.sleep(_SETTLE_S)
        before = [(len(side.ends), emulation.cpu_s_of(side.broker)) for side in sides]
        time.sleep(_TURN_S)
        found = [_rate(side, *begun) for side, begun in zip(sides, before, strict=True)]
    return found[0], found[1]


def _rate(side: Side, start: int, broker_s: float) -> Rate:
    stop = len(side.ends)
    # The time is that from the first to the last result, because a turn begins and ends between two
    # results.
    return Rate(
        (stop - 1 - start) / (side.ends[stop - 1] - side.ends[start]),
        (emulation.cpu_s_of(side.broker) - broker_s) * 1000 / (stop - start),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="MobileNetV3Large", help="Keras application")
    parser.add_argument("--pairs", type=int, default=50, help="number of pairs of turns")
    parser.add_argument(
        "--control",
        action="store_true",
        help="stop the boards for 2 %% of the time, and do not open the page",
    )
    options = parser.parse_args()
    found = measure(options.model, options.pairs, hindered if options.control else watched)
    kind = "control" if options.control else "cost"
    emulation.keep(f"monitor-{kind}-{options.model}", found)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
