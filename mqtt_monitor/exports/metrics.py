"""Turns snapshots into Prometheus metrics and serves them at ``/metrics``.

Each scrape takes a new snapshot. Names and units follow the Prometheus conventions (prometheus.io,
"Metric and label naming"): seconds, bytes, degrees Celsius, ratios, and ``_total`` for counters.
Labels name boards, deployments and stages, but never requests or clients, so the number of time
series is bounded. A metric has no sample for an unknown value. Without a connection to the broker,
only the monitor's own metrics have samples.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from mqtt_monitor.fleet.alerts import find_alerts
from mqtt_monitor.listen_error import ListenError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from wsgiref.simple_server import WSGIServer

    from mqtt_monitor.feeds.feed import Feed
    from mqtt_monitor.fleet.snapshot import Deployment, Device, Fleet, Load

PREFIX = "edge_partition"
_DEVICE = ("device",)
_DEPLOYMENT = ("deployment",)
_STAGE = ("deployment", "stage")
_BOARD_STAGE = ("deployment", "stage", "device")
_BYTES_PER_MBIT = 125_000


class FleetCollector(Collector):
    """A collector of ``prometheus_client`` for the metrics of a feed's present snapshot."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the feed's present snapshot."""
        return collect(self._feed.snapshot())

    def describe(self) -> list[Metric]:
        """Return an empty list, because the metrics depend on the fleet and are not known yet."""
        return []


def render(feed: Feed) -> bytes:
    """Return the response body of ``/metrics``."""
    return generate_latest(_registry(feed))


def serve_metrics(feed: Feed, host: str, port: int) -> WSGIServer:
    """Start an HTTP server that answers scrapes in threads of its own; return the server.

    The server's ``shutdown()`` ends the server.

    Args:
        feed: The feed whose metrics are served.
        host: Address to listen on, a name or an IP address.
        port: TCP port to listen on; 0: a free port.

    Raises:
        ListenError: The server cannot listen on the address.
    """
    try:
        server, _ = start_http_server(port, host, _registry(feed))
    except (OSError, OverflowError) as error:
        raise ListenError(host, port, error, "with --listen") from None
    return server


def _registry(feed: Feed) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(FleetCollector(feed))
    return registry


def collect(fleet: Fleet) -> Iterator[Metric]:
    """Yield a snapshot's metrics."""
    up = _gauge("broker_up", "1 while the monitor is connected to the broker, else 0.", ())
    up.add_metric((), float(fleet.broker.connected))
    yield up
    messages = _counter("monitor_messages", "Messages that the monitor received.", ("result",))
    for result, count in vars(fleet.messages).items():
        messages.add_metric((result,), count)
    yield messages
    alerts = _gauge("alerts", "Number of present alerts.", ("kind", "severity"))
    counts = Counter((alert.kind, alert.severity) for alert in find_alerts(fleet))
    for (kind, severity), count in counts.items():
        alerts.add_metric((kind, severity), count)
    yield alerts
    if not fleet.broker.connected:
        return
    yield from _device_metrics(list(fleet.devices.values()))
    yield from _stage_metrics(list(fleet.deployments.values()))


def _device_metrics(devices: list[Device]) -> Iterator[Metric]:
    info = _gauge(
        "device_info",
        "Versions and machine of a board, as labels; the value is always 1.",
        (*_DEVICE, "agent", "runtime", "machine"),
    )
    up = _gauge("device_up", "1 while a board is online, 0 while it is offline.", _DEVICE)
    restarts = _counter(
        "device_restarts", "Restarts of a board's agent that the monitor noticed.", _DEVICE
    )
    missed = _counter(
        "device_stats_missed", "Statistics messages of a board that were lost.", _DEVICE
    )
    last = _gauge(
        "device_last_stats_timestamp_seconds",
        "Unix time at which a board's last statistics arrived.",
        _DEVICE,
    )
    of_load: dict[str, GaugeMetricFamily | CounterMetricFamily] = {
        name: _gauge(f"device_{name}", text, _DEVICE)
        for name, text in (
            ("throttled", "1 while a board throttles its processor, else 0."),
            ("cpu_ratio", "CPU use of a board's agent; 1 is one full core."),
            ("temperature_celsius", "Temperature of a board's hottest sensor."),
            ("clock_offset_seconds", "A board's clock minus the monitor's clock."),
            ("memory_resident_bytes", "Resident memory of a board's agent."),
            ("memory_limit_bytes", "Memory limit of a board's agent."),
            ("memory_free_bytes", "Free memory of a board."),
            ("queued_requests", "Requests that wait on a board, for all its stages together."),
            ("link_speed_bytes_per_second", "Negotiated speed of a board's wired link."),
            ("link_signal_dbm", "Wi-Fi signal of a board; below -75 is weak."),
        )
    }
    of_load |= {
        name: _counter(f"device_{name}", text, _DEVICE)
        for name, text in (
            (
                "link_received_bytes",
                "Bytes that a board's network interface received, for all programs.",
            ),
            ("link_sent_bytes", "Bytes that a board's network interface sent, for all programs."),
        )
    }
    for device in devices:
        labels = (device.name,)
        if device.state != "unknown":
            up.add_metric(labels, float(device.state == "online"))
        restarts.add_metric(labels, device.restarts)
        missed.add_metric(labels, device.missed_stats)
        profile, load = device.profile, device.load
        if profile is not None:
            names = (profile.agent, profile.runtime, profile.machine)
            info.add_metric((*labels, *(name or "" for name in names)), 1)
        if load is None:
            continue
        last.add_metric(labels, load.at_s)
        for name, value in _figures(device, load) if device.fresh else ():
            if value is not None:
                of_load[name].add_metric(labels, value)
    yield from (info, up, restarts, missed, last, *of_load.values())


def _figures(device: Device, load: Load) -> list[tuple[str, float | None]]:
    """Return the name and the value of each metric of a board's load, in Prometheus' base units."""
    link = load.link
    figures = [
        ("throttled", load.throttled),
        ("cpu_ratio", _scaled(load.cpu_percent, 0.01)),
        ("temperature_celsius", load.temperature_c),
        ("clock_offset_seconds", device.clock_offset_s),
        ("memory_resident_bytes", load.rss_bytes),
        ("memory_limit_bytes", device.ram_limit_bytes),
        ("memory_free_bytes", device.free_memory_bytes),
        ("queued_requests", load.queue_length),
    ]
    if link is not None:
        figures += [
            ("link_speed_bytes_per_second", _scaled(link.speed_mbit_s, _BYTES_PER_MBIT)),
            ("link_signal_dbm", link.signal_dbm),
            ("link_received_bytes", link.received_bytes),
            ("link_sent_bytes", link.sent_bytes),
        ]
    return figures


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _stage_metrics(deployments: list[Deployment]) -> Iterator[Metric]:
    info = _gauge(
        "deployment_info",
        "Generation and model of a deployment, as labels; the value is always 1.",
        (*_DEPLOYMENT, "generation", "model"),
    )
    up = _gauge(
        "deployment_up", "1 while every stage has a board that serves it, else 0.", _DEPLOYMENT
    )
    planned = _gauge("stage_planned_invoke_seconds", "Planned time of one inference.", _STAGE)
    memory = _gauge(
        "stage_planned_memory_bytes", "Planned memory of an agent that serves the stage.", _STAGE
    )
    size = _gauge("stage_output_bytes", "Bytes that a stage sends for one request.", _STAGE)
    lost = _counter(
        "stage_lost_messages",
        "Messages that the previous stage sent and this stage did not receive.",
        _STAGE,
    )
    repeated = _counter(
        "stage_repeated_messages", "Messages that this stage received more than once.", _STAGE
    )
    serving = _gauge(
        "stage_serving", "1 while a board serves the stage's live generation, else 0.", _BOARD_STAGE
    )
    requests = _counter("stage_requests", "Requests that got a result.", _BOARD_STAGE)
    errors = _counter("stage_errors", "Requests that got an error.", (*_BOARD_STAGE, "code"))
    invoke = SummaryMetricFamily(
        f"{PREFIX}_stage_invoke_seconds", "Time of one inference.", labels=_BOARD_STAGE
    )
    queue = SummaryMetricFamily(
        f"{PREFIX}_stage_queue_seconds",
        "Time that a request waits on a board for its inference.",
        labels=_BOARD_STAGE,
    )
    for deployment in deployments:
        name = deployment.name
        info.add_metric((name, deployment.generation or "", deployment.model), 1)
        up.add_metric((name,), float(deployment.state == "live"))
        for stage in deployment.stages:
            labels = (name, str(stage.index))
            planned.add_metric(labels, stage.predicted_ms / 1000)
            memory.add_metric(labels, stage.predicted_ram_bytes)
            size.add_metric(labels, stage.output.request_bytes)
            if stage.index > 0:
                lost.add_metric(labels, stage.input.lost or 0)
                repeated.add_metric(labels, stage.input.repeated or 0)
            for board in stage.boards:
                where = (*labels, board.device)
                live = board.generation in {None, deployment.generation}
                if board.serves is not None:
                    serving.add_metric(where, float(board.serves and live))
                requests.add_metric(where, board.requests_total)
                invoke.add_metric(where, board.requests_total, board.invoke_seconds_total)
                queue.add_metric(where, board.requests_total, board.queue_seconds_total)
                for code, count in board.errors_total:
                    errors.add_metric((*where, code), count)
    yield from (info, up, planned, memory, size, lost, repeated)
    yield from (serving, requests, errors, invoke, queue)


def _gauge(name: str, text: str, labels: tuple[str, ...]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=labels)


def _counter(name: str, text: str, labels: tuple[str, ...]) -> CounterMetricFamily:
    return CounterMetricFamily(f"{PREFIX}_{name}", text, labels=labels)
