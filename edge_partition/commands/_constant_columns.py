"""Columns of a table with the same cell in every row, taken out of the table. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def split_constant(
    columns: Sequence[str], rows: Sequence[Sequence[str]], once: Iterable[str]
) -> tuple[list[str], list[list[str]], list[str]]:
    """Take constant columns out of a table.

    Args:
        columns: The headers; ``>`` in front marks a column of numbers.
        rows: The cells.
        once: The headers, without ``>``, of the columns to take out where they are constant. A
            table with one row keeps all columns.

    Returns:
        The other columns' headers, their cells, and ``HEADER CELL`` for each column taken out.
    """
    wanted = set(once)
    constant = [
        len(rows) > 1 and column.removeprefix(">") in wanted and len({row[at] for row in rows}) == 1
        for at, column in enumerate(columns)
    ]
    kept = [at for at, is_constant in enumerate(constant) if not is_constant]
    said = [
        f"{_in_one_line(column)} {rows[0][at]}" for at, column in enumerate(columns) if constant[at]
    ]
    return [columns[at] for at in kept], [[row[at] for at in kept] for row in rows], said


def _in_one_line(column: str) -> str:
    return " ".join(column.removeprefix(">").split())
