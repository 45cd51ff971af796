"""The metrics, checked by promtool and by a real Prometheus with the alert rules."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from brokers import PATIENCE_S, free_port, mosquitto_with_accounts, wait_until
from checkout import CHECKOUT
from fleet_clients import agent, publish
from fleet_messages import START_S, ToldFeed, Watched, availability, manifest, profile, stage, stats

from mqtt_monitor.exports.metrics import render

if TYPE_CHECKING:
    from mqtt_monitor.fleet.arrival import Arrival

MONITORING = CHECKOUT / "docs" / "monitoring"
RULES = MONITORING / "alerts.yml"


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None or shutil.which("prometheus") is None:
        if os.environ.get("CI"):
            pytest.fail("prometheus must be installed in CI")
        pytest.skip("prometheus is not installed")
    return found


def told_feed(*arrivals: Arrival, connected: bool = True) -> ToldFeed:
    """Return a feed with some messages, 11 s after the start."""
    feed = ToldFeed(*arrivals)
    if not connected:
        feed.lose_broker()
    feed.time_s = 11
    return feed


def full() -> list[Arrival]:
    """Return messages of two working boards, with all fields."""
    messages = [manifest(0, ["pi-1"], ["pi-2"])]
    for index, name in enumerate(("pi-1", "pi-2")):
        link = {"interface": "wlan0", "received_bytes": 7000, "sent_bytes": 300}
        link |= {"speed_mbit_s": 72, "signal_dbm": -61.0}
        load = {"throttled": False, "free_memory_bytes": 10**9, "link": link}
        messages += [
            availability(0, name, b"online"),
            profile(0, name, ram_mib=512, runtime='r"\\\n', machine="aarch64"),
            stats(5, name, 1, stage(index, 10), **load),
            stats(10, name, 2, stage(index, 60, errors={"expired": 2}), **load),
        ]
    return messages


def samples(text: bytes) -> dict[str, float]:
    """Return each sample by name and labels."""
    lines = [line for line in text.decode().splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_values_are_in_base_units() -> None:
    told = samples(render(told_feed(*full())))
    stage_0 = '{deployment="net",device="pi-1",stage="0"}'
    assert told["edge_partition_broker_up"] == 1
    assert told['edge_partition_device_up{device="pi-1"}'] == 1
    assert told['edge_partition_device_cpu_ratio{device="pi-1"}'] == 0.5
    assert told['edge_partition_device_temperature_celsius{device="pi-1"}'] == 55
    assert told['edge_partition_device_memory_limit_bytes{device="pi-1"}'] == 512 * 1024 * 1024
    for name, value in (
        ("speed_bytes_per_second", 9_000_000),
        ("signal_dbm", -61),
        ("received_bytes_total", 7000),
        ("sent_bytes_total", 300),
    ):
        assert told[f'edge_partition_device_link_{name}{{device="pi-1"}}'] == value
    assert told[f"edge_partition_stage_requests_total{stage_0}"] == 60
    assert told[f"edge_partition_stage_invoke_seconds_count{stage_0}"] == 60
    assert told[f"edge_partition_stage_invoke_seconds_sum{stage_0}"] == pytest.approx(0.6)
    assert told['edge_partition_stage_planned_invoke_seconds{deployment="net",stage="0"}'] == 0.01
    expired = '{code="expired",deployment="net",device="pi-1",stage="0"}'
    assert told[f"edge_partition_stage_errors_total{expired}"] == 2
    assert all(math.isfinite(value) for value in told.values())


def test_without_a_connection_only_the_monitors_metrics_have_samples() -> None:
    told = samples(render(told_feed(*full(), connected=False)))
    assert told["edge_partition_broker_up"] == 0
    assert not [name for name in told if "device" in name or "stage" in name]


def test_promtool_finds_no_problems(promtool: str) -> None:
    check = [promtool, "check", "metrics"]
    for text in (render(told_feed(*full())), render(told_feed())):
        result = subprocess.run(check, input=text, capture_output=True, check=False, timeout=60)
        assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    wrong = b"# TYPE requests counter\nrequests 1\n"
    assert subprocess.run(check, input=wrong, capture_output=True, check=False).returncode
    rules = subprocess.run(
        [promtool, "check", "rules", RULES], capture_output=True, check=False, timeout=60
    )
    assert rules.returncode == 0, rules.stderr


def test_rules_and_dashboard_use_existing_metrics() -> None:
    exposed = {re.split(r"[{ ]", name)[0] for name in samples(render(told_feed(*full())))}
    exposed.add("edge_partition_alerts")  # There when there is one.
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    for text in (RULES.read_text(), *expressions):
        named = set(re.findall(r"edge_partition_\w+", text))
        assert named
        assert named <= exposed, named - exposed


def ask(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - a URL of our own
        return json.load(answer)


def test_a_real_prometheus_scrapes_and_its_rules_fire(promtool: str, tmp_path: Path) -> None:
    rules = tmp_path / "alerts.yml"
    rules.write_text(re.sub(r"for: \w+", "for: 1s", RULES.read_text()))
    with mosquitto_with_accounts(tmp_path, free_port()) as url, agent(url) as publisher:
        publish(publisher, manifest(0, ["pi-1"]), availability(0, "pi-1", b"online"))
        words = [Path(sys.executable).parent / "mqtt-monitor", "metrics", "--listen", "127.0.0.1:0"]
        monitor = subprocess.Popen([*words, "--broker", url], stdout=subprocess.PIPE)
        assert monitor.stdout is not None
        metrics_url = monitor.stdout.readline().decode().strip()
        configuration = tmp_path / "prometheus.yml"
        configuration.write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
            f"rule_files: [{rules}]\n"
            "scrape_configs:\n- job_name: edge-partition\n"
            f"  static_configs: [{{targets: ['{urllib.parse.urlsplit(metrics_url).netloc}']}}]\n"
        )
        port = free_port()
        log = (tmp_path / "prometheus.log").open("wb")
        server = subprocess.Popen(
            [
                Path(promtool).with_name("prometheus"),
                f"--config.file={configuration}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            base = f"http://127.0.0.1:{port}/api/v1"

            def result(query: str) -> list[str]:
                try:
                    found = ask(f"{base}/query?{urllib.parse.urlencode({'query': query})}")
                except OSError:
                    return []  # It starts.
                return [item["value"][1] for item in found["data"]["result"]]

            def firing() -> set[str]:
                return {
                    f"{item['labels']['alertname']}: {item['annotations']['summary']}"
                    for item in ask(f"{base}/alerts")["data"]["alerts"]
                    if item["state"] == "firing"
                }

            up = 'edge_partition_device_up{device="pi-1"}'
            wait_until(lambda: result(up) == ["1"], "a scrape")
            wait_until(lambda: firing() == set(), "the rules to be quiet")
            publish(publisher, availability(1, "pi-1", b"offline"))
            expected = {
                "BoardOffline: Board pi-1 is offline.",
                "DeploymentBroken: A stage of net has no board that serves it.",
            }
            wait_until(lambda: firing() == expected, f"{expected} to fire")
            publish(publisher, availability(2, "pi-1", b"online"))
            wait_until(lambda: firing() == set(), "the rules to be quiet again")
            # The board's clock is off, not this machine's: the rule uses the board's statistics.
            now_s = time.time() - START_S
            late = stats(now_s, "pi-1", 1, stage(0, 1), time_s=START_S + now_s + 7230)
            publish(publisher, late)
            told = "BoardClockOff: The clock of board pi-1 is 2h"
            wait_until(lambda: any(told in item for item in firing()), told)
        finally:
            server.terminate()
            server.wait(PATIENCE_S)
            monitor.terminate()
            assert monitor.wait(PATIENCE_S) == 0
            log.close()


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with mosquitto_with_accounts(tmp_path, port := free_port()) as url:
        words = [
            Path(sys.executable).parent / "mqtt-monitor",
            "metrics",
            "--listen",
            f"127.0.0.1:{port}",
        ]
        result = subprocess.run(
            [*words, "--broker", url], capture_output=True, text=True, check=False, timeout=60
        )
    assert result.returncode == 1
    assert f"Can't listen on 127.0.0.1:{port}: " in result.stderr.splitlines()[-1]


def test_a_feed_shows_the_state() -> None:
    """The feed of these tests shows what the state does."""
    assert told_feed(*full()).snapshot() == Watched().tell(*full()).at(11)
