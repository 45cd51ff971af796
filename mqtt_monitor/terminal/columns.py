"""What a table of the terminal is made of: columns that show, rank and name a figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Item = TypeVar("Item")
Rank = float | str | None
#: A cell's text, and its style by rich's words.
Cell = tuple[str, str]

#: Colours of the terminal's own palette that can be read on black and on white. No state is told
#: by them alone.
BAD, DOUBTFUL, TITLE = "bold red", "bold magenta", "bold"


@dataclass(frozen=True)
class Column(Generic[Item]):
    """A column.

    Attributes:
        title: Its heading, and its name where a sentence says how rows are sorted.
        rank: What rows are sorted by; None goes last either way.
        largest_first: How it is sorted unless reversed.
        width: At least so many characters, so that what grows by a digit moves nothing.
        right: Figures stand at the right.
    """

    title: str
    rank: Callable[[Item], Rank]
    largest_first: bool = True
    width: int = 1
    right: bool = True


def arranged(items: Iterable[Item], column: Column[Item], *, reverse: bool) -> list[Item]:
    """Return items sorted by a column; those that are equal in it keep their order."""
    known: list[tuple[float | str, Item]] = []
    unknown: list[Item] = []
    for item in items:
        rank = column.rank(item)
        if rank is None:
            unknown.append(item)
        else:
            known.append((rank, item))
    # A column's ranks are all numbers or all texts.
    known.sort(key=lambda pair: pair[0], reverse=column.largest_first != reverse)
    return [item for _, item in known] + unknown


def kilobytes(bytes_: float | None) -> str:
    """Return thousands of bytes, with a decimal where there are few."""
    if bytes_ is None:
        return "-"
    few = 10_000
    return f"{bytes_ / 1000:,.{1 if 0 < bytes_ < few else 0}f}"
