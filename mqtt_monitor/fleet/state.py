"""Computes the fleet's state from messages. Pure: no clock and no socket; times are arguments.

A front end (terminal, web page, metrics) does not call this module. It uses a
:class:`mqtt_monitor.feeds.feed.Feed`:

```
feed.snapshot() -> Fleet                         # takes a few ms for a large fleet
find_alerts(fleet) -> tuple[Alert, ...]          # mqtt_monitor.fleet.alerts: critical alerts first
feed.device_history("pi-1", "cpu_percent")       # [(time_s, value or None), ...], the last hour
feed.stage_history("mobilenet", 0, "invoke_ms", step_s=60)
seen = feed.wait_for_change(seen, timeout_s=1)   # start with 0; an equal value means no change
```

A :class:`~mqtt_monitor.fleet.snapshot.Fleet` is frozen. It can be kept, compared and passed between
threads:

```
Fleet
  at_s                       time of the snapshot, seconds since the epoch
  broker: Broker             url, connected, since_s, reason
  devices: {name: Device}    sorted by name
    state, since_s           "online" | "offline" | "unknown" (no availability published)
    profile: Profile | None  hardware, runtime, agent's version, ram_limit_bytes and others
    load: Load | None        cpu_percent (of ONE core), temperature_c, throttled, rss_bytes,
                             free_memory_bytes, queue_length, uptime_s, clock_mhz, at_s,
                             link: Link | None (interface, speed_mbit_s, signal_dbm,
                             in_bytes_per_s, out_bytes_per_s: traffic of all programs)
    fresh                    load is recent; dim the values of an old load
    restarts, missed_stats, clock_offset_s, queue_lengths, serves
    refusals: (Refusal, ...) last refusals: deployment, generation, code, reason, at_s
    ram_limit_bytes, free_memory_bytes                     properties: from the newest message
  deployments: {name: Deployment}
    generation, since_s, model, quantization, weights, wire
    state                    "live" | "broken" | "unreadable" (problem says why)
    requests_per_s           results per second
    bottleneck               index of the slowest stage
    stages: (Stage, ...)     in order
      index, devices, size_bytes
      predicted_ms, predicted_ram_bytes                    from the plan
      invoke_ms, invoke_minute_ms, queue_ms                measured: newest period, last minute
      rss_bytes, shares_memory                             measured memory
      requests_per_s, errors_per_s
      input, output: Boundary      tensors, request_bytes, bytes_per_s, lost, repeated
      boards: (BoardStage, ...)    the same values for each replica, totals, serves, generation
  requests: (Request, ...)   oldest first: stages (queue_ms and invoke_ms each), latency_ms, error
  events: (Event, ...)       oldest first: number, at_s, kind, text, device, deployment
  too_many                   what exceeds a limit: any of "boards", "deployments", "stages"
  messages                   read, unreadable, ignored
```

Every value may be None: the agent's version does not report the value, no message has arrived, or
the last message is too old. Texts from the network (names of models, processors and clients, error
messages) have no control characters and at most 200 characters, but may contain markup that a front
end must escape. Names of boards and deployments consist of letters, digits, ``.``, ``_`` and ``-``.

Sources: states come from ``availability`` messages, hardware from ``profile``, load and counts from
``stats``, plans from ``manifest``. A rate is the difference of two counts of a board, divided by
the difference of the agent's uptimes. The rates stay right when an agent restarts and its counts
start again at 0. Bytes per second are a rate multiplied by the tensor sizes in the manifest, so
they do not include MQTT headers. Requests come from ``client/{client}/trace``, where clients report
requests. While a front end watches requests, requests also come from results
(:class:`mqtt_monitor.feeds.live.LiveFeed`).

With the limits in :mod:`mqtt_monitor.fleet.limits`, no sequence of messages can make the monitor's
memory grow without bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_core.contract.topics import Topics
from mqtt_monitor.fleet.deployment_table import DeploymentTable
from mqtt_monitor.fleet.device_table import DeviceTable
from mqtt_monitor.fleet.event_log import EventLog
from mqtt_monitor.fleet.limits import MAX_PROFILE_BYTES, MAX_STATS_BYTES
from mqtt_monitor.fleet.overflow import Overflow
from mqtt_monitor.fleet.read_values import read_name, read_object
from mqtt_monitor.fleet.request_log import RequestLog
from mqtt_monitor.fleet.requests import read_refusal, read_report, read_result
from mqtt_monitor.fleet.snapshot import Broker, EventKind, Fleet, Messages
from mqtt_monitor.fleet.unconfirmed import Unconfirmed

if TYPE_CHECKING:
    from mqtt_monitor.fleet.arrival import Arrival
    from mqtt_monitor.fleet.series import Series


class FleetState:
    """The fleet's state, to which messages are added one at a time. Not thread-safe."""

    def __init__(self, prefix: str, broker_url: str) -> None:
        """Start with an empty fleet.

        Args:
            prefix: The topics' prefix.
            broker_url: The broker's address as front ends show it, without secrets.

        Raises:
            TopicPrefixError: The prefix is not a valid topic prefix.
        """
        self._prefix = Topics(prefix).prefix + "/"
        self._broker = Broker(broker_url, connected=False)
        self._events = EventLog()
        self._requests = RequestLog()
        self._overflow = Overflow()
        self._devices = DeviceTable(self._events, self._overflow)
        self._deployments = DeploymentTable(self._events, self._overflow)
        self._unconfirmed = Unconfirmed()
        self._read = self._unreadable = 0

    def note_broker(self, time_s: float, *, connected: bool, reason: str | None = None) -> None:
        """Record that the monitor connected to the broker or lost the connection.

        Args:
            time_s: Time of the change, in seconds since the epoch.
            connected: Whether the monitor is connected now.
            reason: Reason of a lost connection; None: unknown.
        """
        first = self._broker.since_s is None
        if connected == self._broker.connected and not first:
            return
        self._broker = Broker(self._broker.url, connected, time_s, reason)
        if not connected:
            self._unconfirmed.cancel()
            why = f": {reason}" if reason else ""
            text = f"Lost the connection to the broker{why}. Reconnecting."
            self._events.add(time_s, EventKind.BROKER_AWAY, text)
        elif not first:
            self._devices.note_monitor_gap()
            self._unconfirmed.begin(self._devices.records, self._deployments.records, time_s)
            self._events.add(time_s, EventKind.BROKER_BACK, "Connected to the broker again.")

    def fold(self, arrival: Arrival) -> None:
        """Add a message. This method raises no error for any topic or payload."""
        self._forget_unconfirmed(arrival.time_s)
        readable = False
        if arrival.topic.startswith(self._prefix):
            match arrival.topic[len(self._prefix) :].split("/"):
                case ["device", name, kind] if read_name(name) is not None:
                    readable = self._fold_device(arrival, name, kind)
                case ["deployment", name, "manifest"] if read_name(name) is not None:
                    self._unconfirmed.confirm_deployment(name)
                    readable = self._deployments.fold_manifest(arrival, name)
                case ["client", client, "result"]:
                    self._fold_result(arrival, client)
                    readable = True
                case ["client", client, "trace"]:
                    readable = self._fold_report(arrival, client)
        if readable:
            self._read += 1
        else:
            self._unreadable += 1

    def _fold_device(self, arrival: Arrival, name: str, kind: str) -> bool:
        """Add a board's message; return whether the message could be read."""
        self._unconfirmed.confirm_device(name)
        if kind == "availability":
            return self._devices.fold_availability(arrival, name)
        limits = {"profile": MAX_PROFILE_BYTES, "stats": MAX_STATS_BYTES}
        document = read_object(arrival.payload, limits[kind]) if kind in limits else None
        if document is None:
            return kind == "profile" and not arrival.payload
        if kind == "profile":
            self._devices.fold_profile(document, name, arrival.time_s)
            return True
        changes = self._devices.fold_stats(
            document, name, arrival.time_s, self._deployments.stages_of
        )
        if changes:
            records = self._devices.records
            self._deployments.fold_changes(changes, records[name], records, arrival.time_s)
        return True

    def _fold_result(self, arrival: Arrival, client: str) -> None:
        """Add a message on a result topic: a result, an error, or the answer to a command.

        The answer to a command has an effect only if it is a refusal of a deployment.
        """
        request = read_result(arrival, client, self._deployments.of_generation)
        if request is not None:
            self._requests.add(request)
            return
        refusal = read_refusal(arrival)
        # Newer agents report refusals in their statistics, which also name the board.
        if refusal is not None and not self._devices.report_refusals():
            text = f"A board refused a deployment: {refusal}"
            self._events.add(arrival.time_s, EventKind.REFUSED, text)

    def _fold_report(self, arrival: Arrival, client: str) -> bool:
        """Add a client's report of a request; return whether the report could be read."""
        request = read_report(arrival, client, self._deployments.of_generation)
        if request is not None:
            self._requests.add(request)
        return request is not None

    def _forget_unconfirmed(self, now_s: float) -> None:
        """Forget the boards and deployments that left the fleet while the monitor was disconnected.

        :mod:`mqtt_monitor.fleet.unconfirmed` finds them some seconds after the reconnection.
        """
        overdue = self._unconfirmed.take_overdue(now_s)
        if overdue is None:
            return
        time_s, devices, deployments = overdue
        for name in devices:
            self._devices.forget(name)
        for name in deployments:
            text = f"Deployment {name} was undeployed while the monitor was disconnected."
            self._deployments.forget(name, time_s, text)

    def snapshot(self, now_s: float) -> Fleet:
        """Return a snapshot of the fleet at ``now_s``, in seconds since the epoch."""
        self._forget_unconfirmed(now_s)
        return Fleet(
            at_s=now_s,
            broker=self._broker,
            devices=self._devices.view(now_s),
            deployments=self._deployments.view(self._devices.records, now_s),
            requests=self._requests.newest(),
            events=self._events.newest(),
            too_many=self._overflow.kinds(),
            messages=Messages(self._read, self._unreadable, self._overflow.ignored),
        )

    def device_series(self, device: str, figure: str) -> Series | None:
        """Return the last hour of one value of a board; None: unknown board or value.

        Args:
            device: Name of the board.
            figure: The value, one of ``DEVICE_FIGURES``.
        """
        record = self._devices.records.get(device)
        return record.series.get(figure) if record else None

    def stage_series(self, deployment: str, index: int, figure: str) -> Series | None:
        """Return the last hour of one value of a stage; None: unknown stage or value.

        Args:
            deployment: Name of the deployment.
            index: Index of the stage.
            figure: The value, one of ``STAGE_FIGURES``.
        """
        record = self._deployments.records.get(deployment)
        return record.series(index, figure) if record else None
