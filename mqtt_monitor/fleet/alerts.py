"""What somebody should look at, in plain words. Pure: a snapshot in, sentences out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mqtt_monitor.fleet.figures import mib
from mqtt_monitor.fleet.state import is_settled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mqtt_monitor.fleet.snapshot import BoardStage, Deployment, Device, Fleet, Load, Stage

Severity = Literal["critical", "warning"]

#: Memory counts as nearly used up within this share of its limit.
MEMORY_MARGIN = 0.10
#: A stage is slower than planned, and its memory larger, beyond this factor.
PLAN_FACTOR = 1.15
#: Below this a difference from the plan is the timer's, not the stage's.
_SLOWER_BY_MS = 0.5
#: Clocks that differ more make logs of several boards misleading, and certificates fail.
CLOCK_OFF_S = 2.0
#: A queue counts as growing from this length on.
_LONG_QUEUE = 8
_HALF_MINUTE = 6
#: An agent that has just come online loads its models before it tells how it fares.
_SILENT_S = 30.0


@dataclass(frozen=True)
class Alert:
    """One thing amiss.

    Attributes:
        kind: Which check found it; fixed words, for styles and counters.
        severity: ``critical``: requests fail; ``warning``: they may, or are slow.
        text: A sentence: what is, and what was expected.
        device: The board it is about.
        deployment: The deployment it is about.
        stage: The stage's index in that.
    """

    kind: str
    severity: Severity
    text: str
    device: str | None = None
    deployment: str | None = None
    stage: int | None = None


def find_alerts(fleet: Fleet) -> tuple[Alert, ...]:
    """Return what is amiss, critical things first."""
    if not fleet.broker.connected:
        why = f": {fleet.broker.reason}" if fleet.broker.reason else ""
        text = (
            f"Lost the connection to the broker at {fleet.broker.url}{why}; trying again. "
            "What is shown is as it was then."
        )
        return (Alert("broker-away", "critical", text),)
    found: list[Alert] = []
    dependents = _dependents(fleet)
    for device in fleet.devices.values():
        found += _of_device(device, fleet, dependents.get(device.name, []))
    for deployment in fleet.deployments.values():
        found += _of_deployment(deployment, fleet)
    if fleet.too_many:
        text = f"There are more {' and '.join(fleet.too_many)} than are shown here."
        found.append(Alert("too-many", "warning", text))
    return tuple(sorted(found, key=lambda alert: alert.severity != "critical"))


def _dependents(fleet: Fleet) -> dict[str, list[str]]:
    """Return for each board the deployments with a stage that has no other board that is up."""
    dependents: dict[str, list[str]] = {}
    for deployment in fleet.deployments.values():
        needed: set[str] = set()
        for stage in deployment.stages:
            online = {board.device for board in stage.boards if board.state == "online"}
            needed.update(name for name in stage.devices if online <= {name})
        for name in needed:
            dependents.setdefault(name, []).append(deployment.name)
    return dependents


def _of_device(device: Device, fleet: Fleet, dependents: list[str]) -> Iterator[Alert]:
    name = device.name
    if device.state == "offline":
        if dependents:
            text = f"Board {name} is offline; {', '.join(dependents)} can't do without it."
            yield Alert("offline", "critical", text, device=name)
        else:
            yield Alert("offline", "warning", f"Board {name} is offline.", device=name)
        return
    load = device.load
    if load is None or not device.fresh:
        silent_s = fleet.at_s - _last_word_s(device, fleet)
        if silent_s > _SILENT_S and device.state == "online":
            text = (
                f"Board {name} says it is online, but nothing of how it fares came for "
                f"{silent_s:.0f} s."
            )
            yield Alert("silent", "warning", text, device=name)
    else:
        for kind, sentence in (
            ("memory", _memory(device, load)),
            ("throttled", _throttled(device, load)),
            ("queue", _queue(device)),
            ("clock", _clock(device)),
        ):
            if sentence is not None:
                yield Alert(kind, "warning", sentence, device=name)


def _last_word_s(device: Device, fleet: Fleet) -> float:
    """Return when a board told how it fares, or since when it could have."""
    if device.load is not None:
        return device.load.at_s
    return max(device.since_s or 0.0, fleet.broker.since_s or 0.0)


def _of_deployment(deployment: Deployment, fleet: Fleet) -> Iterator[Alert]:
    name = deployment.name
    if deployment.problem is not None:
        yield Alert(
            "manifest",
            "warning",
            f"The newest manifest of {name} can't be read: {deployment.problem}",
            deployment=name,
        )
    settled = is_settled(deployment.since_s, fleet.at_s)
    for stage in deployment.stages:
        for board in stage.boards:
            if settled:
                yield from _of_generation(deployment, stage, board)
        slower = _slower(stage)
        if slower is not None:
            text = f"{name} stage {stage.index} on {'|'.join(stage.devices)} {slower}"
            yield Alert("slow", "warning", text, deployment=name, stage=stage.index)
        yield from _of_memory_plan(deployment, stage, fleet)
        if stage.index > 0:
            yield from _of_crossing(deployment, stage)


def _of_generation(deployment: Deployment, stage: Stage, board: BoardStage) -> Iterator[Alert]:
    what = f"{deployment.name} stage {stage.index}"
    if board.state == "unknown" and board.serves is None:
        kind, text = "missing", f"Board {board.device} should run {what} and was never heard of."
    elif board.serves is False:
        kind, text = "not-serving", f"Board {board.device} is up, but does not serve {what}."
    elif (
        board.serves and board.generation is not None and board.generation != deployment.generation
    ):
        kind = "generation"
        text = (
            f"Board {board.device} serves generation {board.generation} of {what}; live is "
            f"{deployment.generation}."
        )
    else:
        return
    yield Alert(kind, "critical", text, board.device, deployment.name, stage.index)


def _of_memory_plan(deployment: Deployment, stage: Stage, fleet: Fleet) -> Iterator[Alert]:
    """Find boards that serve this stage alone and take more memory than planned for it."""
    for name in stage.devices:
        device = fleet.devices.get(name)
        if device is None or not device.fresh or device.load is None or len(device.serves) != 1:
            continue
        rss_bytes, planned_bytes = device.load.rss_bytes, stage.predicted_ram_bytes
        if rss_bytes is not None and rss_bytes > PLAN_FACTOR * planned_bytes > 0:
            text = (
                f"Board {name} takes {mib(rss_bytes)} for {deployment.name} stage {stage.index}; "
                f"planned were {mib(planned_bytes)}."
            )
            yield Alert("memory-plan", "warning", text, name, deployment.name, stage.index)


def _of_crossing(deployment: Deployment, stage: Stage) -> Iterator[Alert]:
    for kind, count, done in (
        ("lost", stage.input.lost, "were lost"),
        ("repeated", stage.input.repeated, "arrived more than once"),
    ):
        if count:
            text = (
                f"{count:,} messages of {deployment.name} between stages {stage.index - 1} and "
                f"{stage.index} {done} since the monitor looks."
            )
            yield Alert(kind, "warning", text, deployment=deployment.name, stage=stage.index)


def _memory(device: Device, load: Load) -> str | None:
    rss_bytes = load.rss_bytes
    limit_bytes = device.ram_limit_bytes
    if limit_bytes and rss_bytes is not None and rss_bytes > (1 - MEMORY_MARGIN) * limit_bytes:
        return (
            f"Board {device.name}'s agent takes {mib(rss_bytes)} of the {mib(limit_bytes)} it "
            "may use."
        )
    total_bytes = device.profile.total_memory_bytes if device.profile else None
    free_bytes = device.free_memory_bytes
    if total_bytes and free_bytes is not None and free_bytes < MEMORY_MARGIN * total_bytes:
        return f"Board {device.name} has {mib(free_bytes)} free of {mib(total_bytes)}."
    return None


def _throttled(device: Device, load: Load) -> str | None:
    if not load.throttled:
        return None
    heat = f" at {load.temperature_c:.0f} °C" if load.temperature_c is not None else ""
    return f"Board {device.name} slows its processor down{heat}: cool it."


def _queue(device: Device) -> str | None:
    """Tell of a queue whose later quarter of a minute is all above the earlier."""
    lengths = device.queue_lengths
    if len(lengths) < _HALF_MINUTE or lengths[-1] < _LONG_QUEUE:
        return None
    half = _HALF_MINUTE // 2
    if min(lengths[half:]) <= max(lengths[:half]):
        return None
    return (
        f"Board {device.name}'s queue grows: {lengths[-1]} requests wait, half a minute ago "
        f"{lengths[0]}."
    )


def _clock(device: Device) -> str | None:
    offset_s = device.clock_offset_s
    if offset_s is None or abs(offset_s) <= CLOCK_OFF_S:
        return None
    direction = "ahead of" if offset_s > 0 else "behind"
    return f"Board {device.name}'s clock is {_duration(abs(offset_s))} {direction} this machine's."


def _slower(stage: Stage) -> str | None:
    measured_ms, planned_ms = stage.invoke_minute_ms, stage.predicted_ms
    if measured_ms is None or planned_ms <= 0:
        return None
    if measured_ms <= PLAN_FACTOR * planned_ms or measured_ms - planned_ms < _SLOWER_BY_MS:
        return None
    return (
        f"takes {measured_ms:.1f} ms; planned were {planned_ms:.1f} ms "
        f"({measured_ms / planned_ms - 1:+.0%})."
    )


def _duration(seconds: float) -> str:
    minute_s, hour_s, day_s = 60, 3600, 86400
    if seconds < 2 * minute_s:
        return f"{seconds:.1f} s"
    if seconds < 2 * hour_s:
        return f"{seconds / minute_s:.0f} minutes"
    if seconds < 2 * day_s:
        return f"{seconds / hour_s:.0f} hours"
    return f"{seconds / day_s:.0f} days"
