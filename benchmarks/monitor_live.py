"""Measure processor time, memory and input delay of the monitor with 500 simulated boards.

    python benchmarks/monitor_live.py                # two and a half minutes
    python benchmarks/monitor_live.py --seconds 600

The benchmark starts a real broker, the real ``mqtt-monitor web``, and a process that publishes the
messages of 500 boards and 50 deployments: statistics of each board every 5 s, evenly spread, and
one trace of each deployment every second. A real headless Chromium opens the page. There the
benchmark sorts, searches, turns pages and opens details, as a person does. The browser measures the
delay of each input, from the input to the next frame (Event Timing). The benchmark also checks that
the page shows the published numbers of boards and results. Goals: half a core, 150 MB, 100 ms.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import psutil
from playwright.sync_api import Page, sync_playwright
from simulated_fleet import (
    BOARDS,
    DEPLOYMENTS,
    PERIOD_S,
    board_name,
    manifest,
    profile,
    stage_boards,
    stats,
    trace,
)

from broker_config.serve.start_broker import start_broker
from edge_core.contract.topics import Topics
from edge_core.mqtt.broker_address import BrokerAddress
from edge_core.mqtt.connection import Connection

_MONITOR = Path(sys.executable).parent / "mqtt-monitor"
_RESULTS = Path(__file__).resolve().parents[1] / "docs" / "measured" / "monitor-live.json"
_STEPS = 50
_SAMPLE_S = 5.0
_PATIENCE_MS = 60_000
#: Time between two keys, in milliseconds: 240 words per minute.
_KEY_MS = 50
#: Options that keep the browser from sending requests that do not belong to the page.
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
_OBSERVE = """
window.inputs = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries())
    if (entry.interactionId) window.inputs.push([entry.name, entry.duration]);
}).observe({ type: "event", durationThreshold: 16, buffered: true });
"""


def publish(url: str) -> None:
    """Publish the messages of the whole fleet, until the process is killed."""
    topics = Topics()
    with Connection(BrokerAddress.parse(url, environ={}), "simulated-fleet") as connection:
        for number in range(BOARDS):
            name = board_name(number)
            connection.publish(topics.availability(name), b"online")
            connection.publish(topics.profile(name), profile(number))
        for number in range(DEPLOYMENTS):
            name = f"net-{number}"
            connection.publish_and_wait(topics.manifest(name), manifest(name, stage_boards(number)))
        print("published", flush=True)
        start_s, step_s = time.time(), PERIOD_S / _STEPS
        for step in range(1 << 30):
            time.sleep(max(0.0, start_s + step * step_s - time.time()))
            sequence = step // _STEPS + 1
            for number in range(step % _STEPS, BOARDS, _STEPS):
                payload = stats(number, sequence, start_s)
                connection.publish(topics.stats(board_name(number)), payload)
            for number in range(step % 10, DEPLOYMENTS, 10):
                payload = trace(number, step)
                connection.publish(topics.trace(f"client-{number}"), payload)


def use(page: Page, turn: int) -> None:
    """Sort, search, turn a page, open and close details, and select a deployment, once."""
    page.get_by_label("Sort by").select_option(("cpu", "memory", "name")[turn % 3])
    page.get_by_role("searchbox").press_sequentially(f"board-{turn % 50:02}", delay=_KEY_MS)
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="Next").click()
    page.locator("#boards tbody tr button").nth(turn % 25).click()
    page.keyboard.press("Escape")
    page.get_by_label("Deployment").select_option(f"net-{turn % DEPLOYMENTS}")


def watch(monitor: psutil.Process, page: Page, seconds: float) -> dict[str, object]:
    """Use the page for this many seconds; return the monitor's cost and the input delays."""
    page.evaluate(_OBSERVE)
    cores, rss_bytes = [], []
    began = time.monotonic()
    turn = 0
    while time.monotonic() < began + seconds:
        started, spent_s = time.monotonic(), sum(monitor.cpu_times()[:2])
        while time.monotonic() < started + _SAMPLE_S:
            use(page, turn)
            turn += 1
            time.sleep(0.2)
        cores.append((sum(monitor.cpu_times()[:2]) - spent_s) / (time.monotonic() - started))
        rss_bytes.append(monitor.memory_info().rss)
    inputs = [duration for _, duration in page.evaluate("window.inputs")]
    return {
        "seconds": time.monotonic() - began,
        "turns": turn,
        "cores": {"median": statistics.median(cores), "highest": max(cores)},
        "rss_mb": {"first": rss_bytes[0] / 1e6, "last": rss_bytes[-1] / 1e6,
                   "highest": max(rss_bytes) / 1e6},
        # The browser does not report inputs of less than 16 ms.
        "slow_inputs": len(inputs),
        "input_ms": {
            "median": statistics.median(inputs) if inputs else 0.0,
            "p99": statistics.quantiles(inputs, n=100)[98] if len(inputs) > 1 else 0.0,
            "highest": max(inputs, default=0.0),
        },
    }  # fmt: skip


def check(page: Page) -> None:
    """Check the numbers of boards and results per second on the page."""
    shown = page.locator("#facts").inner_text()
    sent = f"{DEPLOYMENTS * 100 / PERIOD_S:,.0f}"
    if f"{BOARDS} of {BOARDS}" not in shown or sent not in shown:
        raise SystemExit(
            f"The page shows {shown!r}; expected {BOARDS} boards and {sent} results/s."
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seconds", type=float, default=120, help="time for which the page is used, in seconds"
    )
    parser.add_argument("--publish", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.publish:
        publish(options.publish)
        return
    with start_broker(port=0) as broker:
        words = [sys.executable, __file__, "--publish", broker.url]
        fleet = subprocess.Popen(words, stdout=subprocess.PIPE)
        words = [str(_MONITOR), "web", "--listen", "127.0.0.1:0", "--broker", broker.url]
        monitor = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        try:
            fleet.stdout.readline()
            address = monitor.stdout.readline().strip()
            with sync_playwright() as playwright:
                path = shutil.which("chromium") or shutil.which("google-chrome")
                browser = playwright.chromium.launch(executable_path=path, args=_FLAGS)
                page = browser.new_page(viewport={"width": 1280, "height": 800})
                page.set_default_timeout(_PATIENCE_MS)
                page.goto(address)
                time.sleep(4 * PERIOD_S)
                check(page)
                found = watch(psutil.Process(monitor.pid), page, options.seconds)
                check(page)
                browser.close()
        finally:
            for process in (fleet, monitor):
                process.kill()
                process.wait()
    found = {"boards": BOARDS, "deployments": DEPLOYMENTS, **found}
    _RESULTS.parent.mkdir(exist_ok=True)
    _RESULTS.write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
