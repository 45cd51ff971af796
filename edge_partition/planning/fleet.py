"""``fleet.toml`` -> the boards for a plan, with their memory, speed and links.

The figures of a board are the limits of the agent, not of the hardware. A field that the file
leaves out comes from the ``board`` preset. Without a preset, memory and storage are unlimited, and
the other fields have the defaults of :class:`Device`.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

from edge_core.contract.json_fields import Field, FieldError
from edge_core.errors import EdgePartitionError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge_partition.planning.fit_messages import HandlingTimes
    from edge_partition.planning.stage_times import StageTimes

#: Origin of a figure.
Source: TypeAlias = Literal["measured", "estimated"]
#: The end of the model that a board is pinned to, such as the board with the camera: ``first``.
Role: TypeAlias = Literal["any", "first", "last"]


class FleetError(EdgePartitionError):
    """A fleet file is not valid.

    Attributes:
        path: The file.
        device: Name of the invalid device, or its place in the file such as ``device[2]``; ``None``
            if the error is not in one device.
        field: The invalid field, or ``None``.
    """

    def __init__(
        self, path: Path, problem: str, *, device: str | None = None, field: str | None = None
    ) -> None:
        self.path = path
        self.device = device
        self.field = field
        where = "".join(f", {part}" for part in (device, field) if part is not None)
        super().__init__(f"{path}{where}: {problem}")


@dataclass(frozen=True)
class Device:
    """A board and its link to the broker.

    Attributes:
        name: The agent's ``--name``.
        board: The preset of the figures, or ``None``.
        ram_mib: Memory limit of the agent, its own memory included, in MiB; infinite if unlimited.
        storage_mib: Disk limit of the agent, in MiB; infinite if unlimited.
        speed_gmac_s: Speed in 10^9 work units per second, in the work units of
            :mod:`edge_partition.planning.cost_model`.
        threads: Threads of one inference.
        cores: Processors that the agent may use, a fraction under a quota; ``None``: equal to
            ``threads``, so that handling messages takes processor time from inference.
        link_mbit_s: Speed of the link in each direction, in 10^6 bits per second.
        link_ms: Fixed delay of each message on the link, in milliseconds.
        stage_times: Measured times of the current model, used instead of ``speed_gmac_s``.
        handling: Measured time of handling a message; ``None``: estimated from ``speed_gmac_s``.
        link_source: Origin of ``link_mbit_s`` and ``link_ms``.
        role: ``first``: the board runs the first stage and no other stage, and no board with
            another role runs the first stage. ``last``: the same rule for the last stage.
    """

    name: str
    board: str | None = None
    ram_mib: float = math.inf
    storage_mib: float = math.inf
    speed_gmac_s: float = 8.0
    threads: int = 4
    link_mbit_s: float = 90.0
    link_ms: float = 0.6
    stage_times: StageTimes | None = None
    handling: HandlingTimes | None = None
    cores: float | None = None
    link_source: Source = "estimated"
    role: Role = "any"


@dataclass(frozen=True)
class Fleet:
    """The boards of a fleet, in the file's order: one or more, with distinct names."""

    devices: tuple[Device, ...]


# ram_mib: the smallest memory that the board is sold with, less about 200 MiB for Raspberry Pi OS
# Lite and its page cache: an estimate. fleet.toml can give a larger figure.
# storage_mib: a share of an 8 GB card, an estimate.
# link_ms: the switch, the kernel and the broker, an estimate. Wi-Fi has a larger, varying delay.
# speed_gmac_s: fitted, with the cost model's own work units, to XNNPACK's published four-thread
# times of MobileNet v1, v2, v3 Large and v3 Small where a source is named (github.com/google/
# XNNPACK, README, "Raspberry Pi", 12 February 2020: v3 Large 67 ms on the 3B+, 41 ms on the 4).
# A measured profile is better than these estimates.
PRESETS: dict[str, Device] = {
    "raspberry-pi-zero-2-w": Device(
        name="",
        ram_mib=300,  # sold with 512 MiB
        storage_mib=2048,
        # Estimate: the 3B+'s four Cortex-A53 cores at 1.0 instead of 1.4 GHz.
        speed_gmac_s=4.1,
        threads=4,
        link_mbit_s=44,  # 802.11n at 2.4 GHz: 44.5 measured by Jeff Geerling on a Pi 2
        link_ms=3.0,
    ),
    "raspberry-pi-3b-plus": Device(
        name="",
        ram_mib=800,  # sold with 1 GiB
        storage_mib=2048,
        speed_gmac_s=5.7,  # XNNPACK's table
        threads=4,
        link_mbit_s=224,  # gigabit Ethernet behind USB 2.0: measured by Jeff Geerling
        link_ms=0.8,
    ),
    "raspberry-pi-4": Device(
        name="",
        ram_mib=800,  # sold with 1 to 8 GiB
        storage_mib=2048,
        speed_gmac_s=9.4,  # XNNPACK's table
        threads=4,
        link_mbit_s=940,  # gigabit Ethernet: 941 measured with iperf3 by mpr-projects.com
        link_ms=0.5,
    ),
    "raspberry-pi-5": Device(
        name="",
        ram_mib=800,  # sold with 1 to 16 GiB
        storage_mib=2048,
        # Estimate: 2.5 times the speed of a Pi 4, the middle of the maker's "two to three times".
        speed_gmac_s=23.5,
        threads=4,
        link_mbit_s=940,  # gigabit Ethernet, as on the Pi 4
        link_ms=0.4,
    ),
}

#: Check of each numeric field. The upper limits of speed and link keep a plan's times finite.
_NUMBERS: dict[str, Callable[[Field], Any]] = {
    "ram_mib": lambda field: field.number(0, 1 << 30, above=True),
    "storage_mib": lambda field: field.number(0, 1 << 30, above=True),
    "speed_gmac_s": lambda field: field.number(0.001, 1e6),
    "threads": lambda field: field.whole(1, 1024),
    "cores": lambda field: field.number(0.01, 1024),
    "link_mbit_s": lambda field: field.number(0.001, 1e6),
    "link_ms": lambda field: field.number(0, 1e5),
}
_FIELDS = ("name", "board", "role", *_NUMBERS)


def equal_fleet(count: int) -> Fleet:
    """Return ``count`` boards ``board-0``, ``board-1``, ... of equal speed and without limits.

    The links are too fast to limit a plan, so that all stages have about equal work.

    Raises:
        ValueError: ``count`` is less than 1.
    """
    if count < 1:
        raise ValueError(f"A fleet of {count} boards was requested; expected 1 or more.")
    return Fleet(
        tuple(
            Device(name=f"board-{index}", link_mbit_s=10_000, link_ms=0.1) for index in range(count)
        )
    )


def load_fleet(path: Path) -> Fleet:
    """Return the fleet in a ``fleet.toml`` file.

    Args:
        path: A TOML file with one ``[[device]]`` table for each board.

    Raises:
        FleetError: The file cannot be read, is not TOML, or a field is unknown, of the wrong type
            or out of range.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise FleetError(path, f"{reason}. Name a fleet file that can be read.") from None
    except UnicodeDecodeError:
        raise FleetError(path, "is not UTF-8 text. Save it as a UTF-8 TOML file.") from None
    except tomllib.TOMLDecodeError as error:
        raise FleetError(path, f"is not TOML: {error}.") from None
    return _read_fleet(path, Field(document, root="fleet"))


def _read_fleet(path: Path, document: Field) -> Fleet:
    try:
        document.refuse_unknown(("device",))
    except FieldError as error:
        problem = f"{error.problem} Each board is a [[device]]."
        raise FleetError(path, problem, field=error.where) from None
    tables = document.value.get("device")
    if not isinstance(tables, list) or not tables:
        raise FleetError(path, "names no board. Write one [[device]] table per board.")
    devices: dict[str, Device] = {}
    for position, table in enumerate(tables):
        device = _read_device(path, f"device[{position}]", table)
        if device.name in devices:
            raise FleetError(
                path, "is the name of two devices. Give each agent a different name.",
                device=device.name, field="name",
            )  # fmt: skip
        devices[device.name] = device
    return Fleet(tuple(devices.values()))


def _read_device(path: Path, where: str, table: Any) -> Device:
    if not isinstance(table, dict):
        raise FleetError(path, "is not a table. Write [[device]] above its fields.", device=where)
    if "name" not in table:
        raise FleetError(path, "is missing. Give the agent's --name.", device=where, field="name")
    fields = Field(table, root=where)
    try:
        where = fields["name"].name()
        fields.refuse_unknown(_FIELDS)
        board = fields.optional("board")
        preset = Device(name="") if board is None else PRESETS[board.one_of(PRESETS)]
        return replace(
            preset,
            name=where,
            board=None if board is None else board.text(),
            role=cast("Role", fields.get("role", "any").one_of(get_args(Role))),
            **{key: read(fields[key]) for key, read in _NUMBERS.items() if key in fields},
        )
    except FieldError as error:
        raise FleetError(path, error.problem, device=where, field=error.where) from None
