"""Decides which values a front end highlights: memory near its limit, differences from the plan.

Pure. Alerts, the terminal and the web page's JSON document all use these functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mqtt_monitor.fleet.thresholds import MEMORY_MARGIN, PLAN_MARGIN

if TYPE_CHECKING:
    from mqtt_monitor.fleet.snapshot import BoardStage, Device, Stage

Level = Literal["above", "within", "below"]


@dataclass(frozen=True)
class Comparison:
    """A measured value and its difference from the plan.

    Attributes:
        measured: The measured value; None: not measured.
        difference: Relative difference from the plan: 0.25 means 25 % more than planned. None: not
            measured, not planned, or not comparable.
        level: ``above``: more than the plan by more than ``PLAN_MARGIN``; ``below``: less than the
            plan by more than ``PLAN_MARGIN``; ``within``: neither of these; None: ``difference`` is
            None.
    """

    measured: float | None
    difference: float | None
    level: Level | None


def compare_time(stage: Stage) -> Comparison:
    """Compare a stage's inference time, in milliseconds, with the plan.

    The measured time is the mean of the last minute. If that mean is unknown, the measured time is
    ``stage.invoke_ms``.
    """
    minute_ms = stage.invoke_minute_ms
    measured_ms = stage.invoke_ms if minute_ms is None else minute_ms
    return _compare(measured_ms, stage.predicted_ms)


def compare_memory(stage: Stage) -> Comparison:
    """Compare a stage's measured memory, in bytes, with the plan.

    The measured memory is the largest resident memory among the agents that serve the stage. If any
    of these agents serves several stages, its memory cannot be compared with the plan of one stage.
    """
    if stage.shares_memory:
        return Comparison(stage.rss_bytes, None, None)
    return _compare(stage.rss_bytes, stage.predicted_ram_bytes)


def _compare(measured: float | None, planned: float) -> Comparison:
    if measured is None or planned <= 0:
        return Comparison(measured, None, None)
    difference = measured / planned - 1
    if is_above_plan(measured, planned):
        return Comparison(measured, difference, "above")
    return Comparison(measured, difference, "below" if difference < -PLAN_MARGIN else "within")


def is_above_plan(measured: float, planned: float) -> bool:
    """Return whether a measured value exceeds the planned value by more than ``PLAN_MARGIN``."""
    return measured > (1 + PLAN_MARGIN) * planned > 0


def limit_share(device: Device) -> float | None:
    """Return an agent's resident memory divided by the agent's memory limit.

    Return None if the agent has no limit or no recent statistics.
    """
    limit_bytes, load = device.ram_limit_bytes, device.load
    if not limit_bytes or not device.fresh or load is None or load.rss_bytes is None:
        return None
    return load.rss_bytes / limit_bytes


def is_near_limit(device: Device) -> bool:
    """Return whether less than the share ``MEMORY_MARGIN`` of an agent's memory limit is left."""
    share = limit_share(device)
    return share is not None and share > 1 - MEMORY_MARGIN


def tensor_rates(stage: Stage, board: BoardStage) -> tuple[float | None, float | None]:
    """Return the traffic of a stage on one board, in payload bytes per second.

    Returns:
        The received and the sent bytes per second; both None: no recent statistics.
    """
    per_s = board.requests_per_s
    if per_s is None:
        return None, None
    return per_s * stage.input.request_bytes, per_s * stage.output.request_bytes
