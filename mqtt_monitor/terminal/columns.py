"""The columns of a table in the terminal: their headers, sort keys and widths. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Item = TypeVar("Item")
SortKey = float | str | None
#: A cell's text and its rich style.
Cell = tuple[str, str]

#: Styles from the terminal's own palette, readable on black and on white. The text of a cell also
#: says what its style marks, for terminals without colours.
BAD, DOUBTFUL, TITLE = "bold red", "bold magenta", "bold"
#: The column of names is not shortened to fewer characters than this.
_SHORTEST_NAME = 12
#: Spaces beside each column: one on the left, one on the right.
_PADDING = 2


@dataclass(frozen=True)
class Column(Generic[Item]):
    """A column of a table.

    Attributes:
        title: The header.
        key: A function that returns an item's sort key. Items whose key is None come last, in the
            default order and in the reverse order.
        largest_first: Whether the default order is descending.
        width: Smallest width, in characters. It leaves space for larger numbers, so that these do
            not move the other columns.
        is_number: Whether the column contains numbers, which are right-aligned and never cut.
    """

    title: str
    key: Callable[[Item], SortKey]
    largest_first: bool = True
    width: int = 1
    is_number: bool = True


def sort_rows(items: Iterable[Item], column: Column[Item], *, reverse: bool) -> list[Item]:
    """Return items sorted by a column; items with equal keys keep their order.

    Args:
        items: The items.
        column: The column whose key and default order are used.
        reverse: Whether to use the reverse of the column's default order.
    """
    known: list[tuple[float | str, Item]] = []
    unknown: list[Item] = []
    for item in items:
        key = column.key(item)
        if key is None:
            unknown.append(item)
        else:
            known.append((key, item))
    # All keys of a column are numbers, or all are texts.
    known.sort(key=lambda pair: pair[0], reverse=column.largest_first != reverse)
    return [item for _, item in known] + unknown


def fit_widths(widths: Sequence[int], last_title: int, available: int) -> list[int]:
    """Return the width of each column, in characters, so that all numbers are on the screen.

    Only the first column (the names) and the last column are narrowed. The columns between them
    contain numbers and states, which are never cut. The last column is narrowed before the first
    column, but not below the width of its header. The first column is narrowed only if the columns
    of numbers still do not fit. If the table is still too wide, the user can scroll sideways.

    Args:
        widths: Wanted width of each column, in characters.
        last_title: Width of the last column's header, in characters.
        available: Width of the screen in characters, without the scroll bar.
    """
    first, *middle, last = widths
    between = sum(middle) + _PADDING * len(middle) + 2 * _PADDING
    first = min(first, max(_SHORTEST_NAME, available - between + _PADDING))
    last = min(last, max(last_title, available - between - first))
    return [first, *middle, last]


def kilobytes(bytes_: float | None) -> str:
    """Return a size in kB, as text; below 10 kB with one decimal; ``-`` for None."""
    if bytes_ is None:
        return "-"
    few = 10_000
    return f"{bytes_ / 1000:,.{1 if 0 < bytes_ < few else 0}f}"
