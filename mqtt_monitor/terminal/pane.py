"""A pane of the main screen: a table with a title and a sort order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual.containers import Vertical

from mqtt_monitor.terminal.changing_text import ChangingText
from mqtt_monitor.terminal.live_table import LiveTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from mqtt_monitor.terminal.columns import Cell, Column


class Pane(Vertical):
    """A part of the main screen with a table, the table's title and its sort order.

    Attributes:
        table: The table.
        reverse: Whether the rows are in the reverse of the column's default order.
        wanted_height: Number of lines that the title, the header and all rows need.
    """

    def __init__(self, columns: Sequence[Column[Any]], pane_id: str) -> None:
        super().__init__(id=pane_id)
        self._columns = columns
        self._sorted_by = 0
        self.reverse = False
        self.table = LiveTable(columns)
        self._title = ChangingText(classes="title")
        self.wanted_height = 2

    def compose(self) -> ComposeResult:
        """Yield the title and the table."""
        yield self._title
        yield self.table

    @property
    def column(self) -> Column[Any]:
        """The column by which the rows are sorted."""
        return self._columns[self._sorted_by]

    def sort_by(self, index: int) -> None:
        """Sort by a column; if the rows are already sorted by this column, reverse their order.

        Args:
            index: Index of the column, from 0; an index beyond the last column has no effect.
        """
        if index < len(self._columns):
            self.reverse = index == self._sorted_by and not self.reverse
            self._sorted_by = index

    def sort_by_next(self) -> None:
        """Sort by the next column. The first column follows the last column."""
        self.sort_by((self._sorted_by + 1) % len(self._columns))

    def show_rows(self, summary: str, rows: Sequence[tuple[str, tuple[Cell, ...]]]) -> None:
        """Show rows under a title that consists of a summary and the sort order.

        Args:
            summary: First part of the title.
            rows: For each row, its key and its cells, one for each column.
        """
        self.table.show(rows)
        self.wanted_height = 2 + len(rows)
        column = self.column
        order = ", largest first" if column.largest_first else ""
        if self.reverse:
            order = ", smallest first" if column.largest_first else ", reversed"
        line = f"{summary}; sorted by {column.title}{order}"
        self._title.show(Text(line, no_wrap=True, overflow="ellipsis"))
