"""Describes a board, a deployment or a stage in detail, as text.

Pure, apart from reading a feed's history.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.text import Text

from mqtt_monitor.fleet.alerts import find_alerts
from mqtt_monitor.fleet.figures import MIB, duration, mib, number
from mqtt_monitor.fleet.levels import compare_time
from mqtt_monitor.terminal.board_rows import board_rows
from mqtt_monitor.terminal.columns import BAD, DOUBTFUL, TITLE, kilobytes
from mqtt_monitor.terminal.stage_rows import count_errors, stage_state

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mqtt_monitor.feeds.feed import Feed, Points
    from mqtt_monitor.fleet.alerts import Alert
    from mqtt_monitor.fleet.snapshot import (
        BoardStage,
        Boundary,
        Deployment,
        Device,
        Event,
        Fleet,
        Link,
        Profile,
        Request,
    )

#: Width of a bar in the chart of the last hour, in seconds. 24 bars fit beside a label and a value
#: in 80 columns.
_STEP_S = 150.0
_BARS = "▁▂▃▄▅▆▇█"
_LABEL_WIDTH = 12
_VALUE_WIDTH = 25
_SHOWN_REQUESTS = 8


def describe_board(feed: Feed, fleet: Fleet, name: str) -> Text:
    """Return a text with all values, alerts and events of a board."""
    row = next((row for row in board_rows(fleet) if row.device.name == name), None)
    if row is None:
        return Text(f"Board {name} is no longer in the fleet.")
    device, load = row.device, row.device.load
    text = Text(f"Board {name}\n\n", TITLE)
    state = row.state
    since = f" since {clock(device.since_s)}" if device.since_s is not None else ""
    _line(text, "state", f"{state}{since}", "" if state == "online" else BAD)
    if device.profile is not None:
        _machine(text, device.profile)
    if load is not None:
        age = "" if device.fresh else f" (as of {clock(load.at_s)})"
        up = f"up {duration(load.uptime_s)}, " if load.uptime_s is not None else ""
        _line(text, "agent", f"{up}restarts seen: {device.restarts:,}{age}")
        history = _history(feed.device_history(name, "cpu_percent", _STEP_S))
        _line(text, "CPU", f"{number(load.cpu_percent)} % of one core", history=history)
        throttled = ", throttled" if load.throttled else ""
        history = _history(feed.device_history(name, "temperature_c", _STEP_S))
        heat = "not reported" if load.temperature_c is None else f"{load.temperature_c:.0f} °C"
        style = BAD if load.throttled else ""
        _line(text, "temperature", heat + throttled, style, history=history)
        if load.clock_mhz is not None:
            _line(text, "clock speed", f"{load.clock_mhz:,.0f} MHz")
        limit = f" of {mib(device.ram_limit_bytes)}" if device.ram_limit_bytes else ", no limit"
        history = _history(feed.device_history(name, "rss_bytes", _STEP_S), MIB)
        _line(text, "memory", f"{mib(load.rss_bytes)}{limit}", history=history)
    total = device.profile.total_memory_bytes if device.profile else None
    if device.free_memory_bytes is not None:
        of = f" of {mib(total)}" if total is not None else ""
        _line(text, "free memory", f"{mib(device.free_memory_bytes)}{of} on the board")
    if load is not None:
        history = _history(feed.device_history(name, "queue_length", _STEP_S))
        _line(text, "queue", f"{number(load.queue_length)} requests", history=history)
    _line(
        text,
        "tensors",
        f"{kilobytes(row.in_bytes_per_s)} kB/s in, {kilobytes(row.out_bytes_per_s)} kB/s out",
    )
    if load is not None and load.link is not None:
        _line(text, "link", _link(load.link))
    if device.clock_offset_s is not None:
        offset = f"{round(device.clock_offset_s, 1) + 0.0:+.1f} s from the monitor's clock"
        _line(text, "clock", offset)
    _line(text, "statistics", f"{device.missed_stats:,} messages lost")
    _served(text, device, fleet)
    _refused(text, device)
    _alerts(text, (alert for alert in find_alerts(fleet) if alert.device == name))
    _events(text, (event for event in fleet.events if event.device == name))
    return text


def _machine(text: Text, profile: Profile) -> None:
    cores = f"{profile.cores} cores" if profile.cores else None
    threads = f"{profile.threads} threads used" if profile.threads else None
    for label, parts in (
        ("processor", (profile.cpu_model, profile.machine, cores, threads)),
        ("system", (profile.system,)),
        ("software", (_version("agent", profile.agent), _version("Python", profile.python))),
        ("runtime", (profile.runtime,)),
    ):
        _line(text, label, ", ".join(part for part in parts if part) or "not reported")


def _version(what: str, version: str | None) -> str | None:
    return f"{what} {version}" if version else None


def _served(text: Text, device: Device, fleet: Fleet) -> None:
    _heading(text, "Serves")
    if not device.serves:
        text.append("no stage reported\n")
    for served in device.serves:
        deployment = fleet.deployments.get(served.deployment)
        generation = f", generation {served.generation}" if served.generation else ""
        text.append(f"{served.deployment} stage {served.stage}{generation}\n")
        for stage in deployment.stages if deployment else ():
            if stage.index == served.stage:
                for board in stage.boards:
                    if board.device == device.name:
                        text.append(f"  {_measured(board)}\n")


def _link(link: Link) -> str:
    parts = [link.interface]
    if link.speed_mbit_s is not None:
        parts.append(f"{link.speed_mbit_s:,.0f} Mbit/s")
    if link.signal_dbm is not None:
        parts.append(f"signal {link.signal_dbm:.0f} dBm")
    moved = f"{kilobytes(link.in_bytes_per_s)} kB/s in, {kilobytes(link.out_bytes_per_s)} kB/s out"
    return f"{', '.join(parts)}; {moved}, all programs"


def _refused(text: Text, device: Device) -> None:
    for number_, refusal in enumerate(device.refusals):
        if number_ == 0:
            _heading(text, "Refused")
        generation = f", generation {refusal.generation}" if refusal.generation else ""
        text.append(f"{clock(refusal.at_s)}  {refusal.deployment}{generation}\n")
        text.append(f"  {refusal.reason} ({refusal.code})\n")


def describe_stage(feed: Feed, fleet: Fleet, name: str, index: int) -> Text:
    """Return a text with all values and alerts of a stage."""
    deployment = fleet.deployments.get(name)
    if deployment is None or index >= len(deployment.stages):
        return Text(f"{name} stage {index} is no longer deployed.")
    stage = deployment.stages[index]
    text = Text(f"{name} stage {index}, of {len(deployment.stages)}", TITLE)
    text.append(" (bottleneck)\n\n" if deployment.is_bottleneck(stage) else "\n\n")
    _line(text, "state", *stage_state(stage))
    _line(text, "boards", ", ".join(stage.devices))
    _line(text, "file", f"{stage.size_bytes / MIB:,.2f} MiB")
    _line(
        text,
        "planned",
        f"inference {stage.predicted_ms:,.2f} ms, memory {mib(stage.predicted_ram_bytes)}",
    )

    def line(label: str, value: str, figure: str) -> None:
        points = feed.stage_history(name, index, figure, _STEP_S)
        _line(text, label, value, history=_history(points))

    line("requests", f"{number(stage.requests_per_s, 1)}/s", "requests_per_s")
    line("inference", f"{number(stage.invoke_ms, 2)} ms", "invoke_ms")
    difference = compare_time(stage).difference
    if stage.invoke_minute_ms is not None and difference is not None:
        minute = f"{stage.invoke_minute_ms:,.2f} ms in the last minute"
        _line(text, "", f"{minute}, {difference:+.0%} against the plan")
    line("waiting", f"{number(stage.queue_ms, 2)} ms", "queue_ms")
    errors = f"{count_errors(stage):,}, {number(stage.errors_per_s, 1)}/s"
    line("errors", errors, "errors_per_s")
    _heading(text, "Receives")
    _boundary(text, stage.input)
    _heading(text, "Sends")
    _boundary(text, stage.output)
    _heading(text, "Boards")
    for board in stage.boards:
        text.append(f"{board.device}: {board.state}", "" if board.state == "online" else BAD)
        text.append(f", {_serves(board)}\n  {_measured(board)}\n")
        if board.errors_total:
            codes = ", ".join(f"{count:,} {code}" for code, count in board.errors_total)
            text.append(f"  errors: {codes}\n")
    if stage.contents:
        _heading(text, "Layers")
        for line_ in stage.contents:
            text.append(f"{line_}\n")
        if stage.more_layers:
            text.append(f"and {stage.more_layers:,} more\n")
    alerts = find_alerts(fleet)
    _alerts(text, (item for item in alerts if (item.deployment, item.stage) == (name, index)))
    return text


def _serves(board: BoardStage) -> str:
    if board.serves is None:
        return "no recent statistics"
    generation = f" generation {board.generation}" if board.generation else ""
    return f"serves{generation}" if board.serves else "does not serve the stage"


def _measured(board: BoardStage) -> str:
    return (
        f"{number(board.requests_per_s, 1)} requests/s, {board.requests_total:,} in total\n"
        f"  inference {number(board.invoke_ms, 2)} ms (max {number(board.invoke_max_ms, 2)}), "
        f"waiting {number(board.queue_ms, 2)} ms (max {number(board.queue_max_ms, 2)})"
    )


def _boundary(text: Text, boundary: Boundary) -> None:
    rate = kilobytes(boundary.bytes_per_s)
    text.append(f"{kilobytes(boundary.request_bytes)} kB per request, {rate} kB/s\n")
    for tensor in boundary.tensors:
        text.append(f"  {tensor}\n")
    if boundary.lost is not None or boundary.repeated is not None:
        text.append(
            f"  messages lost: {number(boundary.lost)}, repeated: {number(boundary.repeated)}\n"
        )


def describe_deployment(fleet: Fleet, name: str) -> Text:
    """Return a text with all values, recent requests, alerts and events of a deployment."""
    deployment = fleet.deployments.get(name)
    if deployment is None:
        return Text(f"{name} is no longer deployed.")
    text = Text(f"Deployment {name}\n\n", TITLE)
    since = f" since {clock(deployment.since_s)}" if deployment.since_s is not None else ""
    state = deployment.state
    _line(text, "state", f"{state}{since}", "" if state == "live" else BAD)
    if deployment.problem is not None:
        _line(text, "problem", deployment.problem, DOUBTFUL)
    _line(text, "generation", deployment.generation or "unknown")
    _line(text, "model", deployment.model)
    _line(text, "quantization", deployment.quantization)
    _line(text, "weights", deployment.weights)
    _line(text, "wire", deployment.wire)
    _line(text, "results", f"{number(deployment.requests_per_s, 1)}/s")
    _stages(text, deployment)
    _heading(text, "Recent requests: for each stage, waiting + inference in ms")
    requests = [item for item in fleet.requests if item.deployment == name][-_SHOWN_REQUESTS:]
    if not requests:
        text.append("none yet; the monitor samples some results while this screen is open\n")
    for request in reversed(requests):
        _request(text, request)
    _alerts(text, (alert for alert in find_alerts(fleet) if alert.deployment == name))
    _events(text, (event for event in fleet.events if event.deployment == name))
    return text


def _stages(text: Text, deployment: Deployment) -> None:
    _heading(text, "Stages")
    for stage in deployment.stages:
        bottleneck = ", bottleneck" if deployment.is_bottleneck(stage) else ""
        text.append(
            f"{stage.index} on {', '.join(stage.devices)}: {number(stage.invoke_ms, 2)} ms, "
            f"planned {stage.predicted_ms:,.2f}, "
            f"sends {kilobytes(stage.output.request_bytes)} kB{bottleneck}\n"
        )


def _request(text: Text, request: Request) -> None:
    parts = [f"{clock(request.at_s)}"]
    if request.latency_ms is not None:
        parts.append(f"{request.latency_ms:,.1f} ms:")
    parts += [
        f"{stage.stage}: {stage.queue_ms:,.1f}+{stage.invoke_ms:,.1f}" for stage in request.stages
    ]
    if request.latency_ms is not None:
        parts.append(f"rest {max(0.0, request.latency_ms - request.stages_ms):,.1f}")
    text.append("  ".join(parts))
    if request.error is not None:
        text.append(f"  error {request.error}: {request.reason or ''}", BAD)
    text.append("\n")


def describe_news(fleet: Fleet) -> Text:
    """Return a text with all alerts and all events."""
    text = Text()
    alerts = find_alerts(fleet)
    _alerts(text, alerts)
    if not alerts:
        text.append("No alerts.\n")
    _events(text, fleet.events)
    return text


def alert_line(alert: Alert) -> Text:
    """Return an alert as one line of text: its severity and its sentence."""
    style = "white on red" if alert.severity == "critical" else "black on yellow"
    return Text.assemble((f" {alert.severity} ", style), " ", alert.text)


def _alerts(text: Text, alerts: Iterable[Alert]) -> None:
    for number_, alert in enumerate(alerts):
        if number_ == 0:
            _heading(text, "Alerts")
        text.append_text(alert_line(alert)).append("\n")


def _events(text: Text, events: Iterable[Event]) -> None:
    for number_, event in enumerate(reversed(tuple(events))):
        if number_ == 0:
            _heading(text, "Events, newest first")
        text.append(f"{clock(event.at_s)}  {event.text}\n")


def _heading(text: Text, title: str) -> None:
    text.append(f"\n{title}\n" if text.plain else f"{title}\n", TITLE)


def _line(text: Text, label: str, value: str, style: str = "", *, history: str = "") -> None:
    text.append(f"{label:<{_LABEL_WIDTH}} ")
    text.append(value, style)
    if history:
        below = len(value) > _VALUE_WIDTH
        indent = _LABEL_WIDTH + _VALUE_WIDTH + 2 if below else _VALUE_WIDTH + 1 - len(value)
        text.append(("\n" if below else "") + " " * indent + history)
    text.append("\n")


def _history(points: Points, unit: float = 1) -> str:
    """Return a bar chart of the values, one character for each value, and the largest value.

    The height of a bar is proportional to the value. The result is empty if no value is above 0.

    Args:
        points: The values, from a feed's history.
        unit: The largest value is shown in this unit, such as ``MIB`` for values in bytes.
    """
    known = [value for _, value in points if value is not None]
    if not known or max(known) <= 0:
        return ""
    top = max(known)
    bars = "".join(
        " " if value is None else _BARS[min(len(_BARS) - 1, int(max(value, 0) / top * len(_BARS)))]
        for _, value in points
    )
    largest = top / unit
    few = 10
    return f"{bars} max {largest:,.{1 if largest < few else 0}f}"


def clock(time_s: float | None) -> str:
    """Return the local time of day; ``-`` for None."""
    return "-" if time_s is None else time.strftime("%H:%M:%S", time.localtime(time_s))
