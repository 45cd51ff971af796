"""Boards emulated on one machine: a real CPU share and a real memory limit for each agent.

The kernel holds the limits: cgroup version 1 or 2 where this process may write there, else
``systemd-run`` with the user's own manager. An agent over its memory limit is killed, as it is on
a board without swap.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from broker_config.errors import EdgePartitionError
from edge_partition import enter_groups

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_partition.fleet import Fleet

_ROOT = Path("/sys/fs/cgroup")
#: Short, so that a share of a processor is a slow one and not one that stalls.
_PERIOD_US = 10_000
#: The kernel refuses shorter quotas.
_MIN_QUOTA_US = 1_000
#: Left for the broker, the client and the kernel.
_USABLE_CORES = 0.85
_REMOVE_TIMEOUT_S = 5.0


class EmulationError(EdgePartitionError):
    """This machine can't hold processes to a share of its processors or memory."""


@dataclass(frozen=True)
class Limits:
    """What an emulated board gets.

    Attributes:
        cpu_share: Of one processor of this machine; 2.0 is two processors.
        ram_bytes: The agent's memory, page cache included; None: unlimited.
    """

    cpu_share: float
    ram_bytes: int | None


def board_limits(fleet: Fleet, host_gmac_s: float) -> tuple[dict[str, Limits], float]:
    """Return each board's limits by name, and how much slower than asked for all are.

    Args:
        fleet: The boards, with their speeds.
        host_gmac_s: One processor of this machine, measured in the same unit as the boards'.

    Returns:
        The limits; and a factor of 1 or less by which every share was scaled, the same for all,
        where the boards together are faster than this machine.
    """
    shares = {device.name: device.speed_gmac_s / host_gmac_s for device in fleet.devices}
    usable = _USABLE_CORES * len(os.sched_getaffinity(0))
    scale = min(1.0, usable / sum(shares.values()))
    limits = {
        device.name: Limits(
            cpu_share=shares[device.name] * scale,
            ram_bytes=int(device.ram_mib * 2**20) if device.ram_mib < float("inf") else None,
        )
        for device in fleet.devices
    }
    smallest = min(limits, key=lambda name: limits[name].cpu_share)
    if limits[smallest].cpu_share * _PERIOD_US < _MIN_QUOTA_US:
        raise EmulationError(
            f"{smallest} would get {limits[smallest].cpu_share:.1%} of a processor; the kernel "
            f"grants no less than {_MIN_QUOTA_US / _PERIOD_US:.0%}. Emulate fewer boards."
        )
    return limits, scale


class BoardLimiter:
    """Puts commands under limits; :meth:`close` removes what that took."""

    def __init__(self) -> None:
        """Find out what this machine offers.

        Raises:
            EmulationError: Nothing.
        """
        self._folders: list[Path] = []
        self._version = _cgroup_version()
        if self._version is None and shutil.which("systemd-run") is None:
            raise EmulationError(
                "This machine lets nobody limit a process's share of processor and memory: "
                "cgroups can't be written and systemd-run is missing. Run as root, or leave "
                "--emulate out."
            )

    def command(self, name: str, limits: Limits, words: Sequence[str]) -> list[str]:
        """Return ``words`` as a command that runs under ``limits``.

        Raises:
            EmulationError: The kernel refused a limit.
        """
        if self._version is None:
            scope = ["systemd-run", "--user", "--scope", "--quiet"]
            scope += ["-p", f"CPUQuota={limits.cpu_share:.1%}"]
            if limits.ram_bytes is not None:
                scope += ["-p", f"MemoryMax={limits.ram_bytes}", "-p", "MemorySwapMax=0"]
            return [*scope, "--", *words]
        try:
            members = self._make_groups(name, limits)
        except OSError as error:
            raise EmulationError(
                f"The kernel refused to limit {name}: {error}. Run as root on a machine with "
                "cgroups, or leave --emulate out."
            ) from None
        # The process enters its groups before it becomes the agent, so nothing runs unlimited.
        return [sys.executable, "-I", "-S", enter_groups.__file__, *map(str, members), "--", *words]

    def _make_groups(self, name: str, limits: Limits) -> list[Path]:
        quota_us = max(_MIN_QUOTA_US, round(limits.cpu_share * _PERIOD_US))
        label = f"edge-partition-{os.getpid()}-{name}"
        if self._version == 2:  # noqa: PLR2004
            folder = self._make(_ROOT / label)
            (folder / "cpu.max").write_text(f"{quota_us} {_PERIOD_US}")
            if limits.ram_bytes is not None:
                (folder / "memory.max").write_text(str(limits.ram_bytes))
                with contextlib.suppress(OSError):  # Not there on a machine without swap.
                    (folder / "memory.swap.max").write_text("0")
            return [folder / "cgroup.procs"]
        cpu, memory = self._make(_ROOT / "cpu" / label), self._make(_ROOT / "memory" / label)
        (cpu / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
        (cpu / "cpu.cfs_quota_us").write_text(str(quota_us))
        if limits.ram_bytes is not None:
            (memory / "memory.limit_in_bytes").write_text(str(limits.ram_bytes))
            (memory / "memory.swappiness").write_text("0")
        return [cpu / "cgroup.procs", memory / "cgroup.procs"]

    def _make(self, folder: Path) -> Path:
        folder.mkdir()
        self._folders.append(folder)
        return folder

    def close(self) -> None:
        """Remove the groups; their processes must have ended."""
        deadline = time.monotonic() + _REMOVE_TIMEOUT_S
        for folder in self._folders:
            while folder.exists():
                try:
                    folder.rmdir()
                except OSError:
                    # The kernel frees a dead process's group a moment after its parent is told.
                    if time.monotonic() > deadline:
                        break
                    time.sleep(0.02)
        self._folders.clear()


def _cgroup_version() -> int | None:
    if os.access(_ROOT / "cpu", os.W_OK) and os.access(_ROOT / "memory", os.W_OK):
        return 1
    if os.access(_ROOT / "cgroup.subtree_control", os.W_OK):
        granted = (_ROOT / "cgroup.subtree_control").read_text().split()
        if {"cpu", "memory"} <= set(granted):
            return 2
    return None
