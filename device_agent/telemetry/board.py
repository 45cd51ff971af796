"""Read the board's hardware and software (for ``profile``) and its load (for ``stats``)."""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from device_agent.config import Config

#: Number of rows and columns of the matrices whose product is timed. The product has 16.8 million
#: MACs and takes a few milliseconds. The matrices fit into the caches of small boards.
_MATMUL_SIDE = 256
_MATMUL_RUNS = 5


def read_hardware(config: Config) -> dict[str, Any]:
    """Return the profile's fields that need no slow import."""
    return {
        "device": config.name,
        "machine": platform.machine(),
        "boot": _read_boot(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu_model": _read_cpu_model(),
        "cores": psutil.cpu_count() or 1,
        "total_memory_bytes": psutil.virtual_memory().total,
        "python": platform.python_version(),
        "threads": config.threads,
        "ram_mib": config.ram_mib,
    }


def read_software() -> dict[str, Any]:
    """Return the versions of the agent and of the TFLite runtime.

    Raises:
        RuntimeUnavailableError: No runtime is installed.
    """
    from importlib import metadata  # noqa: PLC0415 - slow, and the agent is online without it

    from edge_core.runtime.stage_interpreter import runtime_name  # noqa: PLC0415

    return {"agent": metadata.version("edge-partition"), "runtime": runtime_name()}


def read_free(free_storage_bytes: int) -> dict[str, Any]:
    """Return the free memory and storage, in bytes."""
    return {
        "free_memory_bytes": psutil.virtual_memory().available,
        "free_storage_bytes": free_storage_bytes,
    }


def measure_matmul_gmac_s() -> float:
    """Return the speed of one core in a float32 matrix product, in billions of MACs per second.

    The result is the fastest of a few runs, because other programs can only make a run slower.
    """
    import numpy as np  # noqa: PLC0415 - slow, and the agent is online without it

    left = np.linspace(0, 1, _MATMUL_SIDE**2, dtype=np.float32).reshape(_MATMUL_SIDE, -1)
    best_s = float("inf")
    for _ in range(_MATMUL_RUNS):
        started = time.perf_counter()
        np.matmul(left, left)
        best_s = min(best_s, time.perf_counter() - started)
    return round(_MATMUL_SIDE**3 / best_s / 1e9, 3)


class LoadReader:
    """Reads the agent's memory and processor use, and the board's temperature and clock rate."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._started = time.monotonic()
        # The first call starts the period that the next call measures.
        self._process.cpu_percent(None)

    def read(self) -> dict[str, Any]:
        """Return the current load.

        ``cpu_percent`` is the agent's processor time since the last call, as a percentage of one
        core; 200 means two full cores. ``time_s`` is the board's clock, in seconds since 1970. A
        reader compares this time with the message's time of arrival to find a wrong clock.
        """
        return {
            "time_s": round(time.time(), 3),
            "uptime_s": round(time.monotonic() - self._started, 1),
            "rss_bytes": self._process.memory_info().rss,
            "free_memory_bytes": psutil.virtual_memory().available,
            "cpu_percent": self._process.cpu_percent(None),
            "temperature_c": read_temperature_c(),
            "clock_mhz": read_clock_mhz(),
            "throttled": read_throttled(),
        }


def read_clock_mhz() -> float | None:
    """Return the mean clock rate of the cores, in MHz; None: the system does not report it."""
    read = getattr(psutil, "cpu_freq", None)
    try:
        clock = read() if read is not None else None
    except (OSError, ValueError, NotImplementedError):
        return None
    return round(clock.current, 1) if clock is not None and clock.current else None


def read_temperature_c() -> float | None:
    """Return the highest temperature of the board, in degrees Celsius; None: no sensor."""
    read = getattr(psutil, "sensors_temperatures", None)
    try:
        sensors = read() if read is not None else {}
    except (OSError, ValueError):
        return None
    values = [entry.current for entries in sensors.values() for entry in entries]
    return max(values, default=None)


def read_throttled() -> bool | None:
    """Return whether the firmware of a Raspberry Pi slows the processor; None: no Raspberry Pi.

    Bits 1 to 3 of the firmware's flags mean: frequency capped, throttled, soft temperature limit
    (Raspberry Pi documentation, "vcgencmd get_throttled").
    """
    try:
        flags = int(Path("/sys/devices/platform/soc/soc:firmware/get_throttled").read_text(), 16)
    except (OSError, ValueError):
        return None
    return bool(flags & 0b1110)


def _read_boot() -> str | None:
    """Return an id that is equal for all agents on one machine; None: the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _read_cpu_model() -> str:
    fields: dict[str, str] = {}
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            for line in file:
                key, _, value = line.partition(":")
                fields[key.strip()] = value.strip()
    except OSError:
        return platform.processor() or "unknown"
    # x86 has "model name", Raspberry Pi OS "Model" for the whole board.
    return fields.get("Model") or fields.get("model name") or "unknown"
