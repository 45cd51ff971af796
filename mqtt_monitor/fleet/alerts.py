"""Finds the problems that a snapshot of the fleet shows; describes each in a sentence. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mqtt_monitor.fleet.figures import duration, mib
from mqtt_monitor.fleet.levels import is_above_plan, is_near_limit
from mqtt_monitor.fleet.thresholds import (
    CLOCK_OFF_S,
    LONG_QUEUE,
    MEMORY_MARGIN,
    QUEUE_SAMPLES,
    SILENT_S,
    SLOWER_BY_MS,
    is_settled,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mqtt_monitor.fleet.snapshot import BoardStage, Deployment, Device, Fleet, Load, Stage

Severity = Literal["critical", "warning"]


@dataclass(frozen=True)
class Alert:
    """A problem in the fleet.

    Attributes:
        kind: Fixed identifier of the check that found the problem.
        severity: ``critical``: requests fail; ``warning``: requests may fail or are slow.
        text: The problem as a sentence, with the actual and the expected value if there are any.
        device: Name of the board with the problem; None: the problem is not about one board.
        deployment: Name of the deployment with the problem; None: the problem is not about one
            deployment.
        stage: Index of the stage with the problem; None: the problem is not about one stage.
    """

    kind: str
    severity: Severity
    text: str
    device: str | None = None
    deployment: str | None = None
    stage: int | None = None


def find_alerts(fleet: Fleet) -> tuple[Alert, ...]:
    """Return the alerts of a snapshot; critical alerts come first.

    While the monitor has no connection to the broker, the lost connection is the only alert.
    """
    if not fleet.broker.connected:
        why = f": {fleet.broker.reason}" if fleet.broker.reason else ""
        text = (
            f"Lost the connection to the broker at {fleet.broker.url}{why}. Reconnecting. "
            "All values are from the moment of the disconnection."
        )
        return (Alert("broker-away", "critical", text),)
    found: list[Alert] = []
    dependents = _dependents(fleet)
    for device in fleet.devices.values():
        found += _board_alerts(device, fleet, dependents.get(device.name, []))
    for deployment in fleet.deployments.values():
        found += _deployment_alerts(deployment, fleet)
    if fleet.too_many:
        text = f"The fleet has more {' and '.join(fleet.too_many)} than the monitor can show."
        found.append(Alert("too-many", "warning", text))
    return tuple(sorted(found, key=lambda alert: alert.severity != "critical"))


def _dependents(fleet: Fleet) -> dict[str, list[str]]:
    """Return, for each board's name, the names of the deployments that need the board.

    A deployment needs a board if no other board of the same stage is online.
    """
    dependents: dict[str, list[str]] = {}
    for deployment in fleet.deployments.values():
        needed: set[str] = set()
        for stage in deployment.stages:
            online = {board.device for board in stage.boards if board.state == "online"}
            needed.update(name for name in stage.devices if online <= {name})
        for name in needed:
            dependents.setdefault(name, []).append(deployment.name)
    return dependents


def _board_alerts(device: Device, fleet: Fleet, dependents: list[str]) -> Iterator[Alert]:
    name = device.name
    if device.state == "offline":
        if not dependents:
            yield Alert("offline", "warning", f"Board {name} is offline.", device=name)
            return
        one = len(dependents) == 1
        names = ", ".join(dependents)
        needed_by = f"deployment {names} needs" if one else f"deployments {names} need"
        text = f"Board {name} is offline; {needed_by} this board."
        yield Alert("offline", "critical", text, device=name)
        return
    load = device.load
    if load is None or not device.fresh:
        silent_s = fleet.at_s - _last_statistics_s(device, fleet)
        if silent_s > SILENT_S and device.state == "online":
            text = f"Board {name} is online but has sent no statistics for {silent_s:.0f} s."
            yield Alert("silent", "warning", text, device=name)
        return
    for kind, sentence in (
        ("memory", _memory(device, load)),
        ("throttled", _throttled(device, load)),
        ("queue", _queue(device)),
        ("clock", _clock(device)),
    ):
        if sentence is not None:
            yield Alert(kind, "warning", sentence, device=name)


def _last_statistics_s(device: Device, fleet: Fleet) -> float:
    """Return when a board's last statistics arrived, in seconds since the epoch.

    If no statistics have arrived, return the time at which the monitor began to wait for them.
    """
    if device.load is not None:
        return device.load.at_s
    return max(device.since_s or 0.0, fleet.broker.since_s or 0.0)


def _deployment_alerts(deployment: Deployment, fleet: Fleet) -> Iterator[Alert]:
    name = deployment.name
    if deployment.problem is not None:
        text = f"The newest manifest of deployment {name} can't be read: {deployment.problem}"
        yield Alert("manifest", "warning", text, deployment=name)
    settled = is_settled(deployment.since_s, fleet.at_s)
    for stage in deployment.stages:
        for board in stage.boards:
            if settled:
                yield from _generation_alerts(deployment, stage, board)
        slower = _slower(stage)
        if slower is not None:
            text = f"{name} stage {stage.index} on {', '.join(stage.devices)} {slower}"
            yield Alert("slow", "warning", text, deployment=name, stage=stage.index)
        yield from _planned_memory_alerts(deployment, stage, fleet)
        if stage.index > 0:
            yield from _message_alerts(deployment, stage)


def _generation_alerts(deployment: Deployment, stage: Stage, board: BoardStage) -> Iterator[Alert]:
    what = f"{deployment.name} stage {stage.index}"
    if board.state == "unknown" and board.serves is None:
        kind = "missing"
        text = f"Board {board.device} should serve {what} but has never connected."
    elif board.serves is False:
        kind = "not-serving"
        text = f"Board {board.device} is online but does not serve {what}."
    elif (
        board.serves and board.generation is not None and board.generation != deployment.generation
    ):
        kind = "generation"
        text = (
            f"Board {board.device} serves generation {board.generation} of {what}; the live "
            f"generation is {deployment.generation}."
        )
    else:
        return
    yield Alert(kind, "critical", text, board.device, deployment.name, stage.index)


def _planned_memory_alerts(deployment: Deployment, stage: Stage, fleet: Fleet) -> Iterator[Alert]:
    """Yield an alert for each board of ``stage`` that uses more memory than planned.

    Boards that also serve other stages are left out.
    """
    for name in stage.devices:
        device = fleet.devices.get(name)
        if device is None or not device.fresh or device.load is None or len(device.serves) != 1:
            continue
        rss_bytes, planned_bytes = device.load.rss_bytes, stage.predicted_ram_bytes
        if rss_bytes is not None and is_above_plan(rss_bytes, planned_bytes):
            text = (
                f"The agent on board {name} uses {mib(rss_bytes)} of memory for {deployment.name} "
                f"stage {stage.index}; the plan says {mib(planned_bytes)}."
            )
            yield Alert("memory-plan", "warning", text, name, deployment.name, stage.index)


def _message_alerts(deployment: Deployment, stage: Stage) -> Iterator[Alert]:
    for kind, count, what in (
        ("lost", stage.input.lost, "were lost"),
        ("repeated", stage.input.repeated, "arrived more than once"),
    ):
        if count:
            text = (
                f"{count:,} messages of {deployment.name} between stages {stage.index - 1} and "
                f"{stage.index} {what} since the monitor started."
            )
            yield Alert(kind, "warning", text, deployment=deployment.name, stage=stage.index)


def _memory(device: Device, load: Load) -> str | None:
    name = device.name
    if is_near_limit(device):
        limit_bytes = device.ram_limit_bytes
        return (
            f"The agent on board {name} uses {mib(load.rss_bytes)} of memory; its limit is "
            f"{mib(limit_bytes)}."
        )
    total_bytes = device.profile.total_memory_bytes if device.profile else None
    free_bytes = device.free_memory_bytes
    if total_bytes and free_bytes is not None and free_bytes < MEMORY_MARGIN * total_bytes:
        return f"Board {name} has only {mib(free_bytes)} of memory free, of {mib(total_bytes)}."
    return None


def _throttled(device: Device, load: Load) -> str | None:
    if not load.throttled:
        return None
    at = f" at {load.temperature_c:.0f} °C" if load.temperature_c is not None else ""
    return (
        f"Board {device.name} throttles its processor{at}; check its cooling and its power supply."
    )


def _queue(device: Device) -> str | None:
    """Return a sentence if a board's queue grows; None: the queue does not grow.

    The queue grows if it is long and each of the newest three lengths exceeds all older lengths.
    """
    lengths = device.queue_lengths
    if len(lengths) < QUEUE_SAMPLES or lengths[-1] < LONG_QUEUE:
        return None
    half = QUEUE_SAMPLES // 2
    if min(lengths[half:]) <= max(lengths[:half]):
        return None
    return (
        f"The queue of board {device.name} grows: {lengths[-1]} requests wait now, "
        f"{lengths[0]} waited half a minute ago."
    )


def _clock(device: Device) -> str | None:
    offset_s = device.clock_offset_s
    if offset_s is None or abs(offset_s) <= CLOCK_OFF_S:
        return None
    direction = "ahead of" if offset_s > 0 else "behind"
    off = duration(abs(offset_s), digits=1)
    return f"The clock of board {device.name} is {off} {direction} the monitor's clock."


def _slower(stage: Stage) -> str | None:
    measured_ms, planned_ms = stage.invoke_minute_ms, stage.predicted_ms
    if measured_ms is None or not is_above_plan(measured_ms, planned_ms):
        return None
    if measured_ms - planned_ms < SLOWER_BY_MS:
        return None
    return (
        f"takes {measured_ms:.1f} ms per inference; the plan says {planned_ms:.1f} ms "
        f"({measured_ms / planned_ms - 1:+.0%})."
    )
