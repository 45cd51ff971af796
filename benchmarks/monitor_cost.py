"""What watching costs a pipeline: its results a second with and without the monitor's page.

    sudo python benchmarks/monitor_cost.py MobileNetV3Large    # five minutes and a half

Emulated boards run the model with the client's window full, without a break. Every few seconds
``mqtt-monitor web`` with an open page (its stream of changes, read as a browser does, and
``/metrics`` scraped once a turn) is started or ended. Neighbouring turns with and without it are
compared, which of the two is first alternates, and the first second of each turn is left out. Told
are the median of the ratios and the interval that holds 95 % of the medians of resampled turns
(bootstrap). Goal: less than 1 % lost.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import emulated_fleet as emulation

from edge_partition.pipeline import Pipeline
from edge_partition.plan_split import plan_split

if TYPE_CHECKING:
    from collections.abc import Iterator

_MONITOR = Path(sys.executable).parent / "mqtt-monitor"
_SHARES = (0.4, 0.3)
_SETTLE_S, _TURN_S = 1.0, 3.0
_SAMPLES = 10_000


@contextmanager
def watched(url: str) -> Iterator[None]:
    """Have the monitor's page open meanwhile."""
    words = [str(_MONITOR), "web", "--listen", "127.0.0.1:0", "--broker", url]
    monitor = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
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
        pass  # It was closed.


def measure(name: str, pairs: int) -> dict[str, object]:
    model = emulation.load(name)
    fleet = emulation.boards_of(_SHARES)
    with emulation.emulated(fleet) as desk:
        # By the boards' shares: how good the plan is matters little here.
        plan = plan_split(model.graph, fleet, "throughput", stages=len(_SHARES))
        with emulation.deployed(plan, model, desk):
            ends: list[float] = []
            ended = threading.Event()
            client = threading.Thread(target=_stream, args=(desk.url, ended, ends))
            client.start()
            try:
                turns = [_pair(desk.url, ends, first=number % 2 == 0) for number in range(pairs)]
            finally:
                ended.set()
                client.join()
    ratios = [with_it / without for without, with_it in turns]
    rng = random.Random(1)  # noqa: S311 -- the same samples every time
    medians = sorted(statistics.median(rng.choices(ratios, k=len(ratios))) for _ in range(_SAMPLES))
    return {
        "model": name,
        "shares": _SHARES,
        "machine": emulation.machine(),
        "pairs": pairs,
        "without_per_s": statistics.median(without for without, _ in turns),
        "with_per_s": statistics.median(with_it for _, with_it in turns),
        "ratio": statistics.median(ratios),
        "mean_ratio": statistics.fmean(ratios),
        "interval": [medians[int(0.025 * _SAMPLES)], medians[int(0.975 * _SAMPLES)]],
    }


def _stream(url: str, ended: threading.Event, ends: list[float]) -> None:
    with Pipeline("benchmark", url, window=4 * len(_SHARES), timeout_s=120) as pipeline:
        inputs = itertools.cycle(emulation.inputs_of(pipeline, 0))
        stream = pipeline.stream(itertools.takewhile(lambda _: not ended.is_set(), inputs))
        ends.extend(time.perf_counter() for _ in stream)


def _pair(url: str, ends: list[float], *, first: bool) -> tuple[float, float]:
    """Return results a second without and with the monitor."""
    if first:
        with watched(url):
            with_it = _rate(ends)
        return _rate(ends), with_it
    without = _rate(ends)
    with watched(url):
        return without, _rate(ends)


def _rate(ends: list[float]) -> float:
    time.sleep(_SETTLE_S)
    start = len(ends)
    time.sleep(_TURN_S)
    stop = len(ends)
    # From one result to another: a turn's edges are nobody's.
    return (stop - 1 - start) / (ends[stop - 1] - ends[start])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="MobileNetV3Large", help="Keras application")
    parser.add_argument("--pairs", type=int, default=40)
    options = parser.parse_args()
    found = measure(options.model, options.pairs)
    emulation.keep(f"monitor-cost-{options.model}", found)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
