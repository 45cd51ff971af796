"""Boards as rows: state, load, heat, memory against its limit, link. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mqtt_monitor.fleet.alerts import MEMORY_MARGIN
from mqtt_monitor.fleet.figures import MIB, number
from mqtt_monitor.terminal.columns import BAD, DOUBTFUL, Cell, Column, kilobytes

if TYPE_CHECKING:
    from mqtt_monitor.fleet.snapshot import Device, Fleet, Load

_STYLES = {"offline": BAD, "unknown": DOUBTFUL, "silent": DOUBTFUL, "online": ""}
#: What wants looking at comes first.
_ORDER = ("offline", "unknown", "silent", "online")


@dataclass(frozen=True)
class BoardRow:
    """A board and what its stages move over its link.

    Attributes:
        device: The board.
        in_bytes_per_s: Tensors that it receives; None: not known.
        out_bytes_per_s: Tensors that it sends.
    """

    device: Device
    in_bytes_per_s: float | None
    out_bytes_per_s: float | None

    @property
    def state(self) -> str:
        """The board's state in a word; ``silent``: online, but its statistics stopped."""
        device = self.device
        if device.state == "online" and device.load is not None and not device.fresh:
            return "silent"
        return device.state

    @property
    def load(self) -> Load | None:
        """How it fares, if that is recent."""
        return self.device.load if self.device.fresh else None

    @property
    def memory_share(self) -> float | None:
        """Of its limit, or where none was set of the board's memory, what the agent takes."""
        device, load = self.device, self.load
        limit_bytes = device.ram_limit_bytes
        if limit_bytes is None and device.profile is not None:
            limit_bytes = device.profile.total_memory_bytes
        if load is None or load.rss_bytes is None or not limit_bytes:
            return None
        return load.rss_bytes / limit_bytes


COLUMNS: tuple[Column[BoardRow], ...] = (
    Column("board", lambda row: row.device.name, largest_first=False, width=8, right=False),
    Column("state", lambda row: _ORDER.index(row.state), largest_first=False, width=7, right=False),
    Column("CPU %", lambda row: row.load.cpu_percent if row.load else None, width=5),
    Column("°C", lambda row: row.load.temperature_c if row.load else None, width=3),
    Column("MiB", lambda row: row.memory_share, width=7),
    Column("kB/s in", lambda row: row.in_bytes_per_s, width=7),
    Column("out", lambda row: row.out_bytes_per_s, width=6),
    Column("waiting", lambda row: row.load.queue_length if row.load else None, width=7),
    Column("serves", lambda row: len(row.device.serves), width=9, right=False),
)


def board_rows(fleet: Fleet) -> list[BoardRow]:
    """Return a row for each board, by name."""
    traffic: dict[str, list[float]] = {}
    for deployment in fleet.deployments.values():
        for stage in deployment.stages:
            for board in stage.boards:
                if board.requests_per_s is not None:
                    sums = traffic.setdefault(board.device, [0.0, 0.0])
                    sums[0] += board.requests_per_s * stage.input.request_bytes
                    sums[1] += board.requests_per_s * stage.output.request_bytes
    return [
        BoardRow(device, *traffic.get(name, (None, None))) for name, device in fleet.devices.items()
    ]


def board_cells(row: BoardRow) -> tuple[Cell, ...]:
    """Return a row's cells, one for each of ``COLUMNS``."""
    device, load = row.device, row.load
    serves = ", ".join(f"{item.deployment}[{item.stage}]" for item in device.serves)
    return (
        (device.name, ""),
        (row.state, _STYLES[row.state]),
        (number(load.cpu_percent if load else None), ""),
        _temperature(load),
        memory_cell(row),
        (kilobytes(row.in_bytes_per_s), ""),
        (kilobytes(row.out_bytes_per_s), ""),
        (number(load.queue_length if load else None), ""),
        (serves or "-", ""),
    )


def memory_cell(row: BoardRow) -> Cell:
    """Return what the agent takes of what it may, in MiB."""
    load = row.load
    if load is None or load.rss_bytes is None:
        return ("-", "")
    limit_bytes = row.device.ram_limit_bytes
    limit = f"/{limit_bytes / MIB:,.0f}" if limit_bytes else ""
    share = row.memory_share
    scarce = bool(limit_bytes) and share is not None and share > 1 - MEMORY_MARGIN
    return (f"{load.rss_bytes / MIB:,.0f}{limit}{'!' if scarce else ''}", BAD if scarce else "")


def _temperature(load: Load | None) -> Cell:
    if load is None:
        return ("-", "")
    if load.throttled:
        return (f"{number(load.temperature_c)} throttled", BAD)
    return (number(load.temperature_c), "")
