"""Keeps a record of each board, and adds the boards' messages to the records. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edge_core.contract.topics import OFFLINE, ONLINE
from mqtt_monitor.fleet.device_record import DeviceRecord
from mqtt_monitor.fleet.limits import MAX_BOARD_STAGES, MAX_DEVICES
from mqtt_monitor.fleet.snapshot import EventKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from mqtt_monitor.fleet.arrival import Arrival
    from mqtt_monitor.fleet.device_record import StageChange
    from mqtt_monitor.fleet.event_log import EventLog
    from mqtt_monitor.fleet.overflow import Overflow
    from mqtt_monitor.fleet.snapshot import Device, State


class DeviceTable:
    """Keeps a record of each board, at most ``MAX_DEVICES`` records.

    Attributes:
        records: The records, by the board's name.
    """

    def __init__(self, events: EventLog, overflow: Overflow) -> None:
        self.records: dict[str, DeviceRecord] = {}
        self._events = events
        self._overflow = overflow
        #: Number of stage counters of all boards together; at most MAX_BOARD_STAGES.
        self._counters = 0

    def fold_availability(self, arrival: Arrival, name: str) -> bool:
        """Add an availability message; return whether the message could be read.

        An empty message removes the board.
        """
        if not arrival.payload:
            # The retained message was cleared: the board was removed from the fleet.
            self.forget(name)
            return True
        if arrival.payload not in {ONLINE, OFFLINE}:
            return False
        device = self._get(name)
        if device is None:
            return True
        state: State = "online" if arrival.payload == ONLINE else "offline"
        before = device.state
        if not device.fold_state(state) or (before == "unknown" and arrival.retained):
            return True
        device.note_since(arrival.time_s)
        kind = EventKind.ONLINE if state == "online" else EventKind.OFFLINE
        self._events.add(arrival.time_s, kind, f"Board {name} is {state}.", device=name)
        return True

    def fold_profile(self, document: dict[str, Any], name: str, time_s: float) -> None:
        """Add a profile; if the profile shows a restart of the agent, also add an event.

        Args:
            document: The profile, as received.
            name: Name of the board.
            time_s: Arrival time, in seconds since the epoch.
        """
        device = self._get(name)
        if device is not None and device.fold_profile(document):
            self._note_restart(name, time_s)

    def fold_stats(
        self,
        document: dict[str, Any],
        name: str,
        time_s: float,
        stages_of: Callable[[str], frozenset[tuple[str, int]]],
    ) -> list[StageChange]:
        """Add statistics; return the new requests, one item for each stage of the board.

        Args:
            document: The statistics, as received.
            name: Name of the board.
            time_s: Arrival time, in seconds since the epoch.
            stages_of: A function that returns the stages that manifests assign to a board. The
                totals of these stages are kept even if the statistics do not contain the stages.
        """
        device = self._get(name)
        if device is None:
            return []
        before = len(device.counters)
        changes, restarted = device.fold_stats(document, time_s, MAX_BOARD_STAGES - self._counters)
        if device.has_unlisted():
            device.forget_counters(stages_of(name))
        self._counters += len(device.counters) - before
        if self._counters >= MAX_BOARD_STAGES:
            self._overflow.note("stages")
        if restarted:
            self._note_restart(name, time_s)
        for refusal in device.refusals.new:
            text = f"Board {name} refused deployment {refusal.deployment}: {refusal.reason}"
            self._events.add(
                time_s, EventKind.REFUSED, text, device=name, deployment=refusal.deployment
            )
        return changes

    def forget(self, name: str) -> None:
        """Remove a board; do nothing if the board is unknown."""
        gone = self.records.pop(name, None)
        self._counters -= len(gone.counters) if gone is not None else 0

    def note_monitor_gap(self) -> None:
        """Record that boards may have sent statistics while the monitor was disconnected."""
        for device in self.records.values():
            device.note_monitor_gap()

    def report_refusals(self) -> bool:
        """Return whether the statistics of every board report refusals; False without a board."""
        records = self.records.values()
        return bool(records) and all(device.refusals.are_reported for device in records)

    def view(self, now_s: float) -> dict[str, Device]:
        """Return the state of each board at ``now_s``; the keys are the boards' sorted names."""
        return {name: self.records[name].view(now_s) for name in sorted(self.records)}

    def _get(self, name: str) -> DeviceRecord | None:
        """Return a board's record; if there is none, create the record.

        Return None if the board is unknown and the table already has ``MAX_DEVICES`` records.
        """
        device = self.records.get(name)
        if device is None:
            if len(self.records) >= MAX_DEVICES:
                self._overflow.ignore("boards")
                return None
            device = self.records[name] = DeviceRecord(name)
        return device

    def _note_restart(self, name: str, time_s: float) -> None:
        text = f"The agent of board {name} restarted."
        self._events.add(time_s, EventKind.RESTARTED, text, device=name)
