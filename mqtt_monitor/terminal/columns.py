"""Columns of the terminal's tables: header, sort key and width of each. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Item = TypeVar("Item")
SortKey = float | str | None
#: A cell's text and its rich style.
Cell = tuple[str, str]

#: Styles from the terminal's own palette, readable on black and on white. Every state that a
#: style marks is also visible in the text.
BAD, DOUBTFUL, TITLE = "bold red", "bold magenta", "bold"
#: Smallest width of a shortened column of names, in characters.
_SHORTEST_NAME = 12
#: Spaces beside each column: one on the left, one on the right.
_PADDING = 2


@dataclass(frozen=True)
class Column(Generic[Item]):
    """A column of a table.

    Attributes:
        title: The header.
        key: Returns a row's sort key; rows with None come last in both orders.
        largest_first: Whether the default order is descending.
        width: Minimum width in characters, so that a number can grow without moving other columns.
        is_number: Whether the column has numbers, which are right-aligned and never cut.
    """

    title: str
    key: Callable[[Item], SortKey]
    largest_first: bool = True
    width: int = 1
    is_number: bool = True


def sort_rows(items: Iterable[Item], column: Column[Item], *, reverse: bool) -> list[Item]:
    """Return items sorted by a column; items with equal keys keep their order."""
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
    """Shorten the first and the last column of a table so that all numbers fit the screen.

    The other columns are numbers and states, which are never cut. The last column is never narrower
    than its header, and may extend beyond the screen: the table scrolls sideways. The first column
    has the names, so it is shortened only if numbers would otherwise be off the screen.

    Args:
        widths: Wanted width of each column, in characters.
        last_title: Width of the last column's header, in characters.
        available: Width of the screen without the scroll bar, in characters.
    """
    first, *middle, last = widths
    between = sum(middle) + _PADDING * len(middle) + 2 * _PADDING
    first = min(first, max(_SHORTEST_NAME, available - between + _PADDING))
    last = min(last, max(last_title, available - between - first))
    return [first, *middle, last]


def kilobytes(bytes_: float | None) -> str:
    """Return a size in kB, below 10 kB with one decimal; ``-`` for None."""
    if bytes_ is None:
        return "-"
    few = 10_000
    return f"{bytes_ / 1000:,.{1 if 0 < bytes_ < few else 0}f}"
