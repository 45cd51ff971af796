"""A table with a title and a sort order."""

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
    """A table, its title and its sort order.

    Attributes:
        table: The table.
        reverse: Whether the order is the reverse of the column's default order.
        wanted_height: Number of lines for the title, the header and all rows.
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
        """Return title and table."""
        yield self._title
        yield self.table

    @property
    def column(self) -> Column[Any]:
        """The column that rows are sorted by."""
        return self._columns[self._sorted_by]

    def sort_by(self, index: int) -> None:
        """Sort by a column; reverse the order if the rows are already sorted by this column."""
        if index < len(self._columns):
            self.reverse = index == self._sorted_by and not self.reverse
            self._sorted_by = index

    def sort_by_next(self) -> None:
        """Sort by the next column."""
        self.sort_by((self._sorted_by + 1) % len(self._columns))

    def show_rows(self, summary: str, rows: Sequence[tuple[str, tuple[Cell, ...]]]) -> None:
        """Show rows (a key and its cells each) under a title with summary and sort order."""
        self.table.show(rows)
        self.wanted_height = 2 + len(rows)
        column = self.column
        order = ", largest first" if column.largest_first else ""
        if self.reverse:
            order = ", smallest first" if column.largest_first else ", reversed"
        line = f"{summary}; sorted by {column.title}{order}"
        self._title.show(Text(line, no_wrap=True, overflow="ellipsis"))
