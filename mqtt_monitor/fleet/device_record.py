"""Computes the state of one board from its messages. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Any

from mqtt_monitor.fleet.figures import MIB
from mqtt_monitor.fleet.limits import MAX_SERVED
from mqtt_monitor.fleet.link_meter import LinkMeter
from mqtt_monitor.fleet.read_values import (
    read_count,
    read_flag,
    read_list,
    read_name,
    read_number,
    read_signed,
    read_text,
)
from mqtt_monitor.fleet.refusal_log import RefusalLog
from mqtt_monitor.fleet.series import Series
from mqtt_monitor.fleet.snapshot import Device, Load, Profile, Served, State
from mqtt_monitor.fleet.stage_counter import Change, StageCounter
from mqtt_monitor.fleet.thresholds import QUEUE_SAMPLES

#: Statistics are too old after this number of periods. A period is the time between two statistics
#: messages.
_FRESH_PERIODS = 3.5
_DEFAULT_PERIOD_S = 5.0
#: Number of statistics messages (one minute) from which a clock's offset is estimated. Because of a
#: message's time on the network, the board's clock seems to be behind, never ahead. The largest
#: offset is therefore the best estimate.
_CLOCK_SAMPLES = 12

#: The values of a board whose last hour is kept.
DEVICE_FIGURES = (
    "cpu_percent",
    "temperature_c",
    "rss_bytes",
    "free_memory_bytes",
    "queue_length",
)


@dataclass(frozen=True)
class StageChange:
    """The new requests of one stage, from a board's newest statistics message.

    Attributes:
        deployment: Name of the stage's deployment.
        stage: Index of the stage.
        counter: The board's totals for the stage, which already include ``change``.
        change: The new requests.
    """

    deployment: str
    stage: int
    counter: StageCounter
    change: Change


class DeviceRecord:
    """Keeps what the monitor knows about one board.

    Attributes:
        name: Name of the board.
        state: The board's availability; ``unknown`` if none was published.
        since_s: Time of the last change of ``state``, in seconds since the epoch; None: the state
            has not changed since the monitor started.
        profile: The board's last profile; None: no profile yet.
        load: The load in the board's last statistics; None: no statistics yet.
        restarts: Number of restarts of the agent that the monitor noticed.
        missed_stats: Number of lost statistics messages.
        counters: The totals of each stage, by (name of deployment, index of stage).
        serves: The stages that the newest statistics contain.
        refusals: The deployments that the board refused.
        series: The last hour of each of ``DEVICE_FIGURES``, by the value's name.
        version: Number of changes of this record so far. A result computed from the record stays
            valid until this number changes.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.state: State = "unknown"
        self.since_s: float | None = None
        self.profile: Profile | None = None
        self.load: Load | None = None
        self.restarts = 0
        self.missed_stats = 0
        self.counters: dict[tuple[str, int], StageCounter] = {}
        self.serves: tuple[Served, ...] = ()
        self.refusals = RefusalLog()
        self.series = {figure: Series() for figure in DEVICE_FIGURES}
        self._listed: frozenset[tuple[str, int]] = frozenset()
        self._link = LinkMeter()
        self._queue_lengths: deque[int] = deque(maxlen=QUEUE_SAMPLES)
        self._clock_offsets_s: deque[float] = deque(maxlen=_CLOCK_SAMPLES)
        self._monitor_gap = False
        self.version = 0
        self._view: tuple[tuple[int, bool], Device] | None = None

    def fold_state(self, state: State) -> bool:
        """Set the board's availability; return whether the availability changed."""
        changed = state != self.state
        self.state = state
        self.version += changed
        return changed

    def note_since(self, time_s: float) -> None:
        """Set the time of the last change of ``state``, in seconds since the epoch."""
        self.since_s = time_s
        self.version += 1

    def fold_profile(self, document: dict[str, Any]) -> bool:
        """Set the board's profile; return whether the profile shows a restart of the agent.

        Args:
            document: The profile, as received.
        """
        self.version += 1
        before = self.profile.instance if self.profile else None
        ram_mib = read_number(document.get("ram_mib"))
        self.profile = Profile(
            instance=read_text(document.get("instance")),
            boot=read_text(document.get("boot")),
            agent=read_text(document.get("agent")),
            runtime=read_text(document.get("runtime")),
            python=read_text(document.get("python")),
            machine=read_text(document.get("machine")),
            system=read_text(document.get("system")),
            cpu_model=read_text(document.get("cpu_model")),
            cores=read_count(document.get("cores")),
            threads=read_count(document.get("threads")),
            total_memory_bytes=read_count(document.get("total_memory_bytes")),
            ram_limit_bytes=round(ram_mib * MIB) if ram_mib else None,
            free_memory_bytes=read_count(document.get("free_memory_bytes")),
            free_storage_bytes=read_count(document.get("free_storage_bytes")),
            matmul_gmac_s=read_number(document.get("matmul_gmac_s")),
        )
        now = self.profile.instance
        restarted = before is not None and now is not None and before != now
        self.restarts += restarted
        return restarted

    def note_monitor_gap(self) -> None:
        """Record that the board may have sent statistics while the monitor was disconnected."""
        self._monitor_gap = True

    def fold_stats(
        self, document: dict[str, Any], at_s: float, room_for_counters: int
    ) -> tuple[list[StageChange], bool]:
        """Add a statistics message.

        Args:
            document: The statistics, as received.
            at_s: Arrival time, in seconds since the epoch.
            room_for_counters: Number of further stages whose totals may be kept.

        Returns:
            The new requests, one item for each stage; and whether the message shows a restart of
            the agent. If the agent's profile has an ``instance``, the second value is always False,
            because :meth:`fold_profile` reports the restart.
        """
        before = self.load
        load = _read_load(document, at_s)
        self.refusals.new = ()
        if before is not None and _is_repeat(load, before):
            return [], False
        self.version += 1
        restarted = before is not None and _has_restarted(load, before)
        if before is not None and not restarted and not self._monitor_gap:
            self.missed_stats += _missed(load, before)
        self._monitor_gap = False
        elapsed_s = _elapsed_s(load, before, restarted=restarted)
        link = self._link.read(document.get("link"), None if restarted else elapsed_s)
        self.load = load = replace(load, link=link)
        self._note_figures(load, document)
        self.refusals.fold(document, load.at_s, known=before is not None)
        changes = self._fold_stages(
            document,
            load,
            elapsed_s,
            known=before is not None,
            restarted=restarted,
            room=room_for_counters,
        )
        reported = restarted and (self.profile is None or self.profile.instance is None)
        self.restarts += reported
        return changes, reported

    def _note_figures(self, load: Load, document: dict[str, Any]) -> None:
        if load.queue_length is not None:
            self._queue_lengths.append(load.queue_length)
        board_time_s = read_number(document.get("time_s"))
        if board_time_s is None:
            self._clock_offsets_s.clear()
        else:
            self._clock_offsets_s.append(board_time_s - load.at_s)
        for figure, series in self.series.items():
            series.add(load.at_s, getattr(load, figure))

    def _fold_stages(
        self,
        document: dict[str, Any],
        load: Load,
        elapsed_s: float | None,
        *,
        known: bool,
        restarted: bool,
        room: int,
    ) -> list[StageChange]:
        changes: list[StageChange] = []
        served: dict[tuple[str, int], Served] = {}
        for entry in read_list(document.get("stages"), MAX_SERVED):
            if not isinstance(entry, dict):
                continue
            deployment = read_name(entry.get("deployment"))
            index = read_count(entry.get("stage"))
            if deployment is None or index is None or (deployment, index) in served:
                continue
            key = (deployment, index)
            counter = self.counters.get(key)
            if counter is None:
                if room <= 0:
                    continue
                room -= 1
                counter = self.counters[key] = StageCounter()
            # A stage that was not in the previous statistics was loaded after them, so its counts
            # started at 0.
            change = counter.fold(
                entry,
                elapsed_s,
                period_s=load.period_s,
                from_zero=known and key not in self._listed,
                restarted=restarted or (known and key not in self._listed),
            )
            served[key] = Served(deployment, index, counter.generation)
            changes.append(StageChange(deployment, index, counter, change))
        self.serves = tuple(served.values())
        self._listed = frozenset(served)
        return changes

    def has_unlisted(self) -> bool:
        """Return whether the record has totals of a stage that is not in the newest statistics."""
        return len(self.counters) > len(self._listed)

    def forget_counters(self, wanted: frozenset[tuple[str, int]]) -> None:
        """Remove the totals of stages that are neither in the newest statistics nor in ``wanted``.

        Args:
            wanted: Stages to keep, as (name of deployment, index of stage).
        """
        for key in [key for key in self.counters if key not in self._listed and key not in wanted]:
            del self.counters[key]

    def is_fresh(self, now_s: float) -> bool:
        """Return whether the statistics are recent and the board is not offline."""
        if self.load is None or self.state == "offline":
            return False
        return abs(now_s - self.load.at_s) <= _FRESH_PERIODS * self.load.period_s

    def lists(self, deployment: str, stage: int) -> bool:
        """Return whether the newest statistics contain a stage.

        Args:
            deployment: Name of the stage's deployment.
            stage: Index of the stage.
        """
        return (deployment, stage) in self._listed

    def view(self, now_s: float) -> Device:
        """Return the state of the board at ``now_s``, in seconds since the epoch."""
        fresh = self.is_fresh(now_s)
        if self._view is not None and self._view[0] == (self.version, fresh):
            return self._view[1]
        device = Device(
            name=self.name,
            state=self.state,
            since_s=self.since_s,
            profile=self.profile,
            load=self.load,
            fresh=fresh,
            restarts=self.restarts,
            missed_stats=self.missed_stats,
            clock_offset_s=max(self._clock_offsets_s, default=None),
            queue_lengths=tuple(self._queue_lengths),
            serves=self.serves,
            refusals=self.refusals.current,
        )
        self._view = (self.version, fresh), device
        return device


def _read_load(document: dict[str, Any], at_s: float) -> Load:
    return Load(
        at_s=at_s,
        sequence=read_count(document.get("sequence")),
        # At most 300 s. Without this limit, statistics with a damaged period could count as recent
        # forever.
        period_s=min(read_number(document.get("period_s")) or _DEFAULT_PERIOD_S, 300.0),
        uptime_s=read_number(document.get("uptime_s")),
        cpu_percent=read_number(document.get("cpu_percent")),
        temperature_c=read_signed(document.get("temperature_c")),
        throttled=read_flag(document.get("throttled")),
        clock_mhz=read_number(document.get("clock_mhz")),
        rss_bytes=read_count(document.get("rss_bytes")),
        free_memory_bytes=read_count(document.get("free_memory_bytes")),
        queue_length=read_count(document.get("queue_length")),
    )


def _is_repeat(load: Load, before: Load) -> bool:
    return load.sequence is not None and (load.sequence, load.uptime_s) == (
        before.sequence,
        before.uptime_s,
    )


def _has_restarted(load: Load, before: Load) -> bool:
    if load.uptime_s is not None and before.uptime_s is not None:
        return load.uptime_s < before.uptime_s
    if load.sequence is not None and before.sequence is not None:
        return load.sequence <= before.sequence
    return False


def _missed(load: Load, before: Load) -> int:
    if load.sequence is None or before.sequence is None:
        return 0
    return max(0, load.sequence - before.sequence - 1)


def _elapsed_s(load: Load, before: Load | None, *, restarted: bool) -> float | None:
    """Return the time that the newest counts cover, in seconds; None: unknown.

    The counts cover the time since the previous statistics or, after a restart of the agent, the
    time since the restart. The time is computed from the agent's uptimes, because an uptime never
    jumps and does not depend on the network. If the agent reports no uptime, the time is the
    difference of the arrival times.
    """
    if before is None:
        return None
    if restarted:
        elapsed_s = load.uptime_s
    elif load.uptime_s is not None and before.uptime_s is not None:
        elapsed_s = load.uptime_s - before.uptime_s
    else:
        elapsed_s = load.at_s - before.at_s
    return elapsed_s if elapsed_s is not None and elapsed_s > 0 else None
