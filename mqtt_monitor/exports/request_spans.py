"""Splits a request's latency into OpenTelemetry spans: names, attributes, start and end. Pure.

A trace has the durations of each stage's waiting and inference, but not their start times. The rest
of the latency is time in the client, the network and the broker, and is divided equally among the
hops. The spans of hops have the attribute ``edge_partition.wire.estimated``. The spans follow each
other and add up to the latency.

Attribute names follow OpenTelemetry's semantic conventions for messaging where a convention exists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from edge_core.contract.topics import Topics
    from mqtt_monitor.fleet.snapshot import Request

_MS_NS = 1_000_000
_S_NS = 1_000_000_000
#: Longest valid latency, in milliseconds: one day.
_LONGEST_MS = 86_400_000.0

Kind = Literal["client", "producer", "consumer", "internal"]
Attributes = dict[str, str | int | bool]

_SEND: Attributes = {
    "messaging.operation.name": "publish",
    "messaging.operation.type": "send",
    "edge_partition.wire.estimated": True,
}
_PROCESS: Attributes = {
    "messaging.operation.name": "invoke",
    "messaging.operation.type": "process",
}


@dataclass(frozen=True)
class Span:
    """A part of a request.

    Attributes:
        name: Name of the span.
        kind: OpenTelemetry's kind of span.
        start_ns: Start by the monitor's clock, in nanoseconds since the epoch.
        end_ns: End by the monitor's clock, in nanoseconds since the epoch.
        attributes: OpenTelemetry attributes.
    """

    name: str
    kind: Kind
    start_ns: int
    end_ns: int
    attributes: Attributes


def split_request(request: Request, topics: Topics) -> tuple[Span, ...]:
    """Return the span of a request, then the spans of its parts in order; empty: no valid latency.

    Args:
        request: The request. Its end is the time at which the monitor received its report.
        topics: The fleet's topics, for the names of destinations.
    """
    latency_ms = request.latency_ms
    if latency_ms is None or not 0 <= latency_ms <= min(_LONGEST_MS, request.at_s * 1000):
        return ()
    end_ns = round(request.at_s * _S_NS)
    start_ns = end_ns - round(latency_ms * _MS_NS)
    common: Attributes = {"messaging.system": "mqtt"}
    if request.deployment is not None:
        common["edge_partition.deployment"] = request.deployment
    if request.generation is not None:
        common["edge_partition.generation"] = request.generation
    about: Attributes = {
        **common,
        **_destination(topics, request.deployment, 0),
        "messaging.client.id": request.client,
        "messaging.message.conversation_id": request.request,
    }
    if request.error is not None:
        about["error.type"] = request.error
    name = f"request {request.deployment or 'unknown deployment'}"
    whole = Span(name, "client", start_ns, end_ns, about)
    return whole, *_parts(request, topics, start_ns, end_ns, common)


def _parts(
    request: Request, topics: Topics, start_ns: int, end_ns: int, common: Attributes
) -> list[Span]:
    parts: list[Span] = []
    hops = len(request.stages) + 1
    wire_ns = max(0, end_ns - start_ns - round(request.stages_ms * _MS_NS))

    def add(name: str, kind: Kind, duration_ns: int, attributes: Attributes) -> None:
        begin_ns = parts[-1].end_ns if parts else start_ns
        # The parts must not end after the request, even if their reported times do.
        until_ns = min(begin_ns + duration_ns, end_ns)
        parts.append(Span(name, kind, begin_ns, until_ns, {**common, **attributes}))

    for stage in request.stages:
        index = stage.stage
        where: Attributes = {
            "edge_partition.stage.index": index,
            "edge_partition.device": stage.device,
        }
        there = {**where, **_destination(topics, request.deployment, index)}
        add(f"wire to stage {index}", "producer", wire_ns // hops, {**_SEND, **there})
        add(f"queue of stage {index}", "internal", round(stage.queue_ms * _MS_NS), where)
        add(
            f"invoke stage {index}",
            "consumer",
            round(stage.invoke_ms * _MS_NS),
            {**_PROCESS, **there},
        )
    # The last hop also takes the time of stages that reported nothing.
    back: Attributes = {"messaging.destination.name": topics.result(request.client)}
    add("wire to client", "producer", end_ns - start_ns, {**_SEND, **back})
    return parts


def _destination(topics: Topics, deployment: str | None, stage: int) -> Attributes:
    if deployment is None:
        return {}
    return {"messaging.destination.name": topics.stage(deployment, stage)}
