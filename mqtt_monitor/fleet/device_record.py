"""What is known of one board, message by message."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Any

from mqtt_monitor.fleet.figures import MIB
from mqtt_monitor.fleet.limits import MAX_REFUSALS, MAX_SERVED
from mqtt_monitor.fleet.read_values import (
    read_count,
    read_flag,
    read_list,
    read_name,
    read_number,
    read_signed,
    read_text,
)
from mqtt_monitor.fleet.series import Series
from mqtt_monitor.fleet.snapshot import Device, Link, Load, Profile, Refusal, Served, State
from mqtt_monitor.fleet.stage_counter import Change, StageCounter

#: Statistics older than this many periods say nothing of now.
_FRESH_PERIODS = 3.5
_DEFAULT_PERIOD_S = 5.0
#: A board that was not heard of before tells a refusal as news for so long.
_NEWS_S = 15.0
#: Half a minute.
_QUEUE_LENGTHS = 6
#: A message's way makes a clock look slow, never fast: the largest of a minute's is the best.
_CLOCK_SAMPLES = 12

#: Figures of a board that are kept for an hour.
DEVICE_FIGURES = (
    "cpu_percent",
    "temperature_c",
    "rss_bytes",
    "free_memory_bytes",
    "queue_length",
)


@dataclass(frozen=True)
class StageChange:
    """What one message changed for one stage of a board."""

    deployment: str
    stage: int
    counter: StageCounter
    change: Change


class DeviceRecord:
    """Follows one board."""

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
        #: Whether its agent's version tells of refusals.
        self.tells_refusals = False
        self.refusals: tuple[Refusal, ...] = ()
        #: Those of ``refusals`` that the newest statistics told first.
        self.refused_now: tuple[Refusal, ...] = ()
        self._refused_at_s: dict[str, float] = {}
        self.series = {figure: Series() for figure in DEVICE_FIGURES}
        self._listed: frozenset[tuple[str, int]] = frozenset()
        #: The interface that ``_moved`` counts for.
        self._interface: str | None = None
        self._moved: tuple[int | None, int | None] = (None, None)
        self._queue_lengths: deque[int] = deque(maxlen=_QUEUE_LENGTHS)
        self._clock_offsets_s: deque[float] = deque(maxlen=_CLOCK_SAMPLES)
        self._gap_is_ours = False
        #: Counts changes, so that what was made of this board can be kept until the next.
        self.version = 0
        self._view: tuple[tuple[int, bool], Device] | None = None

    def fold_state(self, state: State) -> bool:
        """Take an availability; return whether it changed."""
        changed = state != self.state
        self.state = state
        self.version += changed
        return changed

    def note_since(self, time_s: float) -> None:
        """Take note of when the state changed."""
        self.since_s = time_s
        self.version += 1

    def fold_profile(self, document: dict[str, Any]) -> bool:
        """Take a profile; return whether it shows that the agent was started anew."""
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

    def watcher_was_away(self) -> None:
        """Take note that statistics may have been sent which nobody could see."""
        self._gap_is_ours = True

    def fold_stats(
        self, document: dict[str, Any], at_s: float, room_for_counters: int
    ) -> tuple[list[StageChange], bool]:
        """Take statistics; return what they changed, and whether the agent was started anew.

        A restart is told here only for agents whose profile names no instance.
        """
        before = self.load
        load = _read_load(document, at_s)
        self.refused_now = ()
        if before is not None and _is_repeat(load, before):
            return [], False
        self.version += 1
        restarted = before is not None and _began_anew(load, before)
        if before is not None and not restarted and not self._gap_is_ours:
            self.missed_stats += _missed(load, before)
        self._gap_is_ours = False
        elapsed_s = _elapsed_s(load, before, restarted=restarted)
        link = self._read_link(document, None if restarted else elapsed_s)
        self.load = load = replace(load, link=link)
        self._note_figures(load, document)
        self._fold_refusals(document, load, known=before is not None)
        changes = self._fold_stages(
            document,
            load,
            elapsed_s,
            known=before is not None,
            restarted=restarted,
            room=room_for_counters,
        )
        told = restarted and (self.profile is None or self.profile.instance is None)
        self.restarts += told
        return changes, told

    def _read_link(self, document: dict[str, Any], elapsed_s: float | None) -> Link | None:
        fields = document.get("link")
        interface = read_text(fields.get("interface")) if isinstance(fields, dict) else None
        if not isinstance(fields, dict) or interface is None:
            self._interface = None
            return None
        moved = (read_count(fields.get("received_bytes")), read_count(fields.get("sent_bytes")))
        before = self._moved if interface == self._interface else (None, None)
        self._interface, self._moved = interface, moved
        in_per_s, out_per_s = (
            (now - then) / elapsed_s
            if elapsed_s and now is not None and then is not None and now >= then
            else None
            for now, then in zip(moved, before, strict=True)
        )
        return Link(
            interface=interface,
            speed_mbit_s=read_number(fields.get("speed_mbit_s")),
            signal_dbm=read_signed(fields.get("signal_dbm")),
            in_bytes_per_s=in_per_s,
            out_bytes_per_s=out_per_s,
            received_bytes=moved[0],
            sent_bytes=moved[1],
        )

    def _fold_refusals(self, document: dict[str, Any], load: Load, *, known: bool) -> None:
        self.tells_refusals = "refusals" in document
        now_s = read_number(document.get("time_s"))
        refusals: list[Refusal] = []
        news: list[Refusal] = []
        told: dict[str, float] = {}
        for entry in read_list(document.get("refusals"), MAX_REFUSALS):
            if not isinstance(entry, dict):
                continue
            deployment = read_name(entry.get("deployment"))
            then_s = read_number(entry.get("time_s"))
            if deployment is None or then_s is None or deployment in told:
                continue
            # Both times are the board's, so that its clock may be off.
            age_s = max(0.0, now_s - then_s) if now_s is not None else 0.0
            code = read_text(entry.get("code")) or "other"
            refusal = Refusal(
                deployment=deployment,
                generation=read_name(entry.get("generation")),
                code=code,
                reason=read_text(entry.get("reason")) or code,
                at_s=load.at_s - age_s,
            )
            told[deployment] = then_s
            if self._refused_at_s.get(deployment) == then_s:
                # The message's way differs; what was shown stays.
                earlier = next(item for item in self.refusals if item.deployment == deployment)
                refusals.append(earlier)
                continue
            refusals.append(refusal)
            if known or age_s <= _NEWS_S:
                news.append(refusal)
        self.refusals, self.refused_now = tuple(refusals), tuple(news)
        self._refused_at_s = told

    def _note_figures(self, load: Load, document: dict[str, Any]) -> None:
        if load.queue_length is not None:
            self._queue_lengths.append(load.queue_length)
        their_time_s = read_number(document.get("time_s"))
        if their_time_s is None:
            self._clock_offsets_s.clear()
        else:
            self._clock_offsets_s.append(their_time_s - load.at_s)
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
            # A stage that wasn't listed before has been loaded since: it counts from 0.
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
        """Return whether counts are kept of stages that its newest statistics don't list."""
        return len(self.counters) > len(self._listed)

    def forget_counters(self, wanted: frozenset[tuple[str, int]]) -> None:
        """Drop the counts of stages that are neither listed by the board nor ``wanted``."""
        for key in [key for key in self.counters if key not in self._listed and key not in wanted]:
            del self.counters[key]

    def is_fresh(self, now_s: float) -> bool:
        """Return whether its statistics speak of now."""
        if self.load is None or self.state == "offline":
            return False
        return abs(now_s - self.load.at_s) <= _FRESH_PERIODS * self.load.period_s

    def lists(self, deployment: str, stage: int) -> bool:
        """Return whether its newest statistics list a stage."""
        return (deployment, stage) in self._listed

    def view(self, now_s: float) -> Device:
        """Return the board as it stands."""
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
            refusals=self.refusals,
        )
        self._view = (self.version, fresh), device
        return device


def _read_load(document: dict[str, Any], at_s: float) -> Load:
    return Load(
        at_s=at_s,
        sequence=read_count(document.get("sequence")),
        # A garbled period must not make statistics fresh for ever.
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


def _began_anew(load: Load, before: Load) -> bool:
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
    """Return the seconds in which the newest counts grew.

    By the agent's own clock, which doesn't jump and knows no way of messages; else by ours.
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
