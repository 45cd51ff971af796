"""Tables: constant columns stand below, and 80 columns break no number."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from edge_partition.commands import _show
from edge_partition.commands._constant_columns import split_constant
from edge_partition.commands._plan_text import PLAN_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence

COLUMNS = ("board", ">requests\nserved", "runtime")
ROWS = [["a", "360", "x 1"], ["b", "360", "x 1"]]


def test_constant_columns_are_taken_out() -> None:
    columns, rows, constants = split_constant(COLUMNS, ROWS, ["requests\nserved", "runtime"])
    assert columns == ["board"]
    assert rows == [["a"], ["b"]]
    assert constants == ["requests served 360", "runtime x 1"]


@pytest.mark.parametrize(
    ("rows", "once"),
    [(ROWS[:1], ["runtime"]), ([], ["runtime"]), (ROWS, []), ([ROWS[0], ["b", "1", "y"]], COLUMNS)],
)
def test_other_columns_stay(rows: Sequence[Sequence[str]], once: Sequence[str]) -> None:
    columns, kept, constants = split_constant(COLUMNS, rows, once)
    assert (columns, kept, constants) == (list(COLUMNS), [list(row) for row in rows], [])


def shown(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
) -> str:
    monkeypatch.setattr(_show, "console", lambda: Console(width=width, emoji=False))
    _show.show_table("title", columns, rows)
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("board", ["pi-1", "kitchen-raspberry-pi-4", "a-board-" * 8])
def test_a_plan_fits_80_columns_without_breaking_a_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int, board: str
) -> None:
    numbers = ["1000-1234", "123.4", "1024.5", "15872", "1234.56", "123.45", "1234.56", "12,345.6"]
    rows = [["0", board, *numbers], ["1", board, *numbers]]
    text = shown(monkeypatch, capsys, PLAN_COLUMNS, rows, width)
    assert max(map(len, text.splitlines())) <= width
    words = re.split(r"\s+", text)
    for number in set(numbers):
        assert words.count(number) == 2 * numbers.count(number), text
    # A long name is folded, not cut.
    assert "…" not in text


def test_markup_in_cells_is_shown_unchanged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(monkeypatch, capsys, ("board",), [["[bold]:smile:\x1b[2J"]], 80)
    assert "[bold]:smile:" in text
    assert "\x1b" not in text
