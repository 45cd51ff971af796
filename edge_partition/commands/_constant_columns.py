"""Remove the columns of a table that have the same cell in every row. The function is pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def split_constant(
    columns: Sequence[str], rows: Sequence[Sequence[str]], once: Iterable[str]
) -> tuple[list[str], list[list[str]], list[str]]:
    """Remove columns that have the same cell in every row.

    Args:
        columns: The headers. A ``>`` in front marks a column of numbers.
        rows: The cells.
        once: The headers, without ``>``, of the columns that may be removed. A table with one row
            keeps all columns.

    Returns:
        The headers of the columns that stay, the rows with the cells of these columns, and the text
        ``HEADER CELL`` for each removed column.
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
