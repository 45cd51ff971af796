"""Snapshots: frozen dataclasses that describe the fleet at one moment, for every front end.

:mod:`mqtt_monitor.fleet.state` gives an overview and the source of each value. If an attribute's
text does not explain ``None``, ``None`` means "not reported": the agent has another version, there
are no statistics yet, or the statistics are too old.
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
        connected: Whether the monitor is connected. If False, all other values of the snapshot are
            from the moment of the disconnection.
        since_s: Time of the last connection or disconnection, in seconds since the epoch; None: the
            monitor has never been connected.
        reason: Reason of the disconnection; None: the monitor is connected, or the reason is
            unknown.
    """

    url: str
    connected: bool
    since_s: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Profile:
    """A board's hardware and software, from the board's last ``profile`` message.

    Attributes:
        instance: Random id of the agent's process; a restart of the agent changes the id.
        boot: Id of the board's last start; a restart of the board changes the id.
        agent: Version of the agent.
        runtime: Name and version of the TFLite runtime.
        python: Version of Python.
        machine: Architecture of the processor, such as ``aarch64``.
        system: Name and version of the operating system's kernel.
        cpu_model: Model of the processor.
        cores: Number of the processor's cores.
        threads: Number of threads of an interpreter.
        total_memory_bytes: Memory of the board, in bytes.
        ram_limit_bytes: The agent's memory limit, in bytes; None: no limit.
        free_memory_bytes: Free memory of the board when the profile was sent, in bytes.
        free_storage_bytes: Free storage for stages when the profile was sent, in bytes.
        matmul_gmac_s: Measured speed of a matrix product, in 10^9 multiply-accumulates per second.
    """

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
    """The network interface that connects a board to the broker, and the interface's traffic.

    The traffic of all programs on the board is counted. The newest period is the time between the
    board's last two ``stats`` messages.

    Attributes:
        interface: Name of the interface.
        speed_mbit_s: Negotiated speed of a wired link, in Mbit/s.
        signal_dbm: Wi-Fi signal strength, in dBm; below -75 is weak.
        in_bytes_per_s: Received bytes per second, over the newest period.
        out_bytes_per_s: Sent bytes per second, over the newest period.
        received_bytes: Bytes that the interface has received since the board's start.
        sent_bytes: Bytes that the interface has sent since the board's start.
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
        sequence: Sequence number of the message among the agent's ``stats`` messages.
        period_s: Time between two ``stats`` messages, in seconds.
        uptime_s: Time since the agent's start, in seconds.
        cpu_percent: The agent's CPU use as a percentage of one core; 200 means two busy cores.
        temperature_c: Temperature of the hottest sensor, in °C.
        throttled: Whether the firmware was throttling the processor when the message was sent.
        clock_mhz: The processor's present clock rate, in MHz.
        rss_bytes: Resident memory of the agent, in bytes.
        free_memory_bytes: Free memory of the board, in bytes.
        queue_length: Number of requests that wait on the board, for all stages together.
        link: The network interface that connects the board to the broker.
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
    """A board at the moment of the snapshot.

    Attributes:
        name: The agent's ``--name``.
        state: The board's availability; ``unknown`` if none was published.
        since_s: Time of the last change of ``state``, in seconds since the epoch; None: the state
            has not changed since the monitor started.
        profile: The board's hardware and software; None: no profile yet.
        load: The board's load; None: no statistics yet.
        fresh: Whether the board is not offline and the age of ``load`` is at most 3.5 times
            ``load.period_s``.
        restarts: Number of restarts of the agent that the monitor noticed.
        missed_stats: Number of lost ``stats`` messages, from gaps in the sequence numbers.
        clock_offset_s: Estimate of the board's clock minus the monitor's clock, in seconds. The
            time of a message on the network has little effect on this estimate.
        queue_lengths: The newest values of ``load.queue_length``, oldest first.
        serves: The stages that the board serves, according to its newest statistics.
        refusals: For each deployment that the board refused, the last refusal, according to the
            newest statistics.
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
    """A stage that a board serves, according to the board's statistics.

    The monitor may know no manifest that contains this stage.

    Attributes:
        deployment: Name of the stage's deployment.
        stage: Index of the stage.
        generation: The generation that the board serves; None: not reported.
    """

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
    """The measurements of a stage on one of the stage's boards.

    The newest period is the time between the board's last two statistics messages. A restart of the
    board's agent does not set the totals back to 0.

    Attributes:
        device: Name of the board.
        state: The board's state.
        serves: Whether the board's newest statistics contain the stage; None: no recent statistics.
        generation: The generation that the board serves, according to its last statistics.
        requests_per_s: Results per second, over the newest period; None: no recent statistics.
        errors_per_s: Error answers per second, over the newest period.
        invoke_ms: Mean time of an inference in the newest period, in milliseconds; None: no request
            in this period.
        invoke_max_ms: Longest time of an inference in the newest period, in milliseconds.
        invoke_minute_ms: Mean time of an inference over the last minute, in milliseconds.
        queue_ms: Mean waiting time in the newest period, in milliseconds. A request waits from its
            arrival on the board until its inference begins.
        queue_max_ms: Longest waiting time in the newest period, in milliseconds.
        requests_total: Number of requests that got a result.
        errors_total: For each error code, the code and the number of requests that got this error.
        unanswerable_total: Number of requests that had no usable response topic.
        invoke_seconds_total: Inference time of all ``requests_total`` requests together, in
            seconds.
        queue_seconds_total: Waiting time of all ``requests_total`` requests together, in seconds.
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
        """Whether the board serves the stage or, without recent statistics, is at least online."""
        return self.state == "online" if self.serves is None else self.serves


@dataclass(frozen=True)
class Boundary:
    """The tensors between two stages, or between the client and a stage.

    Attributes:
        tensors: The tensors, each as ``name dtype[shape]``.
        request_bytes: Payload of one request, in bytes.
        bytes_per_s: Payload bytes per second; None: the stage's requests per second are unknown.
        lost: Number of messages that were sent and did not arrive; None: unknown, because the two
            stages have not been idle yet, or because one side is a client.
        repeated: Number of messages that arrived more than once; None: unknown, for the same
            reasons as ``lost``.
    """

    tensors: tuple[str, ...]
    request_bytes: int
    bytes_per_s: float | None = None
    lost: int | None = None
    repeated: int | None = None


@dataclass(frozen=True)
class Stage:
    """A stage: its plan and its measurements.

    The newest period of a board is the time between the board's last two statistics messages.

    Attributes:
        index: Position of the stage in the pipeline, from 0.
        devices: The boards that serve the stage; several boards are replicas.
        size_bytes: Size of the stage's ``.tflite`` file, in bytes.
        predicted_ms: Planned time of one inference, in milliseconds.
        predicted_ram_bytes: Planned resident memory of an agent that serves the stage, in bytes.
        input: The tensors that the stage receives.
        output: The tensors that the stage sends to the next stage or to the client.
        boards: The measurements on each board, in the order of ``devices``.
        requests_per_s: Results per second, of all boards together; None: not reported.
        errors_per_s: Error answers per second, of all boards together.
        invoke_ms: Mean time of an inference in the boards' newest periods, in milliseconds.
        invoke_minute_ms: Mean time of an inference over the last minute, in milliseconds.
        queue_ms: Mean waiting time of a request in the boards' newest periods, in milliseconds.
        rss_bytes: Largest resident memory among the agents of the stage's boards, in bytes. Agents
            without recent statistics do not count.
        shares_memory: Whether any of the agents that count for ``rss_bytes`` serves several stages,
            so that ``rss_bytes`` may include the memory of other stages.
        layers: Names of the layers, in execution order; empty: not reported.
        more_layers: Number of further layers that the manifest does not name.
        wrapped: The layers that each wrap an operation which is no Keras layer, such as
            ``x + 3.0``, with the operation's constants.
        more_wrapped: Number of further layers of this kind that the manifest does not list.
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
        """One line of text for each layer; the line of a wrapped operation shows its constants."""
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
        generation: The live generation; None: no manifest could be read.
        since_s: Time of the manifest's last change, in seconds since the epoch; None: the manifest
            has not changed since the monitor started.
        model: Name of the model.
        quantization: Quantization of the model.
        weights: Source of the weights.
        wire: Data type of float activations in messages.
        state: ``live``: every stage has a board that can serve the stage; ``broken``: a stage has
            no such board; ``unreadable``: no manifest could be read, see ``problem``.
        problem: Reason why the newest manifest is unreadable, such as another version or damage;
            None: the newest manifest is readable.
        stages: The stages, in order.
        requests_per_s: Results per second that the last stage sends.
        bottleneck: Index of the slowest stage: the stage with the largest inference time divided by
            the number of boards that serve the stage. Measured times are compared if every stage
            has a measured time; if not, planned times are compared. None: no stages, or all times
            are 0.
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
        at_s: Time at which the result or the client's report reached the monitor, in seconds since
            the epoch.
        client: Name of the client, from the topic of the message.
        request: Id of the request: the correlation data, in hexadecimal.
        deployment: Name of the deployment; None: ``generation`` is live in no deployment.
        generation: The generation that answered.
        latency_ms: The client's measurement of the time from sending the request to the result, in
            milliseconds; None: the monitor received only the result. ``latency_ms`` minus
            ``stages_ms`` is time in the client, the network and the broker.
        stages: The request's waiting and inference time at each stage, in execution order.
        error: The error code; None: the request got a result.
        reason: The error message; None: no error, or the message is unknown.
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
        """The sum of the request's waiting and inference times at all stages, in milliseconds."""
        return sum(stage.queue_ms + stage.invoke_ms for stage in self.stages)


class EventKind(StrEnum):
    """The kind of an event. The values appear in JSON documents."""

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
        number: Number of the event; a later event has a larger number.
        at_s: Time of the event, in seconds since the epoch.
        kind: Kind of the event.
        text: The event as a sentence.
        device: Name of the board that the event is about; None: the event is not about one board.
        deployment: Name of the deployment that the event is about; None: the event is not about one
            deployment.
    """

    number: int
    at_s: float
    kind: EventKind
    text: str
    device: str | None = None
    deployment: str | None = None


@dataclass(frozen=True)
class Messages:
    """Numbers of messages that the monitor has received since its start.

    Attributes:
        read: Number of messages that could be read, including ignored messages.
        unreadable: Number of messages that could not be read: damaged, too large, or from another
            program.
        ignored: Number of messages about boards or deployments that the monitor does not keep,
            because the fleet exceeds its limits.
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
        devices: The boards; the keys are the boards' names, sorted.
        deployments: The deployments; the keys are the deployments' names, sorted.
        requests: Recent requests, oldest first; empty if no front end watches requests and no
            client reports requests.
        events: Recent events, oldest first.
        too_many: What the fleet has more of than the monitor can keep: any of ``boards``,
            ``deployments`` and ``stages``.
        messages: Numbers of received messages.
    """

    at_s: float
    broker: Broker
    devices: Mapping[str, Device]
    deployments: Mapping[str, Deployment]
    requests: tuple[Request, ...]
    events: tuple[Event, ...]
    too_many: tuple[str, ...]
    messages: Messages
