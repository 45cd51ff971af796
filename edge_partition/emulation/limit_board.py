"""Limits for the agents of emulated boards: a share of the processors, and an amount of memory.

The kernel enforces the limits in control groups (cgroups, version 1 or 2). If this process may not
create control groups, ``systemd-run`` asks the user's systemd for the limits. The kernel kills an
agent that exceeds its memory limit, as on a board without swap.

A board with a share of one processor or less is bound to one of this machine's processors. If
edge-partition runs as root, :mod:`edge_partition.emulation.pace_processor` makes the board equally
slow in every millisecond. Without root, the time of the same short inference (a few milliseconds)
varies.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_core.errors import EdgePartitionError
from edge_core.program.die_with_parent import bound_to_caller
from edge_partition.emulation import enter_cgroups, pace_processor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_partition.planning.fleet import Fleet

_ROOT = Path("/sys/fs/cgroup")
_LABEL = "edge-partition-"
#: Period of a CPU quota without the helper ``tick``, in microseconds: a few of the kernel's own
#: ticks, which are 4 ms apart.
_UNPACED_PERIOD_US = 10_000
#: Shortest CPU quota that the kernel accepts, in microseconds.
_QUOTA_US = 1_000
#: Least share of a processor for a board: one millisecond in fifty. With a smaller share, a board
#: would pause too long between its milliseconds.
_LEAST_SHARE = 0.02
#: Priorities of a board in cgroup versions 1 and 2. Within its share, a board has priority over
#: other processes on its processor, because real boards share no processor with the broker and the
#: client. At equal priority, inferences of 11 ms took 14 ms while requests arrived.
_CPU_SHARES = 262_144
_CPU_WEIGHT = 10_000
#: Largest share of a processor that boards get. The rest is for the broker, client and kernel.
_USABLE_SHARE = 0.85
_REMOVE_TIMEOUT_S = 5.0


class EmulationError(EdgePartitionError):
    """This machine can't emulate the boards: it can't limit processes, or a share is too small."""


@dataclass(frozen=True)
class Limits:
    """Limits of one emulated board.

    Attributes:
        cpu_share: Share of one processor of this machine; 2.0 is two processors.
        ram_bytes: Limit of the agent's memory, page cache included; None: unlimited.
        cpu: Number of the processor that the agent is bound to; None: the agent may use all
            processors, which a share above 1 needs.
    """

    cpu_share: float
    ram_bytes: int | None
    cpu: int | None = None


def board_limits(fleet: Fleet, host_gmac_s: float) -> tuple[dict[str, Limits], float]:
    """Return each board's limits by name, and the factor by which all shares were scaled.

    Args:
        fleet: The boards, with their speeds.
        host_gmac_s: Speed of one processor of this machine, in the unit of
            :attr:`Device.speed_gmac_s`.

    Returns:
        The limits by board name, and a factor of 1 or less. The factor is below 1 if this machine
        cannot run all boards at full speed.

    Raises:
        EmulationError: A board's share of a processor is below 2 %.
    """
    shares = {device.name: device.speed_gmac_s / host_gmac_s for device in fleet.devices}
    cpus = sorted(os.sched_getaffinity(0))
    scale = min(1.0, _USABLE_SHARE * len(cpus) / sum(shares.values()))
    places, load = _place({name: share * scale for name, share in shares.items()}, cpus)
    scale *= min(1.0, _USABLE_SHARE / load)
    limits = {
        device.name: Limits(
            cpu_share=shares[device.name] * scale,
            ram_bytes=int(device.ram_mib * 2**20) if device.ram_mib < float("inf") else None,
            cpu=places[device.name],
        )
        for device in fleet.devices
    }
    smallest = min(limits, key=lambda name: limits[name].cpu_share)
    if limits[smallest].cpu_share < _LEAST_SHARE:
        raise EmulationError(
            f"{smallest} would get {limits[smallest].cpu_share:.1%} of a processor; expected "
            f"{_LEAST_SHARE:.0%} or more. Emulate fewer boards."
        )
    return limits, scale


def _place(shares: dict[str, float], cpus: list[int]) -> tuple[dict[str, int | None], float]:
    """Assign boards to processors, the board with the largest share first.

    Args:
        shares: Each board's share of a processor, by name.
        cpus: The processors.

    Returns:
        First, each board's processor by board name; None for a board with a share above 1. Second,
        the largest sum of the shares on one processor.
    """
    load = dict.fromkeys(cpus, sum(share for share in shares.values() if share > 1) / len(cpus))
    places: dict[str, int | None] = {}
    for name in sorted(shares, key=lambda name: -shares[name]):
        if shares[name] > 1:
            places[name] = None
            continue
        cpu = min(cpus, key=lambda cpu: load[cpu])
        places[name] = cpu
        load[cpu] += shares[name]
    return places, max(load.values())


class BoardLimiter:
    """Makes command lines that run agents under limits.

    For the limits, this object creates control groups and helper processes. :meth:`close` removes
    both.
    """

    def __init__(self) -> None:
        """Find out whether control groups or systemd can limit processes on this machine.

        Raises:
            EmulationError: Neither can limit processes.
        """
        self._folders: list[Path] = []
        self._helpers: list[subprocess.Popen[bytes]] = []
        self._is_paced: dict[int, bool] = {}
        self._version = _cgroup_version()
        _remove_left_behind()
        if self._version is None and not _user_manager_limits():
            raise EmulationError(
                "This machine can't limit the processor and memory of a process: cgroups can't be "
                "written, and systemd-run is missing or may not limit processors. Run as root, or "
                "leave out --emulate."
            )

    def command(self, name: str, limits: Limits, words: Sequence[str]) -> list[str]:
        """Return a command line that runs the command ``words`` under ``limits``.

        Raises:
            EmulationError: The kernel refused a limit.
        """
        if self._version is None:
            scope = ["systemd-run", "--user", "--scope", "--quiet"]
            scope += ["-p", f"CPUQuota={limits.cpu_share:.1%}"]
            scope += ["-p", f"CPUQuotaPeriodSec={_period_us(limits.cpu_share, paced=False)}us"]
            scope += ["-p", f"CPUWeight={_CPU_WEIGHT}"]
            if limits.ram_bytes is not None:
                scope += ["-p", f"MemoryMax={limits.ram_bytes}", "-p", "MemorySwapMax=0"]
            return [*scope, "--", *_enter(limits.cpu, [], words)]
        try:
            members = self._make_groups(name, limits)
        except OSError as error:
            raise EmulationError(
                f"The kernel refused to limit {name}: {error}. Run as root on a machine with "
                "cgroups, or leave out --emulate."
            ) from None
        if limits.cpu is not None and self._pace(limits.cpu):
            self._help("idle", limits.cpu, members[0])
        # The process enters its groups before it becomes the agent, so the limits hold for the
        # agent from the start.
        return _enter(limits.cpu, members, words)

    def _make_groups(self, name: str, limits: Limits) -> list[Path]:
        paced = limits.cpu is not None and self._pace(limits.cpu)
        period_us = _period_us(limits.cpu_share, paced=paced)
        quota_us = max(_QUOTA_US, round(limits.cpu_share * period_us))
        label = f"{_LABEL}{os.getpid()}-{name}"
        if self._version == 2:  # noqa: PLR2004
            folder = self._make(_ROOT / label)
            (folder / "cpu.max").write_text(f"{quota_us} {period_us}")
            (folder / "cpu.weight").write_text(str(_CPU_WEIGHT))
            if limits.ram_bytes is not None:
                (folder / "memory.max").write_text(str(limits.ram_bytes))
                with contextlib.suppress(OSError):  # Not there on a machine without swap.
                    (folder / "memory.swap.max").write_text("0")
            return [folder / "cgroup.procs"]
        cpu, memory = self._make(_ROOT / "cpu" / label), self._make(_ROOT / "memory" / label)
        (cpu / "cpu.cfs_period_us").write_text(str(period_us))
        (cpu / "cpu.cfs_quota_us").write_text(str(quota_us))
        (cpu / "cpu.shares").write_text(str(_CPU_SHARES))
        if limits.ram_bytes is not None:
            (memory / "memory.limit_in_bytes").write_text(str(limits.ram_bytes))
            (memory / "memory.swappiness").write_text("0")
        return [cpu / "cgroup.procs", memory / "cgroup.procs"]

    def _pace(self, cpu: int) -> bool:
        """Start a processor's helpers if they do not run; return whether the kernel allows them."""
        if cpu not in self._is_paced:
            self._is_paced[cpu] = self._help("tick", cpu) and self._help("idle", cpu)
        return self._is_paced[cpu]

    def _help(self, *words: object) -> bool:
        """Start ``pace_processor`` with the arguments ``words``; return whether it started."""
        helper = [sys.executable, "-I", "-S", pace_processor.__file__, *map(str, words)]
        process = subprocess.Popen(
            bound_to_caller(helper),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._helpers.append(process)
        return process.stdout is not None and bool(process.stdout.readline())

    def _make(self, folder: Path) -> Path:
        folder.mkdir()
        self._folders.append(folder)
        return folder

    def close(self) -> None:
        """End the helper processes and remove the control groups.

        The agents must have ended, because a group with a running process can't be removed.
        """
        for helper in self._helpers:
            helper.kill()
            helper.wait()
            if helper.stdout is not None:
                helper.stdout.close()
        self._helpers.clear()
        self._is_paced.clear()
        deadline = time.monotonic() + _REMOVE_TIMEOUT_S
        for folder in self._folders:
            while folder.exists():
                try:
                    folder.rmdir()
                except OSError:
                    # A group stays in use for a moment after the end of its last process.
                    if time.monotonic() > deadline:
                        break
                    time.sleep(0.02)
        self._folders.clear()


def _remove_left_behind() -> None:
    """Remove the control groups of earlier processes that were killed before :meth:`close`."""
    for parent in (_ROOT, _ROOT / "cpu", _ROOT / "memory"):
        for folder in parent.glob(f"{_LABEL}*"):
            owner = folder.name.removeprefix(_LABEL).partition("-")[0]
            if not Path("/proc", owner).exists():
                with contextlib.suppress(OSError):
                    folder.rmdir()


def _period_us(cpu_share: float, *, paced: bool) -> int:
    """Return the period of the CPU quota for a share of a processor, in microseconds.

    If the helper ``tick`` runs on the processor (``paced``), the period is the shortest for which
    the kernel accepts the quota. Without ``tick``, the period is at least ``_UNPACED_PERIOD_US``.
    """
    shortest_us = round(_QUOTA_US / min(1.0, cpu_share))
    return shortest_us if paced else max(shortest_us, _UNPACED_PERIOD_US)


def _enter(cpu: int | None, members: Sequence[Path], words: Sequence[str]) -> list[str]:
    place = enter_cgroups.ANY_CPU if cpu is None else str(cpu)
    start = [sys.executable, "-I", "-S", enter_cgroups.__file__, place, *map(str, members)]
    return [*start, "--", *words]


def _user_manager_limits() -> bool:
    """Return whether the user's own systemd may limit processors and memory.

    Without the controllers ``cpu`` and ``memory``, the user's systemd accepts limits but does not
    enforce them (systemd.resource-control(5), "Delegation"). Versions of systemd before 252 give
    users no controller ``cpu``.
    """
    if shutil.which("systemd-run") is None:
        return False
    user = os.getuid()
    manager = _ROOT / f"user.slice/user-{user}.slice/user@{user}.service/cgroup.controllers"
    try:
        return {"cpu", "memory"} <= set(manager.read_text().split())
    except OSError:
        return False


def _cgroup_version() -> int | None:
    if os.access(_ROOT / "cpu", os.W_OK) and os.access(_ROOT / "memory", os.W_OK):
        return 1
    if os.access(_ROOT / "cgroup.subtree_control", os.W_OK):
        granted = (_ROOT / "cgroup.subtree_control").read_text().split()
        if {"cpu", "memory"} <= set(granted):
            return 2
    return None
