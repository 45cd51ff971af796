"""How commands talk: tables and results on standard output, progress on standard error."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from edge_core.plain_text import plain_text
from edge_partition.facts.describe_ends import describe_classes, describe_input

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from edge_core.contract.manifest import Manifest
    from edge_partition.client.stream_report import StreamReport

#: Progress belongs to people: on standard error, and only where that is a terminal.
errors = Console(stderr=True, emoji=False)


def console() -> Console:
    """Return a console on standard output; wide where nobody watches, so that no cell is cut."""
    # Names and labels are other people's text: ``:smile:`` stays what it is.
    output = Console(highlight=False, emoji=False)
    return output if output.is_terminal else Console(highlight=False, emoji=False, width=140)


def print_json(document: Any) -> None:
    """Print the one document that ``--json`` promises."""
    click.echo(json.dumps(document, indent=1, default=str))


def warn(text: str) -> None:
    """Print one line on standard error: something is amiss, and the command goes on."""
    click.echo(f"edge-partition: {' '.join(text.split())}", err=True)


def table(title: str, *columns: str) -> Table:
    """Return an empty table; a column whose name starts with ``>`` is aligned to the right."""
    result = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for column in columns:
        right = column.startswith(">")
        result.add_column(column.lstrip(">"), justify="right" if right else "left", overflow="fold")
    return result


@contextmanager
def step_progress() -> Iterator[Callable[[str], None]]:
    """Show a spinner with the step under way and how long it has taken."""
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda step: bar.reset(task, description=step, total=None)


@contextmanager
def count_progress(
    description: str, total: int | None = None, *, hidden: bool = False
) -> Iterator[Callable[..., None]]:
    """Show a bar unless ``hidden``; the yielded function takes (done, total)."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    # Standard output is left alone: rich would send it to the bar's console, standard error.
    with Progress(
        *columns,
        console=errors,
        transient=True,
        disable=hidden or not errors.is_terminal,
        redirect_stdout=False,
    ) as bar:
        task = bar.add_task(description, total=total)
        yield lambda done, total=total: bar.update(task, completed=done, total=total)


@contextmanager
def board_progress(doing: str = "Sending to") -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar a board; the yielded function takes (board, what is done, what is to do)."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def update(board: str, have: int, need: int) -> None:
            if board not in tasks:
                tasks[board] = bar.add_task(f"{doing} {board}", total=need)
            bar.update(tasks[board], completed=have, total=need)

        yield update


def name_some(names: Iterable[str], most: int = 8) -> str:
    """Return names with commas; of those beyond ``most`` how many there are."""
    listed = list(names)
    rest = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {rest} more" if rest > 0 else "")


def mib(size_bytes: float) -> str:
    """Return bytes as MiB with one digit."""
    return f"{size_bytes / 2**20:.1f}"


def kib(size_bytes: float) -> str:
    """Return bytes as KiB with one digit."""
    return f"{size_bytes / 2**10:,.1f}"


def show_facts(manifest: Manifest, notes: Sequence[str]) -> None:
    """Print what a model's inputs take and its answers mean."""
    out = console()
    for spec in manifest.inputs:
        if spec.pixels is not None or spec.rate_hz:
            out.print(f"Input {plain_text(describe_input(spec))}.", markup=False)
    classes = describe_classes(manifest.model.labels, manifest.model.detections)
    if classes:
        out.print(f"Answers: {plain_text(classes)}.", markup=False)
    for note in notes:
        out.print(note, markup=False)


def show_report(report: StreamReport) -> None:
    """Print throughput, latency and each stage's time."""
    stages = table("Each stage, medians", "stage", "board", ">requests", ">queue ms", ">invoke ms")
    for stage in report.stages:
        stages.add_row(
            str(stage.stage),
            stage.device,
            str(stage.requests),
            f"{stage.queue_ms:.2f}",
            f"{stage.invoke_ms:.2f}",
        )
    console().print(stages)
    console().print(
        f"{report.requests} requests in {report.seconds:.2f} s: "
        f"{report.throughput_per_s:.1f} requests/s, latency {report.latency_median_ms:.1f} ms "
        f"median, {report.latency_p99_ms:.1f} ms p99."
    )
