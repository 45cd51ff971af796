"""Keeps a record of each deployment, and adds manifests and counts to the records. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mqtt_monitor.fleet.deployment_record import DeploymentRecord
from mqtt_monitor.fleet.limits import MAX_DEPLOYMENTS, MAX_MANIFEST_BYTES, MAX_STAGES
from mqtt_monitor.fleet.snapshot import EventKind
from mqtt_monitor.fleet.thresholds import is_settled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mqtt_monitor.fleet.arrival import Arrival
    from mqtt_monitor.fleet.device_record import DeviceRecord, StageChange
    from mqtt_monitor.fleet.event_log import EventLog
    from mqtt_monitor.fleet.overflow import Overflow
    from mqtt_monitor.fleet.snapshot import Deployment


class DeploymentTable:
    """Keeps a record of each deployment, at most ``MAX_DEPLOYMENTS`` records.

    Attributes:
        records: The records, by the deployment's name.
    """

    def __init__(self, events: EventLog, overflow: Overflow) -> None:
        self.records: dict[str, DeploymentRecord] = {}
        self._events = events
        self._overflow = overflow

    def fold_manifest(self, arrival: Arrival, name: str) -> bool:
        """Add a manifest; return whether the manifest could be read.

        An empty message removes the deployment.
        """
        if not arrival.payload:
            self.forget(name, arrival.time_s, f"Deployment {name} was undeployed.")
            return True
        if len(arrival.payload) > MAX_MANIFEST_BYTES:
            return False
        record = self.records.get(name)
        if record is None:
            if len(self.records) >= MAX_DEPLOYMENTS:
                self._overflow.ignore("deployments")
                return True
            record = self.records[name] = DeploymentRecord(name)
        generation, problem = record.generation, record.problem
        others = sum(len(other.stages) for other in self.records.values() if other is not record)
        if not record.fold_manifest(arrival.payload, MAX_STAGES - others):
            self._overflow.note("stages")
        if (record.generation, record.problem) != (generation, problem):
            self._note_manifest(arrival, record, generation)
        return record.problem is None

    def _note_manifest(
        self, arrival: Arrival, record: DeploymentRecord, before: str | None
    ) -> None:
        name = record.name
        if record.problem is not None:
            kind = EventKind.UNREADABLE_MANIFEST
            text = f"A manifest of deployment {name} can't be read: {record.problem}"
        elif before is not None and record.generation != before:
            kind = EventKind.REDEPLOYED
            now = record.generation
            text = f"Deployment {name}: generation {now} replaced generation {before}."
        elif before is None and not arrival.retained:
            kind = EventKind.DEPLOYED
            text = f"Deployment {name}: generation {record.generation} is live."
        else:
            return
        if record.problem is None:
            record.since_s = arrival.time_s
        self._events.add(arrival.time_s, kind, text, deployment=name)

    def fold_changes(
        self,
        changes: list[StageChange],
        device: DeviceRecord,
        devices: Mapping[str, DeviceRecord],
        time_s: float,
    ) -> None:
        """Add the new requests from a board's newest statistics to the deployments' records.

        Args:
            changes: The new requests, one item for each stage of the board.
            device: The board's record.
            devices: The records of all boards, by name.
            time_s: Arrival time of the statistics, in seconds since the epoch.
        """
        for item in changes:
            deployment = self.records.get(item.deployment)
            if deployment is not None:
                deployment.fold_change(item, device, devices)
                self._note_mismatch(deployment, item, device.name, time_s)
            failed = item.change.failed
            if item.counter.events.is_new_burst(item.change.answered, failed, time_s):
                text = (
                    f"Board {device.name} answered {failed:,} requests for {item.deployment} "
                    f"stage {item.stage} with errors."
                )
                self._events.add(
                    time_s, EventKind.ERRORS, text, device=device.name, deployment=item.deployment
                )

    def _note_mismatch(
        self, deployment: DeploymentRecord, item: StageChange, device: str, time_s: float
    ) -> None:
        serves, live = item.counter.generation, deployment.generation
        settled = is_settled(deployment.since_s, time_s)
        if item.counter.events.is_new_mismatch(serves, live, settled=settled):
            text = (
                f"Board {device} serves generation {serves} of {deployment.name} stage "
                f"{item.stage}; the live generation is {live}."
            )
            kind = EventKind.GENERATION_MISMATCH
            self._events.add(time_s, kind, text, device=device, deployment=deployment.name)

    def forget(self, name: str, time_s: float, text: str) -> None:
        """Remove a deployment and add an event; do nothing if the deployment is unknown.

        Args:
            name: Name of the deployment.
            time_s: Time of the event, in seconds since the epoch.
            text: The event as a sentence.
        """
        if self.records.pop(name, None) is not None:
            self._events.add(time_s, EventKind.UNDEPLOYED, text, deployment=name)

    def stages_of(self, device: str) -> frozenset[tuple[str, int]]:
        """Return the stages that manifests assign to a board, as (deployment, index of stage)."""
        return frozenset(
            (deployment.name, stage.index)
            for deployment in self.records.values()
            for stage in deployment.stages
            if device in stage.devices
        )

    def of_generation(self, generation: str | None) -> str | None:
        """Return the deployment whose live generation is ``generation``; None: no deployment."""
        if generation is None:
            return None
        for record in self.records.values():
            if record.generation == generation:
                return record.name
        return None

    def view(self, devices: Mapping[str, DeviceRecord], now_s: float) -> dict[str, Deployment]:
        """Return the state of each deployment; the keys are the deployments' sorted names.

        Args:
            devices: The records of all boards, by name.
            now_s: The present time, in seconds since the epoch.
        """
        return {name: self.records[name].view(devices, now_s) for name in sorted(self.records)}
