"""A table that draws only the cells that have changed since the rows were last set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.binding import Binding
from textual.coordinate import Coordinate
from textual.widgets import DataTable

from mqtt_monitor.terminal.columns import fit_widths
from mqtt_monitor.terminal.shorten import shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.binding import BindingType

    from mqtt_monitor.terminal.columns import Cell, Column

#: Largest width of a column, in characters. The detail screens show longer texts in full.
_MAX_WIDTH = 48


class LiveTable(DataTable[Text]):
    """A table whose rows are all set again several times a second.

    A cursor on the first row stays on the first row. When the order of the rows changes, a cursor
    on another row moves with that row.

    This class computes the columns' widths itself. Textual would measure a whole column again for
    each cell that becomes shorter, which takes quadratic time in the number of boards. While the
    screen's width stays the same, a column never becomes narrower, so that columns do not move back
    and forth.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select_cursor", "Detail")]

    def __init__(self, columns: Sequence[Column[Any]]) -> None:
        super().__init__(
            cursor_type="row", cursor_foreground_priority="renderable", fixed_columns=1
        )
        self._columns = columns
        self._wanted = [max(column.width, cell_len(column.title)) for column in columns]
        self._widths = list(self._wanted)
        self._keys: list[str] = []
        self._cells: list[tuple[Cell, ...]] = []

    def on_mount(self) -> None:
        """Add the columns, without rows."""
        self._add_columns()

    @property
    def selected(self) -> str | None:
        """The key of the row under the cursor; None: no rows."""
        return self._keys[self.cursor_row] if 0 <= self.cursor_row < len(self._keys) else None

    def show(self, rows: Sequence[tuple[str, tuple[Cell, ...]]]) -> None:
        """Replace the shown rows with ``rows``.

        Args:
            rows: For each row, its key and its cells, one for each column.
        """
        selected, cursor = self.selected, self.cursor_row
        if self._grow(rows):
            self._rebuild()
        for place, (_, cells) in enumerate(rows):
            self._show_row(place, cells)
        for place in range(len(self._cells) - 1, len(rows) - 1, -1):
            self.remove_row(str(place))
            del self._cells[place]
        self._keys = [key for key, _ in rows]
        if cursor > 0 and selected != self.selected and selected in self._keys:
            cursor = self._keys.index(selected)
        if self.cursor_row != cursor:
            self.move_cursor(row=min(cursor, max(0, len(rows) - 1)))

    def _show_row(self, place: int, cells: tuple[Cell, ...]) -> None:
        if place == len(self._cells):
            self.add_row(*map(self._text, range(len(cells)), cells), key=str(place))
            self._cells.append(cells)
            return
        before = self._cells[place]
        if before is cells:
            return
        for index, cell in enumerate(cells):
            if cell != before[index]:
                self.update_cell_at(Coordinate(place, index), self._text(index, cell))
        self._cells[place] = cells

    def _text(self, index: int, cell: Cell) -> Text:
        # Textual would interpret markup in a str. A name may contain markup, so cells are Text.
        text, style = cell
        if self._columns[index].is_number:
            return Text(text, style, justify="right", no_wrap=True)
        return shorten(Text(text, style, no_wrap=True), self._widths[index])

    def _grow(self, rows: Sequence[tuple[str, tuple[Cell, ...]]]) -> bool:
        """Compute the columns' widths for new rows; return whether any width has changed."""
        wanted = self._wanted
        for place, (_, cells) in enumerate(rows):
            if place < len(self._cells) and self._cells[place] is cells:
                continue
            for index, (text, _) in enumerate(cells):
                wanted[index] = min(max(wanted[index], cell_len(text)), _MAX_WIDTH)
        last_title = cell_len(self._columns[-1].title)
        room = self.size.width - self.styles.scrollbar_size_vertical
        widths = fit_widths(wanted, last_title, room) if room > 0 else list(wanted)
        changed = widths != self._widths
        self._widths = widths
        return changed

    def _rebuild(self) -> None:
        """Add all columns and rows again with the new widths; keep the scroll position."""
        cursor, x, y = self.cursor_row, self.scroll_x, self.scroll_y
        cells, self._cells = self._cells, []
        self.clear(columns=True)
        self._add_columns()
        for place, row in enumerate(cells):
            self._show_row(place, row)
        self.move_cursor(row=cursor, scroll=False)
        self.scroll_to(x, y, animate=False)

    def _add_columns(self) -> None:
        for index, column in enumerate(self._columns):
            self.add_column(
                self._text(index, (column.title, "")), width=self._widths[index], key=column.title
            )
