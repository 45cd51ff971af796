"""The columns of the table of boards, and the cells of each board. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mqtt_monitor.fleet.figures import MIB, number
from mqtt_monitor.fleet.levels import is_near_limit, tensor_rates
from mqtt_monitor.terminal.columns import BAD, DOUBTFUL, Cell, Column, kilobytes

if TYPE_CHECKING:
    from mqtt_monitor.fleet.snapshot import Device, Fleet, Load

_STYLES = {"offline": BAD, "unknown": DOUBTFUL, "silent": DOUBTFUL, "online": ""}
#: Sort order of states: problems first.
_ORDER = ("offline", "unknown", "silent", "online")


@dataclass(frozen=True)
class BoardRow:
    """A row of the table: a board and the tensor traffic of its stages.

    Attributes:
        device: The board.
        in_bytes_per_s: Tensor bytes that the board's stages receive per second; None: unknown.
        out_bytes_per_s: Tensor bytes that the board's stages send per second; None: unknown.
    """

    device: Device
    in_bytes_per_s: float | None
    out_bytes_per_s: float | None

    @property
    def state(self) -> str:
        """The board's state; ``silent``: the board is online, but its statistics are too old."""
        device = self.device
        if device.state == "online" and device.load is not None and not device.fresh:
            return "silent"
        return device.state

    @property
    def load(self) -> Load | None:
        """The board's load; None: no recent statistics."""
        return self.device.load if self.device.fresh else None

    @property
    def memory_share(self) -> float | None:
        """The agent's resident memory divided by the agent's memory limit; None: unknown.

        If the agent has no limit, the resident memory is divided by the board's whole memory.
        """
        device, load = self.device, self.load
        limit_bytes = device.ram_limit_bytes
        if limit_bytes is None and device.profile is not None:
            limit_bytes = device.profile.total_memory_bytes
        if load is None or load.rss_bytes is None or not limit_bytes:
            return None
        return load.rss_bytes / limit_bytes


COLUMNS: tuple[Column[BoardRow], ...] = (
    Column("board", lambda row: row.device.name, largest_first=False, width=8, is_number=False),
    Column(
        "state", lambda row: _ORDER.index(row.state), largest_first=False, width=7, is_number=False
    ),
    Column("CPU %", lambda row: row.load.cpu_percent if row.load else None, width=5),
    Column("°C", lambda row: row.load.temperature_c if row.load else None, width=3),
    Column("mem MiB", lambda row: row.memory_share, width=7),
    Column("in kB/s", lambda row: row.in_bytes_per_s, width=7),
    Column("out kB/s", lambda row: row.out_bytes_per_s, width=8),
    Column("queue", lambda row: row.load.queue_length if row.load else None, width=5),
    Column("stages", lambda row: len(row.device.serves), width=9, is_number=False),
)


def board_rows(fleet: Fleet) -> list[BoardRow]:
    """Return a row for each board of a snapshot, sorted by name."""
    traffic: dict[str, tuple[float, float]] = {}
    for deployment in fleet.deployments.values():
        for stage in deployment.stages:
            for board in stage.boards:
                received, sent = tensor_rates(stage, board)
                if received is not None and sent is not None:
                    so_far = traffic.get(board.device, (0.0, 0.0))
                    traffic[board.device] = (so_far[0] + received, so_far[1] + sent)
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
        _memory(row),
        (kilobytes(row.in_bytes_per_s), ""),
        (kilobytes(row.out_bytes_per_s), ""),
        (number(load.queue_length if load else None), ""),
        (serves or "-", ""),
    )


def _memory(row: BoardRow) -> Cell:
    """Return the cell with the agent's memory and limit in MiB; ``!``: the limit is near."""
    load = row.load
    if load is None or load.rss_bytes is None:
        return ("-", "")
    limit_bytes = row.device.ram_limit_bytes
    limit = f"/{limit_bytes / MIB:,.0f}" if limit_bytes else ""
    scarce = is_near_limit(row.device)
    return (f"{load.rss_bytes / MIB:,.0f}{limit}{'!' if scarce else ''}", BAD if scarce else "")


def _temperature(load: Load | None) -> Cell:
    """Return the cell with a board's temperature in °C; ``!``: the processor is throttled."""
    if load is None:
        return ("-", "")
    if load.throttled:
        return (f"{number(load.temperature_c)}!", BAD)
    return (number(load.temperature_c), "")
