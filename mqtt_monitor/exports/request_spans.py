"""Splits a request's latency into OpenTelemetry spans: names, attributes, start and end. Pure.

A client's report contains the waiting time and the inference time at each stage, but not the times
at which the waiting and the inference began. The other part of the latency is time in the client,
the network and the broker. This part is divided equally among the hops: from the client to the
first stage, between stages, and back to the client. The span of a hop therefore has the attribute
``edge_partition.wire.estimated``. The spans follow each other without gaps and add up to the
latency.

Attributes have the names of OpenTelemetry's semantic conventions for messaging, if these
conventions define a name.
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
    """A span: a whole request or a part of a request.

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
    """Split a request into spans.

    Args:
        request: The request. The end of its span is the time at which the monitor received the
            client's report.
        topics: The fleet's topics, for the attribute ``messaging.destination.name``.

    Returns:
        The span of the whole request, then the spans of the request's parts in order of time. Empty
        if the request has no valid latency.
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
        # No part may end after the request, even if the reported times add up to more than the
        # latency.
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
    # The span of the last hop has the whole rest of the latency: also the time of stages that
    # reported nothing.
    back: Attributes = {"messaging.destination.name": topics.result(request.client)}
    add("wire to client", "producer", end_ns - start_ns, {**_SEND, **back})
    return parts


def _destination(topics: Topics, deployment: str | None, stage: int) -> Attributes:
    if deployment is None:
        return {}
    return {"messaging.destination.name": topics.stage(deployment, stage)}
