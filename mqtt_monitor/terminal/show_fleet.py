"""Prints a snapshot as tables, for ``--once``. The tables fit a screen of 80 columns."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mqtt_monitor.terminal import board_rows, stage_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mqtt_monitor.fleet.alerts import Alert
    from mqtt_monitor.fleet.snapshot import Fleet, Stage
    from mqtt_monitor.terminal.columns import Cell, Column

#: Width of the tables in characters if the output is not a terminal: enough for most names.
_PIPED_WIDTH = 140


def show_fleet(fleet: Fleet, alerts: tuple[Alert, ...]) -> None:
    """Print boards, deployments and alerts on standard output."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_PIPED_WIDTH)
    if fleet.devices:
        rows = board_rows.board_rows(fleet)
        cells = [board_rows.board_cells(row) for row in rows]
        _print(console, "Boards", board_rows.COLUMNS, cells)
        console.print()
    else:
        console.print("No boards yet. Start `device-agent` on each board.")
    if fleet.deployments:
        columns = stage_rows.COLUMNS
        stages = stage_rows.stage_rows(fleet, columns[0], reverse=False)
        _print(console, "Deployments", columns, map(stage_rows.stage_cells, stages))
        if any(row.stage and row.deployment.is_bottleneck(row.stage) for row in stages):
            console.print("* bottleneck: the slowest stage")
        for row in stages:
            if row.stage and (errors := _errors(row.stage)):
                console.print(Text(f"errors of {row.deployment.name} stage {errors}"))
        console.print()
    else:
        console.print("No deployments yet. Deploy a bundle with `edge-partition deploy BUILD`.")
    for alert in alerts:
        style = "red" if alert.severity == "critical" else "yellow"
        # rich would interpret markup in a str. A name may contain markup, so the line is Text.
        console.print(Text(f"{alert.severity}: ", style) + Text(alert.text))


def _errors(stage: Stage) -> str:
    """Return a stage's index and, for each error code, the number of errors; empty: no errors."""
    counts: Counter[str] = Counter()
    for board in stage.boards:
        counts.update(dict(board.errors_total))
    codes = ", ".join(f"{count:,} {code}" for code, count in sorted(counts.items()))
    return f"{stage.index}: {codes}" if codes else ""


def _print(
    console: Console,
    title: str,
    columns: Sequence[Column[Any]],
    rows: Iterable[tuple[Cell, ...]],
) -> None:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for index, column in enumerate(columns):
        # Only the names in the first and in the last column wrap. Numbers and states never do.
        wraps = index in {0, len(columns) - 1}
        table.add_column(
            column.title,
            justify="right" if column.is_number else "left",
            overflow="fold",
            no_wrap=not wraps,
        )
    for cells in rows:
        table.add_row(*(Text(text, style) for text, style in cells))
    console.print(table)
