"""Deployments as rows, each followed by its stages in order. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mqtt_monitor.fleet.figures import number
from mqtt_monitor.terminal.columns import (
    BAD,
    DOUBTFUL,
    TITLE,
    Cell,
    Column,
    arranged,
    kilobytes,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mqtt_monitor.fleet.snapshot import Deployment, Fleet, Stage

_STYLES = {"live": "", "broken": BAD, "unreadable": DOUBTFUL}
_ORDER = ("broken", "unreadable", "live")


@dataclass(frozen=True)
class StageRow:
    """A deployment, or one of its stages."""

    deployment: Deployment
    stage: Stage | None

    @property
    def key(self) -> str:
        """What tells it from other rows."""
        name = self.deployment.name
        return name if self.stage is None else f"{name}/{self.stage.index}"


#: Deployments are sorted; their stages stay in order.
COLUMNS: tuple[Column[Deployment], ...] = (
    Column("stage", lambda item: item.name, largest_first=False, width=8, right=False),
    Column(
        "state", lambda item: _ORDER.index(item.state), largest_first=False, width=6, right=False
    ),
    Column("on", lambda item: item.model, largest_first=False, width=8, right=False),
    Column("req/s", lambda item: item.requests_per_s, width=6),
    Column("invoke", lambda item: _worst(item, lambda stage: stage.invoke_ms), width=7),
    Column("planned", lambda item: _worst(item, lambda stage: stage.predicted_ms), width=7),
    Column("queue", lambda item: _worst(item, lambda stage: stage.queue_ms), width=6),
    Column("kB/s", lambda item: _worst(item, lambda stage: stage.output.bytes_per_s), width=6),
    Column("errors", lambda item: sum(map(count_errors, item.stages)), width=6),
)


def stage_rows(fleet: Fleet, column: Column[Deployment], *, reverse: bool) -> list[StageRow]:
    """Return the deployments, sorted, each with its stages."""
    rows: list[StageRow] = []
    for deployment in arranged(fleet.deployments.values(), column, reverse=reverse):
        rows.append(StageRow(deployment, None))
        rows += [StageRow(deployment, stage) for stage in deployment.stages]
    return rows


def stage_cells(row: StageRow) -> tuple[Cell, ...]:
    """Return a row's cells, one for each of ``COLUMNS``."""
    if row.stage is None:
        return _deployment_cells(row.deployment)
    stage, pace = row.stage, row.deployment.bottleneck
    mark = "*" if pace == stage.index and len(row.deployment.stages) > 1 else " "
    errors = count_errors(stage)
    return (
        (f" {mark}{stage.index}", ""),
        serving(stage),
        ("|".join(stage.devices), ""),
        (number(stage.requests_per_s, 1), ""),
        (number(stage.invoke_ms, 2), ""),
        (number(stage.predicted_ms, 2), ""),
        (number(stage.queue_ms, 2), ""),
        (kilobytes(stage.output.bytes_per_s), ""),
        (f"{errors:,}", BAD if stage.errors_per_s else ""),
    )


def _deployment_cells(item: Deployment) -> tuple[Cell, ...]:
    errors = sum(map(count_errors, item.stages))
    return (
        (item.name, TITLE),
        (item.state, _STYLES[item.state]),
        (item.model, ""),
        (number(item.requests_per_s, 1), ""),
        *((("", ""),) * 4),
        (f"{errors:,}", ""),
    )


def serving(stage: Stage) -> Cell:
    """Return how many of a stage's boards serve it, in words."""
    up = [board.state != "offline" and board.serves is not False for board in stage.boards]
    if not any(up):
        return ("down", BAD)
    if not all(up):
        return (f"{sum(up)} of {len(up)}", DOUBTFUL)
    if all(board.serves is None for board in stage.boards):
        # No recent statistics: nobody says that it serves, nobody that it doesn't.
        return ("-", "")
    return ("serves", "")


def count_errors(stage: Stage) -> int:
    """Return the requests that a stage answered with an error."""
    return sum(count for board in stage.boards for _, count in board.errors_total)


def _worst(item: Deployment, figure: Callable[[Stage], float | None]) -> float | None:
    return max(
        (value for stage in item.stages if (value := figure(stage)) is not None), default=None
    )
