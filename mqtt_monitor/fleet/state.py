"""The fleet's state, folded from messages. Pure: no clock, no socket; times are arguments.

For whoever writes a face (terminal, web page, metrics): take a
:class:`mqtt_monitor.feeds.feed.Feed` and show what it gives; nothing here is called by faces
directly.

```
feed.snapshot() -> Fleet                         # cheap enough for a few times a second
find_alerts(fleet) -> tuple[Alert, ...]          # mqtt_monitor.fleet.alerts: sentences, worst first
feed.device_history("pi-1", "cpu_percent")       # [(time_s, value or None), ...], the last hour
feed.stage_history("mobilenet", 0, "invoke_ms", step_s=60)
seen = feed.wait_for_change(seen, timeout_s=1)   # begin with 0; the same again: nothing arrived
```

A :class:`~mqtt_monitor.fleet.snapshot.Fleet` is frozen, may be kept, compared and handed between
threads:

```
Fleet
  at_s                       now, seconds since 1970
  broker: Broker             url, connected, since_s, reason. While not connected: as it was then
  devices: {name: Device}    sorted by name
    state, since_s           "online" | "offline" | "unknown" (never said); None: before us
    profile: Profile | None  hardware, runtime, agent's version, ram_limit_bytes ...
    load: Load | None        cpu_percent (of ONE core), temperature_c, throttled, rss_bytes,
                             free_memory_bytes, queue_length, uptime_s, clock_mhz, at_s,
                             link: Link | None (interface, speed_mbit_s, signal_dbm,
                             in_bytes_per_s, out_bytes_per_s: of everything that uses it)
    fresh                    load is recent; show it dimmed where it isn't
    restarts, missed_stats, clock_offset_s, queue_lengths, serves
    refusals: (Refusal, ...) what it refused last: deployment, generation, code, reason, at_s
    ram_limit_bytes, free_memory_bytes                     properties: from the newest that tells
  deployments: {name: Deployment}
    generation, since_s, model, quantization, weights, wire
    state                    "live" | "broken" | "unreadable" (then problem says why)
    requests_per_s           results
    bottleneck               index of the stage that sets the pace
    stages: (Stage, ...)     in order
      index, devices, size_bytes
      predicted_ms, predicted_ram_bytes                    the plan
      invoke_ms, invoke_minute_ms, queue_ms                reality: newest period, last minute
      requests_per_s, errors_per_s
      input, output: Boundary      tensors, request_bytes, bytes_per_s, lost, repeated
      boards: (BoardStage, ...)    one a replica: the same figures, totals for counters, serves,
                                   generation (another than the deployment's: a mismatch)
  requests: (Request, ...)   oldest first: stages (queue_ms and invoke_ms each), latency_ms, error
  events: (Event, ...)       oldest first: number, at_s, kind, text, device, deployment
  too_many                   what there was more of than is kept; say so
  messages                   read, unreadable, ignored
```

Every figure may be None: another version's agent doesn't tell it, none came yet, or the last is too
old. Texts that came from the network (names of models, processors, clients, error sentences) hold
no control characters and 200 characters at most, but may hold markup: escape them as your medium
asks. Names of boards and deployments are letters, digits, ``.``, ``_`` and ``-``.

Where each figure comes from: states from ``availability``, hardware from ``profile``, load and
counts from ``stats``, plans from ``manifest``. Rates are differences of the boards' counts, by the
boards' own uptime; an agent's restart, whose counts begin at 0, makes them neither negative nor
large. Bytes a second are rates times the manifest's tensor sizes: payload, without MQTT's headers.
Requests come from ``client/{client}/trace``, where clients tell, and from results while a face
asked for them (:class:`mqtt_monitor.feeds.live.LiveFeed`).

Memory is bounded by :mod:`mqtt_monitor.fleet.limits`, whatever is sent.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from edge_core.contract.topics import OFFLINE, ONLINE, Topics
from mqtt_monitor.fleet.deployment_record import DeploymentRecord
from mqtt_monitor.fleet.device_record import DeviceRecord
from mqtt_monitor.fleet.limits import (
    MAX_BOARD_STAGES,
    MAX_DEPLOYMENTS,
    MAX_DEVICES,
    MAX_EVENTS,
    MAX_MANIFEST_BYTES,
    MAX_PROFILE_BYTES,
    MAX_REQUESTS,
    MAX_STAGES,
    MAX_STATS_BYTES,
)
from mqtt_monitor.fleet.read_values import read_name, read_object
from mqtt_monitor.fleet.requests import read_refusal, read_report, read_result
from mqtt_monitor.fleet.snapshot import Broker, Event, EventKind, Fleet, Messages, Request

if TYPE_CHECKING:
    from mqtt_monitor.fleet.arrival import Arrival
    from mqtt_monitor.fleet.device_record import StageChange
    from mqtt_monitor.fleet.series import Series
    from mqtt_monitor.fleet.snapshot import State

#: For so long after a manifest, boards may still say the generation before.
GENERATION_GRACE_S = 15.0
#: After a lost line a broker sends what it retains at once, but one that was restarted may have
#: forgotten it: agents try again every 8 s at most, and publish it anew.
CONFIRMATION_S = 12.0
#: So many errors in one period, and this share of its requests, are a burst.
_BURST_ERRORS = 5
_BURST_SHARE = 0.1
#: A burst that goes on is told again after so long.
_BURST_AGAIN_S = 60.0


def is_settled(since_s: float | None, now_s: float) -> bool:
    """Return whether boards have had their time to take what is live since ``since_s``.

    None: it was live before the watcher came.
    """
    return since_s is None or now_s - since_s > GENERATION_GRACE_S


class FleetState:
    """Folds messages; not thread-safe."""

    def __init__(self, prefix: str, broker_url: str) -> None:
        """Start with nothing known.

        Args:
            prefix: The topics' prefix.
            broker_url: For showing, without secrets.

        Raises:
            TopicPrefixError: The prefix is no topic prefix.
        """
        self._prefix = Topics(prefix).prefix + "/"
        self._broker = Broker(broker_url, connected=False)
        self._devices: dict[str, DeviceRecord] = {}
        self._deployments: dict[str, DeploymentRecord] = {}
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._event_number = 0
        self._requests: deque[Request] = deque(maxlen=MAX_REQUESTS)
        self._too_many: set[str] = set()
        #: Stages on boards that are counted.
        self._counters = 0
        self._read = self._unreadable = self._ignored = 0
        #: Known from before the line was lost, not heard of since it was made again.
        self._unconfirmed_devices: set[str] = set()
        self._unconfirmed_deployments: set[str] = set()
        self._confirmed_by_s: float | None = None

    # Folding

    def note_broker(self, time_s: float, *, connected: bool, reason: str | None = None) -> None:
        """Take note that the line to the broker was made or lost."""
        if connected == self._broker.connected and self._broker.since_s is not None:
            return
        first = self._broker.since_s is None
        self._broker = Broker(self._broker.url, connected, time_s, reason)
        if first and connected:
            return
        if connected:
            for device in self._devices.values():
                device.watcher_was_away()
            self._unconfirmed_devices = set(self._devices)
            self._unconfirmed_deployments = set(self._deployments)
            self._confirmed_by_s = time_s + CONFIRMATION_S
            self._note(time_s, EventKind.BROKER_BACK, "The broker is back.")
        else:
            self._confirmed_by_s = None
            why = f": {reason}" if reason else ""
            text = f"Lost the connection to the broker{why}; trying again."
            self._note(time_s, EventKind.BROKER_AWAY, text)

    def fold(self, arrival: Arrival) -> None:
        """Take a message. Never raises, whatever it holds."""
        self._forget_unconfirmed(arrival.time_s)
        read = None
        if arrival.topic.startswith(self._prefix):
            match arrival.topic[len(self._prefix) :].split("/"):
                case ["device", name, kind]:
                    read = self._fold_device(arrival, name, kind)
                case ["deployment", name, "manifest"]:
                    read = self._fold_manifest(arrival, name)
                case ["client", client, "result"]:
                    read = self._fold_result(arrival, client)
                case ["client", client, "trace"]:
                    read = self._fold_report(arrival, client)
        if read:
            self._read += 1
        else:
            self._unreadable += 1

    def _fold_device(self, arrival: Arrival, name: str, kind: str) -> bool:
        """Return whether the message could be read."""
        if read_name(name) is None:
            return False
        self._unconfirmed_devices.discard(name)
        if kind == "availability":
            return self._fold_availability(arrival, name)
        limits = {"profile": MAX_PROFILE_BYTES, "stats": MAX_STATS_BYTES}
        document = read_object(arrival.payload, limits[kind]) if kind in limits else None
        if document is None:
            return kind == "profile" and not arrival.payload
        device = self._device(name)
        if device is None:
            return True
        if kind == "stats":
            self._fold_stats(device, document, arrival.time_s)
        elif device.fold_profile(document):
            self._note_restart(arrival.time_s, name)
        return True

    def _fold_availability(self, arrival: Arrival, name: str) -> bool:
        if not arrival.payload:
            # Somebody cleared what was retained: this board is not to be remembered.
            self._forget_device(name)
            return True
        if arrival.payload not in {ONLINE, OFFLINE}:
            return False
        device = self._device(name)
        if device is None:
            return True
        state: State = "online" if arrival.payload == ONLINE else "offline"
        before = device.state
        if not device.fold_state(state) or (before == "unknown" and arrival.retained):
            return True
        device.note_since(arrival.time_s)
        kind = EventKind.ONLINE if state == "online" else EventKind.OFFLINE
        self._note(arrival.time_s, kind, f"Board {name} is {state}.", device=name)
        return True

    def _forget_device(self, name: str) -> None:
        gone = self._devices.pop(name, None)
        self._counters -= len(gone.counters) if gone is not None else 0

    def _forget_unconfirmed(self, now_s: float) -> None:
        """Drop what the broker doesn't retain any more: it went while the line was lost."""
        if self._confirmed_by_s is None or now_s < self._confirmed_by_s:
            return
        for name in self._unconfirmed_devices:
            self._forget_device(name)
        for name in sorted(self._unconfirmed_deployments & self._deployments.keys()):
            del self._deployments[name]
            text = f"{name} was undeployed while the broker was out of reach."
            self._note(self._confirmed_by_s, EventKind.UNDEPLOYED, text, deployment=name)
        self._confirmed_by_s = None

    def _boards_tell_refusals(self) -> bool:
        devices = self._devices.values()
        return bool(devices) and all(device.tells_refusals for device in devices)

    def _device(self, name: str) -> DeviceRecord | None:
        device = self._devices.get(name)
        if device is None:
            if len(self._devices) >= MAX_DEVICES:
                self._ignored += 1
                self._too_many.add("boards")
                return None
            device = self._devices[name] = DeviceRecord(name)
        return device

    def _fold_stats(self, device: DeviceRecord, stats: dict[str, object], time_s: float) -> None:
        before = len(device.counters)
        changes, restarted = device.fold_stats(stats, time_s, MAX_BOARD_STAGES - self._counters)
        if device.has_unlisted():
            device.forget_counters(self._stages_of(device.name))
        self._counters += len(device.counters) - before
        if self._counters >= MAX_BOARD_STAGES:
            self._too_many.add("stages")
        if restarted:
            self._note_restart(time_s, device.name)
        for refusal in device.refused_now:
            self._note(
                time_s,
                EventKind.REFUSED,
                f"Board {device.name} refused {refusal.deployment}: {refusal.reason}",
                device=device.name,
                deployment=refusal.deployment,
            )
        for item in changes:
            deployment = self._deployments.get(item.deployment)
            if deployment is not None:
                deployment.fold_change(item, device, self._devices)
                self._watch_generation(device, deployment, item, time_s)
            self._watch_errors(device, item, time_s)

    def _stages_of(self, device: str) -> frozenset[tuple[str, int]]:
        return frozenset(
            (deployment.name, stage.index)
            for deployment in self._deployments.values()
            for stage in deployment.stages
            if device in stage.devices
        )

    def _watch_generation(
        self, device: DeviceRecord, deployment: DeploymentRecord, item: StageChange, time_s: float
    ) -> None:
        theirs, live = item.counter.generation, deployment.generation
        if theirs is None or live is None or theirs == live:
            item.counter.mismatch_noted = None
            return
        settled = is_settled(deployment.since_s, time_s)
        if settled and item.counter.mismatch_noted != theirs:
            item.counter.mismatch_noted = theirs
            self._note(
                time_s,
                EventKind.GENERATION_MISMATCH,
                f"Board {device.name} serves generation {theirs} of {deployment.name} stage "
                f"{item.stage}; live is {live}.",
                device=device.name,
                deployment=deployment.name,
            )

    def _watch_errors(self, device: DeviceRecord, item: StageChange, time_s: float) -> None:
        failed, counter = item.change.failed, item.counter
        if failed < max(_BURST_ERRORS, _BURST_SHARE * (failed + item.change.answered)):
            return
        if counter.errors_noted_s is None or time_s - counter.errors_noted_s > _BURST_AGAIN_S:
            counter.errors_noted_s = time_s
            self._note(
                time_s,
                EventKind.ERRORS,
                f"Board {device.name} answered {failed:,} requests for {item.deployment} stage "
                f"{item.stage} with errors.",
                device=device.name,
                deployment=item.deployment,
            )

    def _note_restart(self, time_s: float, name: str) -> None:
        self._note(
            time_s, EventKind.RESTARTED, f"The agent of board {name} was started anew.", device=name
        )

    def _fold_manifest(self, arrival: Arrival, name: str) -> bool:
        if read_name(name) is None:
            return False
        self._unconfirmed_deployments.discard(name)
        if not arrival.payload:
            if self._deployments.pop(name, None) is not None:
                self._note(
                    arrival.time_s, EventKind.UNDEPLOYED, f"{name} was undeployed.", deployment=name
                )
            return True
        if len(arrival.payload) > MAX_MANIFEST_BYTES:
            return False
        record = self._deployments.get(name)
        if record is None:
            if len(self._deployments) >= MAX_DEPLOYMENTS:
                self._ignored += 1
                self._too_many.add("deployments")
                return True
            record = self._deployments[name] = DeploymentRecord(name)
        before = (record.generation, record.problem)
        others = sum(
            len(other.stages) for other in self._deployments.values() if other is not record
        )
        if not record.fold_manifest(arrival.payload, MAX_STAGES - others):
            self._too_many.add("stages")
        if (record.generation, record.problem) != before:
            self._note_manifest(arrival, record, before[0])
        return record.problem is None

    def _note_manifest(
        self, arrival: Arrival, record: DeploymentRecord, before: str | None
    ) -> None:
        name = record.name
        if record.problem is not None:
            self._note(
                arrival.time_s,
                EventKind.UNREADABLE_MANIFEST,
                f"A manifest of {name} can't be read: {record.problem}",
                deployment=name,
            )
        elif before is not None and record.generation != before:
            record.since_s = arrival.time_s
            self._note(
                arrival.time_s,
                EventKind.REDEPLOYED,
                f"{name}: generation {record.generation} replaced {before}.",
                deployment=name,
            )
        elif before is None and not arrival.retained:
            record.since_s = arrival.time_s
            self._note(
                arrival.time_s,
                EventKind.DEPLOYED,
                f"{name}: generation {record.generation} is live.",
                deployment=name,
            )

    def _fold_result(self, arrival: Arrival, client: str) -> bool:
        request = read_result(arrival, client, self._deployment_of)
        if request is not None:
            self._keep_request(request)
            return True
        refusal = read_refusal(arrival)
        # Agents that tell of refusals themselves name the board, and are always heard.
        if refusal is not None and not self._boards_tell_refusals():
            self._note(arrival.time_s, EventKind.REFUSED, f"A board refused its part: {refusal}")
        # Answers to other commands, and results of clients that want no trace, are nobody's fault.
        return True

    def _fold_report(self, arrival: Arrival, client: str) -> bool:
        request = read_report(arrival, client, self._deployment_of)
        if request is not None:
            self._keep_request(request)
        return request is not None

    def _keep_request(self, request: Request) -> None:
        """Keep a request; of one that its client and its result both tell, what the client says."""
        for position, other in enumerate(self._requests):
            if request.request and (other.client, other.request) == (
                request.client,
                request.request,
            ):
                if request.latency_ms is not None or other.latency_ms is None:
                    self._requests[position] = request
                return
        self._requests.append(request)

    def _deployment_of(self, generation: str | None) -> str | None:
        if generation is None:
            return None
        for record in self._deployments.values():
            if record.generation == generation:
                return record.name
        return None

    def _note(
        self,
        time_s: float,
        kind: EventKind,
        text: str,
        *,
        device: str | None = None,
        deployment: str | None = None,
    ) -> None:
        self._event_number += 1
        self._events.append(Event(self._event_number, time_s, kind, text, device, deployment))

    # Showing

    def snapshot(self, now_s: float) -> Fleet:
        """Return the fleet as it stands at ``now_s``, seconds since 1970."""
        self._forget_unconfirmed(now_s)
        return Fleet(
            at_s=now_s,
            broker=self._broker,
            devices={name: self._devices[name].view(now_s) for name in sorted(self._devices)},
            deployments={
                name: self._deployments[name].view(self._devices, now_s)
                for name in sorted(self._deployments)
            },
            requests=tuple(self._requests),
            events=tuple(self._events),
            too_many=tuple(sorted(self._too_many)),
            messages=Messages(self._read, self._unreadable, self._ignored),
        )

    def device_series(self, device: str, figure: str) -> Series | None:
        """Return a board's series (``DEVICE_FIGURES``), if there is one."""
        record = self._devices.get(device)
        return record.series.get(figure) if record else None

    def stage_series(self, deployment: str, index: int, figure: str) -> Series | None:
        """Return a stage's series (``STAGE_FIGURES``), if there is one."""
        record = self._deployments.get(deployment)
        return record.series(index, figure) if record else None
