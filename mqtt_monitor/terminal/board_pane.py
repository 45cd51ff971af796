"""The pane with the table of boards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mqtt_monitor.terminal.board_rows import COLUMNS, board_cells, board_rows
from mqtt_monitor.terminal.columns import sort_rows
from mqtt_monitor.terminal.pane import Pane

if TYPE_CHECKING:
    from mqtt_monitor.fleet.snapshot import Fleet
    from mqtt_monitor.terminal.board_rows import BoardRow
    from mqtt_monitor.terminal.columns import Cell


class BoardPane(Pane):
    """The pane with a fleet's boards, one row each."""

    def __init__(self) -> None:
        super().__init__(COLUMNS, "boards")
        #: The row that was shown last and its cells, by the board's name.
        self._cells: dict[str, tuple[BoardRow, tuple[Cell, ...]]] = {}

    def show(self, fleet: Fleet) -> None:
        """Show the boards of a snapshot."""
        rows = board_rows(fleet)
        self._cells = {row.device.name: (row, self._cells_of(row)) for row in rows}
        counts: dict[str, int] = {}
        for row in rows:
            counts[row.state] = counts.get(row.state, 0) + 1
        states = ", ".join(f"{count:,} {state}" for state, count in sorted(counts.items()))
        self.show_rows(
            f"Boards: {states}" if rows else "Boards: none yet; start `device-agent` on each board",
            [
                (row.device.name, self._cells[row.device.name][1])
                for row in sort_rows(rows, self.column, reverse=self.reverse)
            ],
        )

    def _cells_of(self, row: BoardRow) -> tuple[Cell, ...]:
        """Return the cells of a row; if the row has not changed, the same object as last time."""
        before = self._cells.get(row.device.name)
        # An unchanged board is the same object in the next snapshot.
        if before is not None and (
            before[0].device is row.device
            and before[0].in_bytes_per_s == row.in_bytes_per_s
            and before[0].out_bytes_per_s == row.out_bytes_per_s
        ):
            return before[1]
        return board_cells(row)
