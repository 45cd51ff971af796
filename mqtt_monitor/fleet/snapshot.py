"""The fleet at one moment: frozen dataclasses, which every front end shows.

:mod:`mqtt_monitor.fleet.state` gives an overview and the source of each value. ``None`` means "not
reported": an agent of another version, no statistics yet, or statistics that are too old.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_core.contract.manifest import WrappedLayer
    from edge_core.contract.messages import StageTrace

State = Literal["online", "offline", "unknown"]


@dataclass(frozen=True)
class Broker:
    """The monitor's connection to the broker.

    Attributes:
        url: The broker's address, without secrets. For a recording: the address of the recorded
            broker.
        connected: Whether the monitor is connected. While false, all other values are those of the
            moment of disconnection.
        since_s: Time of the last connection or disconnection, in seconds since the epoch.
        reason: Reason of the disconnection.
    """

    url: str
    connected: bool
    since_s: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Profile:
    """A board's hardware and software, from the board's last ``profile`` message."""

    instance: str | None = None
    boot: str | None = None
    agent: str | None = None
    runtime: str | None = None
    python: str | None = None
    machine: str | None = None
    system: str | None = None
    cpu_model: str | None = None
    cores: int | None = None
    threads: int | None = None
    total_memory_bytes: int | None = None
    ram_limit_bytes: int | None = None
    free_memory_bytes: int | None = None
    free_storage_bytes: int | None = None
    matmul_gmac_s: float | None = None


@dataclass(frozen=True)
class Link:
    """A board's network interface to the broker. Counts include the traffic of all programs.

    Attributes:
        interface: Name of the interface.
        speed_mbit_s: Negotiated speed of a wired link, in Mbit/s.
        signal_dbm: Wi-Fi signal strength, in dBm; below -75 is weak.
        in_bytes_per_s: Received bytes per second, over the newest period.
        out_bytes_per_s: Sent bytes per second, over the newest period.
        received_bytes: Received bytes, by the interface's own counter.
        sent_bytes: Sent bytes, by the interface's own counter.
    """

    interface: str
    speed_mbit_s: float | None = None
    signal_dbm: float | None = None
    in_bytes_per_s: float | None = None
    out_bytes_per_s: float | None = None
    received_bytes: int | None = None
    sent_bytes: int | None = None


@dataclass(frozen=True)
class Load:
    """A board's load, from the board's last ``stats`` message.

    Attributes:
        at_s: Arrival time of the message, in seconds since the epoch.
        sequence: The message's number; the agent counts its messages.
        period_s: Time between two ``stats`` messages, in seconds.
        uptime_s: Time since the agent's start, in seconds.
        cpu_percent: The agent's CPU use as a percentage of one core; 200 means two full cores.
        temperature_c: Temperature of the hottest sensor, in °C.
        throttled: Whether the firmware throttles the processor now.
        clock_mhz: The processor's present clock rate, in MHz.
        rss_bytes: Resident memory of the agent, in bytes.
        free_memory_bytes: Free memory of the board, in bytes.
        queue_length: Requests that wait on the board, over all stages.
        link: The board's network interface to the broker.
    """

    at_s: float
    sequence: int | None = None
    period_s: float = 5.0
    uptime_s: float | None = None
    cpu_percent: float | None = None
    temperature_c: float | None = None
    throttled: bool | None = None
    clock_mhz: float | None = None
    rss_bytes: int | None = None
    free_memory_bytes: int | None = None
    queue_length: int | None = None
    link: Link | None = None


@dataclass(frozen=True)
class Device:
    """A board.

    Attributes:
        name: The agent's ``--name``.
        state: The board's availability; ``unknown`` if none was published.
        since_s: Time of the last change of ``state``, in seconds since the epoch; None: the state
            has not changed since the monitor started.
        profile: The board's hardware and software; None: no profile yet.
        load: The board's load; None: no statistics yet.
        fresh: Whether the statistics are younger than 3.5 periods and the board is not offline.
        restarts: Restarts of the agent that the monitor noticed.
        missed_stats: Lost ``stats`` messages, counted by gaps in their numbers.
        clock_offset_s: The board's clock minus the monitor's clock, in seconds, without the
            messages' time on the network.
        queue_lengths: The newest values of ``load.queue_length``, oldest first.
        serves: The stages that the board serves, by its own report.
        refusals: The deployments that the board refused last, from the newest statistics.
    """

    name: str
    state: State
    since_s: float | None
    profile: Profile | None
    load: Load | None
    fresh: bool
    restarts: int
    missed_stats: int
    clock_offset_s: float | None
    queue_lengths: tuple[int, ...]
    serves: tuple[Served, ...]
    refusals: tuple[Refusal, ...] = ()

    @property
    def ram_limit_bytes(self) -> int | None:
        """The agent's memory limit, in bytes; None: no limit."""
        return self.profile.ram_limit_bytes if self.profile else None

    @property
    def free_memory_bytes(self) -> int | None:
        """The board's free memory, in bytes, from the newest message that reports it."""
        if self.load is not None and self.load.free_memory_bytes is not None:
            return self.load.free_memory_bytes
        return self.profile.free_memory_bytes if self.profile else None


@dataclass(frozen=True)
class Served:
    """A stage that a board serves by its own report, with or without a manifest."""

    deployment: str
    stage: int
    generation: str | None


@dataclass(frozen=True)
class Refusal:
    """A board's last refusal of a deployment.

    Attributes:
        deployment: Name of the deployment.
        generation: The refused generation; None: not reported.
        code: The error code.
        reason: The reason, as a sentence.
        at_s: Time of the refusal by the monitor's clock, in seconds since the epoch.
    """

    deployment: str
    generation: str | None
    code: str
    reason: str
    at_s: float


@dataclass(frozen=True)
class BoardStage:
    """A stage on one of its boards. Totals grow while the monitor runs, across agents' restarts.

    Attributes:
        device: Name of the board.
        state: The board's state.
        serves: Whether the board's newest statistics list the stage; None: no recent statistics.
        generation: The generation that the board serves.
        requests_per_s: Answered requests per second, over the newest period; None: no recent
            statistics.
        errors_per_s: Error answers per second, over the newest period.
        invoke_ms: Mean time of an inference over the newest period, in milliseconds; None: no
            request in this period.
        invoke_max_ms: Longest inference of the newest period, in milliseconds.
        invoke_minute_ms: Mean time of an inference over the last minute, in milliseconds.
        queue_ms: Mean time from a request's arrival on the board to its inference, over the newest
            period, in milliseconds.
        queue_max_ms: Longest wait of the newest period, in milliseconds.
        requests_total: Requests answered.
        errors_total: Requests answered with an error, by code.
        unanswerable_total: Requests without a usable response topic.
        invoke_seconds_total: Inference time of all ``requests_total``, in seconds.
        queue_seconds_total: Waiting time of all ``requests_total``, in seconds.
    """

    device: str
    state: State
    serves: bool | None = None
    generation: str | None = None
    requests_per_s: float | None = None
    errors_per_s: float | None = None
    invoke_ms: float | None = None
    invoke_max_ms: float | None = None
    invoke_minute_ms: float | None = None
    queue_ms: float | None = None
    queue_max_ms: float | None = None
    requests_total: int = 0
    errors_total: tuple[tuple[str, int], ...] = ()
    unanswerable_total: int = 0
    invoke_seconds_total: float = 0.0
    queue_seconds_total: float = 0.0

    @property
    def can_serve(self) -> bool:
        """Whether the board serves the stage, or is online and has no recent statistics."""
        return self.state == "online" if self.serves is None else self.serves


@dataclass(frozen=True)
class Boundary:
    """The tensors between two stages, or between the client and a stage.

    Attributes:
        tensors: The tensors, each as ``name dtype[shape]``.
        request_bytes: Payload of one request, in bytes.
        bytes_per_s: Payload bytes per second, at the rate of the stage; None: rate unknown.
        lost: Messages that the sending stage counted and the receiving stage did not; None: the
            boundary has not been idle for three periods since the boards started.
        repeated: Messages that the receiving stage counted more than once; None if ``lost`` is.
    """

    tensors: tuple[str, ...]
    request_bytes: int
    bytes_per_s: float | None = None
    lost: int | None = None
    repeated: int | None = None


@dataclass(frozen=True)
class Stage:
    """A stage: its plan and its measurements.

    Attributes:
        index: Position of the stage in the pipeline, from 0.
        devices: The boards that serve the stage; several boards are replicas.
        size_bytes: Size of the stage's ``.tflite`` file, in bytes.
        predicted_ms: Planned time of one inference, in milliseconds.
        predicted_ram_bytes: Planned resident memory of the agent, in bytes.
        input: The tensors that the stage receives.
        output: The tensors that the stage sends to the next stage or to the client.
        boards: One entry for each of ``devices``, in the order of ``devices``.
        requests_per_s: Answered requests per second, of all boards together; None: not reported.
        errors_per_s: Error answers per second, of all boards together.
        invoke_ms: Mean time of an inference over the boards' newest periods, in milliseconds.
        invoke_minute_ms: Mean time of an inference over the last minute, in milliseconds.
        queue_ms: Mean waiting time over the boards' newest periods, in milliseconds.
        rss_bytes: Largest resident memory of an agent with recent statistics among the boards, in
            bytes.
        shares_memory: Whether one of these agents serves several stages, so that ``rss_bytes``
            includes the memory of other stages.
        layers: Names of the layers, in execution order; empty: not reported.
        more_layers: Number of further layers, without names.
        wrapped: The layers that were bare operations, with their constants.
        more_wrapped: Number of further wrapped operations.
    """

    index: int
    devices: tuple[str, ...]
    size_bytes: int
    predicted_ms: float
    predicted_ram_bytes: int
    input: Boundary
    output: Boundary
    boards: tuple[BoardStage, ...]
    requests_per_s: float | None
    errors_per_s: float | None
    invoke_ms: float | None
    invoke_minute_ms: float | None
    queue_ms: float | None
    rss_bytes: int | None = None
    shares_memory: bool = False
    layers: tuple[str, ...] = ()
    more_layers: int = 0
    wrapped: tuple[WrappedLayer, ...] = ()
    more_wrapped: int = 0

    @property
    def contents(self) -> tuple[str, ...]:
        """The layers as lines of text; wrapped operations show their constants."""
        wrapped = {layer.name: str(layer) for layer in self.wrapped}
        lines = dict.fromkeys(wrapped.pop(name, name) for name in self.layers)
        lines.update(dict.fromkeys(wrapped.values()))
        return tuple(lines)

    @property
    def can_serve(self) -> bool:
        """Whether at least one board can serve the stage."""
        return any(board.can_serve for board in self.boards)


@dataclass(frozen=True)
class Deployment:
    """A live manifest and the measurements of its stages.

    Attributes:
        name: Name of the deployment.
        generation: The live generation; None: no readable manifest.
        since_s: Time of the manifest's last change, in seconds since the epoch; None: the manifest
            has not changed since the monitor started.
        model: Name of the model.
        quantization: Quantization of the model.
        weights: Source of the weights.
        wire: Data type of float activations in messages.
        state: ``live``: every stage has a board that serves it; ``broken``: a stage has none;
            ``unreadable``: no manifest could be read, see ``problem``.
        problem: Reason why the newest manifest is unreadable (another version, or damaged).
        stages: The stages, in order.
        requests_per_s: Results per second, from the last stage.
        bottleneck: Index of the slowest stage: the longest inference time, divided by the number
            of replicas. Compares measured times if all stages have measured times, else planned
            times.
    """

    name: str
    generation: str | None
    since_s: float | None
    model: str
    quantization: str
    weights: str
    wire: str
    state: Literal["live", "broken", "unreadable"]
    problem: str | None
    stages: tuple[Stage, ...]
    requests_per_s: float | None
    bottleneck: int | None

    def is_bottleneck(self, stage: Stage) -> bool:
        """Return whether a stage is the slowest of several stages."""
        return len(self.stages) > 1 and stage.index == self.bottleneck


@dataclass(frozen=True)
class Request:
    """A recent request.

    Attributes:
        at_s: Arrival time of the result or of the client's report, in seconds since the epoch.
        client: Name of the client: a level of its result topic.
        request: The correlation data, in hexadecimal.
        deployment: Name of the deployment; None: unknown generation.
        generation: The generation that answered.
        latency_ms: Time from sending to result, in milliseconds, as the client measured it; None:
            the monitor saw only the result. The part beyond ``stages_ms`` is time in the client,
            the network and the broker.
        stages: The times of each stage, in execution order.
        error: The error code; None: the request got a result.
        reason: The error message.
    """

    at_s: float
    client: str
    request: str
    deployment: str | None
    generation: str | None
    latency_ms: float | None
    stages: tuple[StageTrace, ...]
    error: str | None
    reason: str | None

    @property
    def stages_ms(self) -> float:
        """Time on boards, waiting and inference, in milliseconds."""
        return sum(stage.queue_ms + stage.invoke_ms for stage in self.stages)


class EventKind(StrEnum):
    """Kind of an event; the value appears in JSON documents."""

    ONLINE = "online"
    OFFLINE = "offline"
    RESTARTED = "restarted"
    DEPLOYED = "deployed"
    REDEPLOYED = "redeployed"
    UNDEPLOYED = "undeployed"
    GENERATION_MISMATCH = "generation-mismatch"
    ERRORS = "errors"
    REFUSED = "refused"
    UNREADABLE_MANIFEST = "unreadable-manifest"
    BROKER_AWAY = "broker-away"
    BROKER_BACK = "broker-back"


@dataclass(frozen=True)
class Event:
    """An event in the fleet.

    Attributes:
        number: The event's number; later events have larger numbers.
        at_s: Time of the event, in seconds since the epoch.
        kind: Kind of the event.
        text: The event as a sentence.
        device: The board that the event concerns.
        deployment: The deployment that the event concerns.
    """

    number: int
    at_s: float
    kind: EventKind
    text: str
    device: str | None = None
    deployment: str | None = None


@dataclass(frozen=True)
class Messages:
    """Number of messages since the monitor started.

    Attributes:
        read: Messages that could be read.
        unreadable: Messages that could not be read (damaged, too large, another program's).
        ignored: Messages about boards or deployments beyond the limits.
    """

    read: int
    unreadable: int
    ignored: int


@dataclass(frozen=True)
class Fleet:
    """The fleet at one moment.

    Attributes:
        at_s: Time of the snapshot by the monitor's clock, in seconds since the epoch. For a
            recording: the recorded time.
        broker: The connection to the broker.
        devices: The boards, sorted by name.
        deployments: The deployments, sorted by name.
        requests: Recent requests, oldest first; empty if results are not watched and no client
            reports requests.
        events: Recent events, oldest first.
        too_many: Kinds of which the fleet has more than the monitor keeps: ``boards``,
            ``deployments``, ``stages``. The values shown are correct but incomplete.
        messages: Number of messages.
    """

    at_s: float
    broker: Broker
    devices: Mapping[str, Device]
    deployments: Mapping[str, Deployment]
    requests: tuple[Request, ...]
    events: tuple[Event, ...]
    too_many: tuple[str, ...]
    messages: Messages
