"""A snapshot as tables, for ``--once``: what fits 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mqtt_monitor.fleet.figures import MIB, number
from mqtt_monitor.terminal.board_rows import board_rows
from mqtt_monitor.terminal.columns import kilobytes

if TYPE_CHECKING:
    from mqtt_monitor.fleet.alerts import Alert
    from mqtt_monitor.fleet.snapshot import Deployment, Device, Fleet, Stage

#: Wide enough where nobody watches that no cell is cut.
_PIPED_WIDTH = 140
_STYLES = {"online": "green", "live": "green", "offline": "red", "broken": "red"}


def show_fleet(fleet: Fleet, alerts: tuple[Alert, ...]) -> None:
    """Print boards, deployments and alerts on standard output."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_PIPED_WIDTH)
    if fleet.devices:
        console.print(_boards(fleet))
    else:
        console.print("No board has ever been online at this broker; start `device-agent` on one.")
    for deployment in fleet.deployments.values():
        console.print(_stages(deployment))
    if not fleet.deployments:
        console.print("Nothing is deployed; `edge-partition deploy BUILD` makes a bundle live.")
    for alert in alerts:
        style = "red" if alert.severity == "critical" else "yellow"
        # As Text: what came from the network may hold what rich takes for markup.
        console.print(Text(f"{alert.severity}: ", style) + Text(alert.text))


def _boards(fleet: Fleet) -> Table:
    table = _table(
        Text("Boards"),
        "board",
        "state",
        ">CPU %",
        ">°C",
        ">MiB",
        ">waiting",
        ">kB/s in/out",
        "serves",
    )
    for row in board_rows(fleet):
        device, load = row.device, row.load
        table.add_row(
            Text(device.name),
            Text(device.state, _STYLES.get(device.state, "yellow")),
            _number(load.cpu_percent if load else None),
            _temperature(device),
            _memory(device),
            _number(load.queue_length if load else None),
            Text(f"{kilobytes(row.in_bytes_per_s)}/{kilobytes(row.out_bytes_per_s)}"),
            Text(", ".join(f"{item.deployment}[{item.stage}]" for item in device.serves) or "-"),
        )
    return table


def _temperature(device: Device) -> Text:
    load = device.load if device.fresh else None
    if load is None or load.temperature_c is None:
        return Text("-")
    return Text(f"{load.temperature_c:.0f}", "red" if load.throttled else "")


def _memory(device: Device) -> Text:
    load = device.load if device.fresh else None
    if load is None or load.rss_bytes is None:
        return Text("-")
    limit_bytes = device.ram_limit_bytes
    limit = f"/{limit_bytes / MIB:.0f}" if limit_bytes else ""
    return Text(f"{load.rss_bytes / MIB:.0f}{limit}")


def _stages(deployment: Deployment) -> Table:
    title = Text(f"{deployment.name}  {deployment.model}, ") + Text(
        deployment.state, _STYLES.get(deployment.state, "yellow")
    )
    columns = (">stage", "on", ">requests/s", ">invoke ms", ">planned", ">queue ms", ">kB/s")
    table = _table(title, *columns, ">errors")
    for stage in deployment.stages:
        mark = "*" if stage.index == deployment.bottleneck and len(deployment.stages) > 1 else ""
        rate = stage.output.bytes_per_s
        table.add_row(
            Text(f"{mark}{stage.index}"),
            Text("|".join(stage.devices)),
            _number(stage.requests_per_s, 1),
            _number(stage.invoke_ms, 2),
            _number(stage.predicted_ms, 2),
            _number(stage.queue_ms, 2),
            _number(None if rate is None else rate / 1000),
            Text(_errors(stage)),
        )
    if len(deployment.stages) > 1 and deployment.bottleneck is not None:
        table.caption = "* sets the pace"
        table.caption_justify = "left"
    return table


def _errors(stage: Stage) -> str:
    counts: dict[str, int] = {}
    for board in stage.boards:
        for code, count in board.errors_total:
            counts[code] = counts.get(code, 0) + count
    return ", ".join(f"{count} {code}" for code, count in sorted(counts.items())) or "-"


def _table(title: Text, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for column in columns:
        right = column.startswith(">")
        table.add_column(column.lstrip(">"), justify="right" if right else "left", overflow="fold")
    return table


def _number(value: float | None, digits: int = 0) -> Text:
    return Text(number(value, digits))
