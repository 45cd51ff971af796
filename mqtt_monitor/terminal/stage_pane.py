"""The pane with the table of deployments and stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mqtt_monitor.terminal.pane import Pane
from mqtt_monitor.terminal.stage_rows import COLUMNS, stage_cells, stage_rows

if TYPE_CHECKING:
    from mqtt_monitor.fleet.snapshot import Fleet


class StagePane(Pane):
    """The pane with a fleet's deployments; the stages of a deployment are the rows below it."""

    def __init__(self) -> None:
        super().__init__(COLUMNS, "deployments")

    def show(self, fleet: Fleet) -> None:
        """Show the deployments of a snapshot."""
        count = len(fleet.deployments)
        rows = stage_rows(fleet, self.column, reverse=self.reverse)
        summary = f"Deployments: {count:,}" if count else "Deployments: none"
        self.show_rows(summary, [(row.key, stage_cells(row)) for row in rows])
