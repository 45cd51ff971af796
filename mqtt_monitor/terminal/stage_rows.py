"""The columns of the table of deployments, and the cells of each deployment and stage. Pure."""

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
    kilobytes,
    sort_rows,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mqtt_monitor.fleet.snapshot import Deployment, Fleet, Stage

_STYLES = {"live": "", "broken": BAD, "unreadable": DOUBTFUL}
#: Sort order of states: problems first.
_ORDER = ("broken", "unreadable", "live")


@dataclass(frozen=True)
class StageRow:
    """A row of the table: a deployment or one of its stages.

    Attributes:
        deployment: The deployment.
        stage: The stage; None: the row shows the deployment.
    """

    deployment: Deployment
    stage: Stage | None

    @property
    def key(self) -> str:
        """The row's unique key: ``deployment`` or ``deployment/stage``."""
        name = self.deployment.name
        return name if self.stage is None else f"{name}/{self.stage.index}"


#: The columns. For a column of times or traffic, the sort key of a deployment is the largest value
#: of its stages. Sorting does not change the order of the stages.
COLUMNS: tuple[Column[Deployment], ...] = (
    Column("stage", lambda item: item.name, largest_first=False, width=8, is_number=False),
    Column(
        "state",
        lambda item: _ORDER.index(item.state),
        largest_first=False,
        width=6,
        is_number=False,
    ),
    Column("req/s", lambda item: item.requests_per_s, width=6),
    Column("infer ms", lambda item: _largest(item, lambda stage: stage.invoke_ms), width=8),
    Column("plan ms", lambda item: _largest(item, lambda stage: stage.predicted_ms), width=7),
    Column("wait ms", lambda item: _largest(item, lambda stage: stage.queue_ms), width=7),
    Column("kB/s", lambda item: _largest(item, lambda stage: stage.output.bytes_per_s), width=6),
    Column("errors", lambda item: sum(map(count_errors, item.stages)), width=6),
    Column("boards", lambda item: item.model, largest_first=False, width=8, is_number=False),
)


def stage_rows(fleet: Fleet, column: Column[Deployment], *, reverse: bool) -> list[StageRow]:
    """Return the rows of a snapshot: each deployment is followed by its stages.

    Args:
        fleet: The snapshot.
        column: The column by which the deployments are sorted.
        reverse: Whether to use the reverse of the column's default order.
    """
    rows: list[StageRow] = []
    for deployment in sort_rows(fleet.deployments.values(), column, reverse=reverse):
        rows.append(StageRow(deployment, None))
        rows += [StageRow(deployment, stage) for stage in deployment.stages]
    return rows


def stage_cells(row: StageRow) -> tuple[Cell, ...]:
    """Return a row's cells, one for each of ``COLUMNS``."""
    if row.stage is None:
        return _deployment_cells(row.deployment)
    stage = row.stage
    mark = "*" if row.deployment.is_bottleneck(stage) else " "
    errors = count_errors(stage)
    return (
        (f" {mark}{stage.index}", ""),
        stage_state(stage),
        (number(stage.requests_per_s, 1), ""),
        (number(stage.invoke_ms, 2), ""),
        (number(stage.predicted_ms, 2), ""),
        (number(stage.queue_ms, 2), ""),
        (kilobytes(stage.output.bytes_per_s), ""),
        (f"{errors:,}", BAD if stage.errors_per_s else ""),
        (", ".join(stage.devices), ""),
    )


def _deployment_cells(item: Deployment) -> tuple[Cell, ...]:
    errors = sum(map(count_errors, item.stages))
    return (
        (item.name, TITLE),
        (item.state, _STYLES[item.state]),
        (number(item.requests_per_s, 1), ""),
        *((("", ""),) * 4),
        (f"{errors:,}", ""),
        (f"model {item.model}", ""),
    )


def stage_state(stage: Stage) -> Cell:
    """Return the cell with the state of a stage.

    ``serves``: all boards of the stage can serve the stage. ``1 of 2``: only one of two boards can
    serve the stage. ``down``: no board can serve the stage. ``-``: all boards are online, but no
    board has recent statistics.
    """
    serving = [board.can_serve for board in stage.boards]
    if not any(serving):
        return ("down", BAD)
    if not all(serving):
        return (f"{sum(serving)} of {len(serving)}", DOUBTFUL)
    if all(board.serves is None for board in stage.boards):
        # All boards are online, but only recent statistics would tell which stages they serve.
        return ("-", "")
    return ("serves", "")


def count_errors(stage: Stage) -> int:
    """Return the number of requests that a stage answered with an error."""
    return sum(count for board in stage.boards for _, count in board.errors_total)


def _largest(item: Deployment, value_of: Callable[[Stage], float | None]) -> float | None:
    return max(
        (value for stage in item.stages if (value := value_of(stage)) is not None), default=None
    )
