"""Read ``fleet.toml``: the boards for a plan, with their memory, speed and links.

The memory and storage of a board are the limits of its agent, not of the hardware. If the file
leaves a field out, the value comes from the preset that the field ``board`` names. Without a
preset, memory and storage are unlimited, and the other fields have the defaults of :class:`Device`.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

from edge_core.contract.json_fields import Field, FieldError
from edge_core.errors import EdgePartitionError
from edge_partition.planning.operator_work import INT8_SPEEDUP

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge_partition.planning.fit_messages import HandlingTimes
    from edge_partition.planning.stage_times import StageTimes

#: Whether a figure was measured on the board or is an estimate.
Source: TypeAlias = Literal["measured", "estimated"]
#: The stages that a board may run. ``first``: only the first stage, for example on the board with
#: the camera. ``last``: only the last stage. ``any``: stages that are not left to another role.
Role: TypeAlias = Literal["any", "first", "last"]


class FleetError(EdgePartitionError):
    """A fleet file is not valid.

    Attributes:
        path: The file.
        device: Name of the device with the error. A device without a valid name is named by its
            index in the file, such as ``device[2]``. ``None`` if the error is not in a device.
        field: Name of the invalid field, or ``None``.
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
        board: Name of the preset for the fields that the file leaves out. ``None`` without a
            preset.
        ram_mib: Memory limit of the agent in MiB. The agent's own memory counts too. Infinite if
            there is no limit.
        storage_mib: Storage limit of the agent in MiB. Infinite if there is no limit.
        speed_gmac_s: Speed of float operators, in 10^9 work units per second.
            :mod:`edge_partition.planning.operator_work` defines the work units.
        int8_speedup: Speed of quantized operators, in 10^9 of their own work units per second,
            divided by ``speed_gmac_s``.
        threads: Number of threads of one inference.
        cores: Number of processors that the agent may use. A CPU quota may make it a fraction.
            ``None``: the agent may use ``threads`` processors, so messages take processor time from
            the inference.
        link_mbit_s: Speed of the link in each direction, in 10^6 bits per second.
        link_ms: Fixed delay of each message on the link, in milliseconds.
        stage_times: Measured inference times of the model's stages. ``None``: the times are
            estimated from ``speed_gmac_s``.
        handling: Measured time to receive or send a message. ``None``: the time is estimated from
            ``speed_gmac_s``.
        link_source: Whether ``link_mbit_s`` and ``link_ms`` are measured or estimated.
        active_watts: Power of the board during an inference, in watts. ``None`` if not known.
        idle_watts: Power of the board without requests, in watts. ``None`` if not known.
        role: ``first``: the board may run only the first stage, and boards with another role may
            not run the first stage. ``last``: the same for the last stage. ``any``: the board may
            run each stage that no other board's role claims.
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
    int8_speedup: float = INT8_SPEEDUP
    active_watts: float | None = None
    idle_watts: float | None = None

    @property
    def watts_above_idle(self) -> float | None:
        """``active_watts`` less ``idle_watts``, in watts; ``None`` if one of them is not known."""
        if self.active_watts is None or self.idle_watts is None:
            return None
        return self.active_watts - self.idle_watts


@dataclass(frozen=True)
class Fleet:
    """The boards of a fleet, in the order of the fleet file. No two boards have the same name."""

    devices: tuple[Device, ...]


# The sources of the presets. A measured profile is better than these estimates.
#
# ram_mib: an estimate. It is the smallest memory that the board is sold with, less about 200 MiB
# for Raspberry Pi OS Lite and its page cache. fleet.toml can give a larger figure.
#
# storage_mib: an estimate, about a quarter of an 8 GB card.
#
# link_ms: an estimate of the delay in the switch, the kernel and the broker. Wi-Fi has a larger,
# varying delay.
#
# speed_gmac_s, int8_speedup: the figures of the Pi 4 are fitted to its times in MLPerf Inference
# v2.0 (see operator_work). The speed of the 3B+ is the speed of the Pi 4 times a ratio: the time on
# the Pi 4 divided by the time on the 3B+, as a geometric mean over the following models. XNNPACK
# publishes these times for four threads and the same 32-bit software (github.com/google/XNNPACK,
# README, "Raspberry Pi", 8 February 2022):
#   float, MobileNet v1, v2, v3 Large, v3 Small: 114, 79, 67, 22 ms (3B+), 72, 41, 38, 13 ms (Pi 4)
#   int8, MobileNet v1, v2: 46, 30 ms (3B+), 29, 20 ms (Pi 4)
#
# active_watts, idle_watts: the power of the whole board. The active power of the Pi 4 is the median
# of the 94 models in MLPerf Inference v2.0 (5.2 to 5.9 W in float, 6.0 to 6.5 W in int8). Jeff
# Geerling measured the idle power of the Pi 4, and the active power (four busy cores) and the idle
# power of the 3B+ (pidramble.com, "Power Consumption Benchmarks").
PRESETS: dict[str, Device] = {
    "raspberry-pi-zero-2-w": Device(
        name="",
        ram_mib=265,  # sold with 512 MiB; 265 MiB measured as available
        storage_mib=2048,
        # Estimate: the 3B+'s four Cortex-A53 cores at 1.0 instead of 1.4 GHz.
        speed_gmac_s=4.6,
        int8_speedup=2.86,
        threads=4,
        link_mbit_s=44,  # 802.11n at 2.4 GHz: 44.5 measured by Jeff Geerling on a Pi 2
        link_ms=3.0,
        # Active: a Zero W takes 1.2 W (measured by Jeff Geerling), a Zero 2 W takes 1.4 W more
        # (measured by Andre Jacobs). Idle: 120 mA at 5 V, measured by CNX Software.
        active_watts=2.6,
        idle_watts=0.6,
    ),
    "raspberry-pi-3b-plus": Device(
        name="",
        ram_mib=800,  # sold with 1 GiB
        storage_mib=2048,
        speed_gmac_s=6.4,  # 0.576 times the speed of a Pi 4
        int8_speedup=2.86,  # with this figure, int8 has 0.648 times the speed of a Pi 4
        threads=4,
        link_mbit_s=224,  # gigabit Ethernet behind USB 2.0: measured by Jeff Geerling
        link_ms=0.8,
        active_watts=5.1,
        idle_watts=1.9,
    ),
    "raspberry-pi-4": Device(
        name="",
        ram_mib=800,  # sold with 1 to 8 GiB
        storage_mib=2048,
        speed_gmac_s=11.1,  # MLPerf
        int8_speedup=INT8_SPEEDUP,  # MLPerf
        threads=4,
        link_mbit_s=940,  # gigabit Ethernet: 941 measured with iperf3 by mpr-projects.com
        link_ms=0.5,
        active_watts=5.9,
        idle_watts=2.7,
    ),
    "raspberry-pi-5": Device(
        name="",
        ram_mib=800,  # sold with 1 to 16 GiB
        storage_mib=2048,
        # Estimate: 2.5 times the speed of a Pi 4, the middle of the maker's "two to three times".
        # int8 is assumed to gain as much as float. The Pi 5's dot-product instructions, which the
        # Pi 4 lacks, may make int8 faster.
        speed_gmac_s=27.8,
        int8_speedup=INT8_SPEEDUP,
        threads=4,
        link_mbit_s=940,  # gigabit Ethernet, as on the Pi 4
        link_ms=0.4,
        # Estimate: 4/3 of the power of a Pi 4. The maker's typical currents of the bare boards have
        # this ratio: 800 mA and 600 mA.
        active_watts=8.0,
        idle_watts=3.6,
    ),
}

#: Readers of the numeric fields, by field name. Each reader checks the field's range. The ranges of
#: speeds and links keep the times of a plan finite.
_NUMBERS: dict[str, Callable[[Field], Any]] = {
    "ram_mib": lambda field: field.number(0, 1 << 30, above=True),
    "storage_mib": lambda field: field.number(0, 1 << 30, above=True),
    "speed_gmac_s": lambda field: field.number(0.001, 1e6),
    "int8_speedup": lambda field: field.number(0.01, 1000),
    "threads": lambda field: field.whole(1, 1024),
    "cores": lambda field: field.number(0.01, 1024),
    "link_mbit_s": lambda field: field.number(0.001, 1e6),
    "link_ms": lambda field: field.number(0, 1e5),
    "active_watts": lambda field: field.number(0, 1e4),
    "idle_watts": lambda field: field.number(0, 1e4),
}
_FIELDS = ("name", "board", "role", *_NUMBERS)


def equal_fleet(count: int) -> Fleet:
    """Return a fleet of ``count`` equal boards with the names ``board-0``, ``board-1`` and so on.

    The boards' memory and storage are unlimited. Their links are too fast to limit the throughput.
    So the plan with the highest throughput gives each board about the same work.

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
        FleetError: The file can't be read, is not TOML, or has a field that is unknown, missing, of
            the wrong type or out of range.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise FleetError(path, f"{reason}. Name a fleet file that can be read.") from None
    except UnicodeDecodeError:
        raise FleetError(path, "is not UTF-8 text. Save it as a UTF-8 TOML file.") from None
    except tomllib.TOMLDecodeError as error:
        raise FleetError(path, f"is not TOML: {error}. Correct the TOML syntax.") from None
    return _read_fleet(path, Field(document, root="fleet"))


def _read_fleet(path: Path, document: Field) -> Fleet:
    try:
        document.refuse_unknown(("device",))
    except FieldError as error:
        problem = f"{error.problem} Each board is a [[device]]."
        raise FleetError(path, problem, field=error.where) from None
    tables = document.value.get("device")
    if not isinstance(tables, list) or not tables:
        raise FleetError(path, "names no board. Write a [[device]] table for each board.")
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
        raise FleetError(
            path, "is not a table. Write [[device]] above a board's fields.", device=where
        )
    if "name" not in table:
        raise FleetError(path, "is missing. Give the agent's --name.", device=where, field="name")
    fields = Field(table, root=where)
    try:
        where = fields["name"].name()
        fields.refuse_unknown(_FIELDS)
        board = fields.optional("board")
        preset = Device(name="") if board is None else PRESETS[board.one_of(PRESETS)]
        device = replace(
            preset,
            name=where,
            board=None if board is None else board.text(),
            role=cast("Role", fields.get("role", "any").one_of(get_args(Role))),
            **{key: read(fields[key]) for key, read in _NUMBERS.items() if key in fields},
        )
        _check_watts(device, fields)
    except FieldError as error:
        raise FleetError(path, error.problem, device=where, field=error.where) from None
    return device


def _check_watts(device: Device, fields: Field) -> None:
    given = [key for key in ("active_watts", "idle_watts") if key in fields]
    if len(given) == 1 and device.watts_above_idle is None:
        missing = "idle_watts" if given == ["active_watts"] else "active_watts"
        raise fields[given[0]].error(f"needs {missing} too. Give both, or name a preset in `board`")
    if device.watts_above_idle is not None and device.watts_above_idle < 0:
        raise fields[given[0]].error(
            f"is out of range: active_watts is {device.active_watts:g} and idle_watts is "
            f"{device.idle_watts:g}; expected active_watts to be at least idle_watts, because the "
            "active power includes the idle power"
        )
