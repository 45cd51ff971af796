"""Output of the commands: tables and results on standard output, progress on standard error."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from edge_core.plain_text import plain_text
from edge_partition.commands._constant_columns import split_constant
from edge_partition.facts.describe_ends import describe_classes, describe_input

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from edge_core.contract.manifest import Manifest

#: Width of a table in characters if standard output is no terminal: wide enough for all cells.
_WIDE = 140
#: More than the width of any table, in characters.
_UNLIMITED = 1000

SEEDED = "The weights are seeded, not trained: labels and scores mean nothing."

#: The console for progress. Progress is shown only if standard error is a terminal.
errors = Console(stderr=True, emoji=False)


def console() -> Console:
    """Return a console on standard output."""
    # A name or label with the text ``:smile:`` is printed unchanged, not as a picture.
    output = Console(highlight=False, emoji=False)
    return output if output.is_terminal else Console(highlight=False, emoji=False, width=_WIDE)


def say(text: str, *, bold: bool = False) -> None:
    """Print a sentence. Rich markup is printed as text, and control characters are escaped."""
    console().print(Text(plain_text(text), style="bold" if bold else ""))


def print_json(document: Any) -> None:
    """Print a document as JSON, for the option ``--json``."""
    click.echo(json.dumps(document, indent=1, default=str))


def warn(text: str) -> None:
    """Print a warning on standard error, in one line."""
    click.echo(f"edge-partition: {' '.join(text.split())}", err=True)


def table(*columns: str) -> Table:
    r"""Return an empty table.

    Args:
        columns: The headers. A ``>`` in front marks a column of numbers, which is aligned to the
            right and never wrapped. A header of two lines (``\n``) keeps its column narrow.
    """
    result = Table(
        header_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for column in columns:
        is_number = column.startswith(">")
        result.add_column(
            column.removeprefix(">"),
            justify="right" if is_number else "left",
            vertical="top",
            overflow="fold",
            no_wrap=is_number,
        )
    return result


def show_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    once: Iterable[str] = (),
    gap: bool = True,
) -> None:
    """Print a table, with an empty line after it.

    Args:
        title: The line above the table; empty for a table without a title.
        columns: As for :func:`table`.
        rows: The cells, as plain text.
        once: Headers of columns that are left out if the cell is the same in all rows. A line below
            the table then shows this cell once.
        gap: Whether to print an empty line before the table too.
    """
    columns, rows, constants = split_constant(columns, rows, once)
    shown = table(*columns)
    for row in rows:
        # Text, not str: a name may hold markup of rich.
        shown.add_row(*(Text(plain_text(cell)) for cell in row))
    out = console()
    if Measurement.get(out, out.options.update(max_width=_UNLIMITED), shown).maximum > out.width:
        # Less space between the columns, so that fewer names are folded.
        shown.padding = 0
    if gap:
        out.print()
    if title:
        out.print(Text(plain_text(title)))
    out.print(shown)
    if constants:
        out.print(Text(plain_text(f"In every row: {'; '.join(constants)}.")))
    out.print()


@contextmanager
def step_progress() -> Iterator[Callable[[str], None]]:
    """Show a spinner with the current step and its time so far.

    The yielded function takes the name of the next step.
    """
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda step: bar.reset(task, description=step, total=None)


@contextmanager
def count_progress(
    description: str, total: int | None = None, *, hidden: bool = False
) -> Iterator[Callable[..., None]]:
    """Show a progress bar, unless ``hidden``. The yielded function takes (done, total)."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    # By default rich would redirect standard output to the bar's console, standard error.
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
    """Show a progress bar for each board. The yielded function takes (board, done, total)."""
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
    """Return the first ``most`` names and the number of the others, as in ``a, b and 3 more``."""
    listed = list(names)
    rest = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {rest} more" if rest > 0 else "")


def count_of(count: int, noun: str) -> str:
    """Return a count with its noun: ``1 board``, ``2 boards``."""
    return f"{count} {noun}{'s' * (count != 1)}"


def mib(size_bytes: float) -> str:
    """Return a size in MiB with one decimal."""
    return f"{size_bytes / 2**20:.1f}"


def kib(size_bytes: float) -> str:
    """Return a size in KiB with one decimal."""
    return f"{size_bytes / 2**10:,.1f}"


def show_facts(manifest: Manifest, notes: Sequence[str]) -> None:
    """Print which inputs take pictures or sound, the meaning of the answers, and ``notes``."""
    for spec in manifest.inputs:
        if spec.pixels is not None or spec.rate_hz:
            say(f"Input {describe_input(spec)}.")
    classes = describe_classes(manifest.model.labels, manifest.model.detections)
    if classes:
        say(f"Answers: {classes}.")
    for note in notes:
        say(note)
