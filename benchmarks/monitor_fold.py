"""Measure the processor time and memory with which the monitor keeps the state of 500 boards.

    python benchmarks/monitor_fold.py        # an hour of statistics: about 2 minutes
    python benchmarks/monitor_fold.py 20     # 20 rounds of statistics

The 500 boards serve 50 deployments and publish statistics every 5 s. The benchmark passes the
messages to the monitor's feed without a broker; monitor_live.py uses a broker. Times are processor
times of this process. Goals for the whole monitor: half a core, 150 MB.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import psutil
from simulated_fleet import (
    BOARDS,
    DEPLOYMENTS,
    PERIOD_S,
    board_name,
    manifest,
    profile,
    stage_boards,
    stats,
)

from edge_core.contract.topics import DEFAULT_PREFIX
from mqtt_monitor.exports.metrics import render
from mqtt_monitor.feeds.feed import Feed
from mqtt_monitor.fleet.alerts import find_alerts
from mqtt_monitor.fleet.arrival import Arrival
from mqtt_monitor.fleet.describe_fleet import describe_fleet

START_S = 1.764e9


class Simulated(Feed):
    """A feed whose messages and clock the benchmark sets, without a broker."""

    time_s = START_S

    def now_s(self) -> float:
        return self.time_s

    def take(self, topic: str, payload: bytes) -> None:
        self._fold(Arrival(self.time_s, f"{DEFAULT_PREFIX}/{topic}", payload))


def timed(name: str, runs: int, work: object) -> None:
    times = []
    for _ in range(runs):
        started = time.process_time()
        work()  # type: ignore[operator]
        times.append((time.process_time() - started) * 1000)
    times.sort()
    print(f"{name:32} {times[len(times) // 2]:8.1f} ms median, {times[-1]:.1f} worst")


def main(rounds: int) -> None:
    base_bytes = psutil.Process().memory_info().rss
    feed = Simulated(DEFAULT_PREFIX, "mqtt://hub:1883")
    feed._note_broker(START_S, connected=True)  # noqa: SLF001
    boards = [board_name(number) for number in range(BOARDS)]
    for number, board in enumerate(boards):
        feed.take(f"device/{board}/availability", b"online")
        feed.take(f"device/{board}/profile", profile(number))
    for number in range(DEPLOYMENTS):
        name = f"net-{number}"
        feed.take(f"deployment/{name}/manifest", manifest(name, stage_boards(number)))
    fold_s, messages = 0.0, 0
    for sequence in range(1, rounds + 1):
        payloads = [stats(number, sequence, START_S) for number in range(BOARDS)]
        feed.time_s = START_S + PERIOD_S * sequence
        started = time.process_time()
        for board, payload in zip(boards, payloads, strict=True):
            feed.take(f"device/{board}/stats", payload)
        fold_s += time.process_time() - started
        messages += BOARDS
    print(f"{len(payloads[0])} bytes per message")
    print(
        f"{'folding':32} {fold_s / messages * 1e6:8.1f} µs per message, {messages / fold_s:,.0f} "
        f"messages/s; 100 messages/s take {fold_s / messages * 100:.1%} of a core"
    )
    fleet = feed.snapshot()
    assert fleet.deployments["net-7"].stages[3].requests_per_s == 100 / PERIOD_S  # noqa: S101
    timed("snapshot", 20, feed.snapshot)
    timed("alerts", 20, lambda: find_alerts(fleet))
    timed("JSON document", 5, lambda: json.dumps(describe_fleet(fleet, find_alerts(fleet))))
    timed("/metrics", 5, lambda: render(feed))
    now_bytes = psutil.Process().memory_info().rss
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    mib = 1024 * 1024
    print(
        f"memory: {base_bytes / mib:.0f} MiB after imports, {now_bytes / mib:.0f} MiB with an hour "
        f"of history, {peak_mib:.0f} MiB at the peak"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 720)
