"""A titled table that is sorted by keys: the boards, and the deployments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual.containers import Vertical
from textual.widgets import Static

from mqtt_monitor.terminal.live_table import LiveTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from mqtt_monitor.terminal.columns import Cell, Column


class Pane(Vertical):
    """A table, what it is, and how it is sorted."""

    def __init__(self, columns: Sequence[Column[Any]], pane_id: str) -> None:
        super().__init__(id=pane_id)
        self._sortable = columns
        self.sorted_by = 0
        self.reverse = False
        self.table = LiveTable(columns)
        self._title = Static(classes="title")
        self._line = ""
        #: Lines that all rows would take, with title and heading.
        self.wanted_height = 2

    def compose(self) -> ComposeResult:
        """Title over table."""
        yield self._title
        yield self.table

    @property
    def column(self) -> Column[Any]:
        """What rows are sorted by."""
        return self._sortable[self.sorted_by]

    def sort_by(self, index: int) -> None:
        """Sort by a column; by the same once more: the other way round."""
        if index < len(self._sortable):
            self.reverse = index == self.sorted_by and not self.reverse
            self.sorted_by = index

    def sort_by_next(self) -> None:
        """Sort by the next column."""
        self.sort_by((self.sorted_by + 1) % len(self._sortable))

    def show(self, summary: str, rows: Sequence[tuple[str, tuple[Cell, ...]]]) -> None:
        """Show rows under a title."""
        self.table.show(rows)
        self.wanted_height = 2 + len(rows)
        column = self.column
        order = ", largest first" if column.largest_first else ""
        if self.reverse:
            order = ", smallest first" if column.largest_first else ", reversed"
        line = f"{summary}; by {column.title}{order}"
        if line != self._line:
            self._line = line
            self._title.update(Text(line, no_wrap=True, overflow="ellipsis"))
