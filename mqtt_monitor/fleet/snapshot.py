"""The fleet at one moment: what faces show. Frozen and plain.

:mod:`mqtt_monitor.fleet.state` gives the overview and says where each figure comes from. ``None``
is "not told": an agent of another version, no statistics yet, or too old to count.
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
    """The watcher's line to the broker.

    Attributes:
        url: Its address, without secrets; of a recording, the address it was recorded at.
        connected: While false, everything else is as it was when the line broke.
        since_s: When the line was made or lost.
        reason: Why it was lost.
    """

    url: str
    connected: bool
    since_s: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Profile:
    """What a board says it is; as of its last ``profile`` message."""

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
    """A board's interface to the broker, with everything that uses it.

    Attributes:
        interface: Its name.
        speed_mbit_s: Of a wire, as it was agreed with the other end.
        signal_dbm: Of Wi-Fi; below -75 it is weak.
        in_bytes_per_s: Received, over the newest period.
        out_bytes_per_s: Sent, likewise.
        received_bytes: Since the interface counts.
        sent_bytes: Likewise.
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
    """How a board fares; as of its last ``stats`` message.

    Attributes:
        at_s: When it arrived.
        sequence: The agent's count of these messages.
        period_s: How often the agent sends them.
        uptime_s: Of the agent.
        cpu_percent: Of one core: 200 is two cores.
        temperature_c: The hottest sensor's.
        throttled: The firmware slows the processor now.
        clock_mhz: The processor's, now.
        rss_bytes: The agent's resident memory.
        free_memory_bytes: The board's.
        queue_length: Requests waiting on the board, of all stages.
        link: Its link to the broker.
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
        state: What its availability says; ``unknown`` where it never said.
        since_s: When the state was seen to change; None: before the watcher came.
        profile: None until one was read.
        load: None until statistics came.
        fresh: The statistics are recent (younger than 3.5 periods) and the board isn't offline.
        restarts: Times its agent was seen to start anew.
        missed_stats: Statistics that got lost on their way, by gaps in their sequence.
        clock_offset_s: The board's clock minus the watcher's, the messages' way not counted.
        queue_lengths: The last few of ``load.queue_length``, oldest first.
        serves: The stages it says it serves.
        refusals: What it refused to take last, by its newest statistics.
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
        """What the agent may use; None: no limit was set."""
        return self.profile.ram_limit_bytes if self.profile else None

    @property
    def free_memory_bytes(self) -> int | None:
        """The board's free memory, by the newest message that told it."""
        if self.load is not None and self.load.free_memory_bytes is not None:
            return self.load.free_memory_bytes
        return self.profile.free_memory_bytes if self.profile else None


@dataclass(frozen=True)
class Served:
    """A stage that a board says it serves, whether or not a manifest says so."""

    deployment: str
    stage: int
    generation: str | None


@dataclass(frozen=True)
class Refusal:
    """Why a board did not take its part of a deployment, the last time that it was asked.

    Attributes:
        deployment: The deployment.
        generation: Of that; None: not known.
        code: Why, in a word.
        reason: Why, in a sentence.
        at_s: When, by the watcher's clock.
    """

    deployment: str
    generation: str | None
    code: str
    reason: str
    at_s: float


@dataclass(frozen=True)
class BoardStage:
    """A stage on one of its boards. Totals grow as long as the watcher watches, restarts or not.

    Attributes:
        device: The board.
        state: The board's.
        serves: Whether its newest statistics list the stage; None: no recent ones.
        generation: Which it says is live.
        requests_per_s: Answered, over the newest period; None: not recent.
        errors_per_s: Answered with an error.
        invoke_ms: Mean of one inference over the newest period; None: no request in it.
        invoke_max_ms: The slowest one.
        invoke_minute_ms: Mean over the last minute.
        queue_ms: Mean wait on the board, from arrival to the inference, over the newest period.
        queue_max_ms: The longest wait.
        requests_total: Requests answered.
        errors_total: Requests answered with an error, by code.
        unanswerable_total: Requests without a usable response topic.
        invoke_seconds_total: Sum over ``requests_total``.
        queue_seconds_total: Sum over ``requests_total``.
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


@dataclass(frozen=True)
class Boundary:
    """What crosses from one stage to the next.

    Attributes:
        tensors: Each as ``name dtype[shape]``.
        request_bytes: Of one request's payload.
        bytes_per_s: By the rate of the stage that sends; None: not known.
        lost: Messages that one stage sent and the other never counted.
        repeated: Messages that the receiving stage counted more than once.
            Both are told where the stream rests (nothing counted for three periods), and by then
            exact; None: it has not rested yet since these boards serve.
    """

    tensors: tuple[str, ...]
    request_bytes: int
    bytes_per_s: float | None = None
    lost: int | None = None
    repeated: int | None = None


@dataclass(frozen=True)
class Stage:
    """One part of a model, planned and measured.

    Attributes:
        index: Its place in the pipeline.
        devices: The boards that run it; more than one: replicas.
        size_bytes: Of its ``.tflite``.
        predicted_ms: What the plan says of one inference.
        predicted_ram_bytes: What the plan says of the agent's resident memory.
        input: What it receives.
        output: What it sends: to the next stage, or to the client.
        boards: One for each of ``devices``, in that order.
        requests_per_s: Of all its boards; None: no board tells.
        errors_per_s: Likewise.
        invoke_ms: Mean over its boards' newest periods.
        invoke_minute_ms: Mean over its boards' last minute.
        queue_ms: Mean over its boards' newest periods.
        layers: The names of its layers, in the order in which they run; empty: not told.
        more_layers: How many more there are.
        wrapped: Those of its layers that were bare operations, with their constants.
        more_wrapped: How many more there are.
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
    layers: tuple[str, ...] = ()
    more_layers: int = 0
    wrapped: tuple[WrappedLayer, ...] = ()
    more_wrapped: int = 0

    @property
    def contents(self) -> tuple[str, ...]:
        """Its layers as lines for people, wrapped operations among them with their constants."""
        wrapped = {layer.name: str(layer) for layer in self.wrapped}
        lines = dict.fromkeys(wrapped.pop(name, name) for name in self.layers)
        lines.update(dict.fromkeys(wrapped.values()))
        return tuple(lines)


@dataclass(frozen=True)
class Deployment:
    """A live manifest and how it fares.

    Attributes:
        name: Its name.
        generation: Which is live; None: no manifest of it could be read.
        since_s: When the manifest was seen to change; None: before the watcher came.
        model: The model's name.
        quantization: How it was converted.
        weights: Where its weights came from.
        wire: As what float activations travel.
        state: ``live``: every stage has a board that serves it; ``broken``: one has none;
            ``unreadable``: see ``problem``.
        problem: Why its newest manifest can't be read (another version's, or damaged).
        stages: In order.
        requests_per_s: Of the last stage: results.
        bottleneck: The index of the stage that sets the pace: the longest inference, divided by
            the boards that share it. Measured where all are, else planned.
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


@dataclass(frozen=True)
class Request:
    """One recent request, as its result told.

    Attributes:
        at_s: When the result was seen.
        client: Who asked: the level of its result topic.
        request: The correlation data, in hexadecimal.
        deployment: None: of a generation that is not known.
        generation: The generation that answered.
        latency_ms: As the client measured it, from sending to the result; None where only the
            result was seen. What exceeds the stages' sum is the wire and the broker.
        stages: What each stage took, in the order they ran.
        error: The error's code; None: a result.
        reason: The error's sentence.
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
        """Milliseconds on boards: waiting and computing."""
        return sum(stage.queue_ms + stage.invoke_ms for stage in self.stages)


class EventKind(StrEnum):
    """What happened."""

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
    """Something that happened, for a time line.

    Attributes:
        number: Counts events; larger is later. A face that shows events as they come asks for
            those after the last it has seen.
        at_s: When it was noticed.
        kind: What.
        device: The board, if it is one's.
        deployment: The deployment, if it is one's.
        text: A sentence.
    """

    number: int
    at_s: float
    kind: EventKind
    text: str
    device: str | None = None
    deployment: str | None = None


@dataclass(frozen=True)
class Messages:
    """What came, since the watcher began.

    Attributes:
        read: Messages understood.
        unreadable: Messages that could not be (garbage, too large, another program's).
        ignored: Messages about boards, deployments or stages beyond the limits.
    """

    read: int
    unreadable: int
    ignored: int


@dataclass(frozen=True)
class Fleet:
    """Everything at one moment.

    Attributes:
        at_s: The moment, seconds since 1970 by the watcher's clock (of a recording: then).
        broker: The line to the broker.
        devices: By name, sorted.
        deployments: By name, sorted.
        requests: Recent requests, oldest first; empty unless results are watched or clients tell.
        events: Recent events, oldest first.
        too_many: What there was more of than the watcher keeps: of ``boards``, ``deployments``,
            ``stages``. What is there is right, but not all.
        messages: Counts.
    """

    at_s: float
    broker: Broker
    devices: Mapping[str, Device]
    deployments: Mapping[str, Deployment]
    requests: tuple[Request, ...]
    events: tuple[Event, ...]
    too_many: tuple[str, ...]
    messages: Messages
