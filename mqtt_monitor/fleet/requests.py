"""Reads messages about requests: results, error answers and clients' reports. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from edge_core.contract.messages import ERROR, GENERATION, TRACE, StageTrace, decode_trace
from mqtt_monitor.fleet.limits import (
    MAX_ANSWER_BYTES,
    MAX_TRACE_CHARACTERS,
    MAX_TRACED_STAGES,
)
from mqtt_monitor.fleet.read_values import read_name, read_number, read_object, read_text
from mqtt_monitor.fleet.snapshot import Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from mqtt_monitor.fleet.arrival import Arrival

#: Error codes with which a board refuses its part of a deployment.
REFUSALS = frozenset({"no-memory", "no-storage", "checksum", "cannot-load", "wrong-result"})
_MAX_ID_BYTES = 32


def read_result(
    arrival: Arrival, client: str, deployment_of: Callable[[str | None], str | None]
) -> Request | None:
    """Read a message on a result topic; None: the message has no trace and no error.

    Args:
        arrival: The message. Its payload is read only if the message is an error answer.
        client: Name of the client, from the topic.
        deployment_of: A function that gets a generation and returns the name of the deployment in
            which this generation is live; None: in no deployment.
    """
    error = arrival.user.get(ERROR)
    stages = _read_trace(arrival.user.get(TRACE))
    if not stages and error is None:
        return None
    generation = read_name(arrival.user.get(GENERATION))
    return Request(
        at_s=arrival.time_s,
        client=read_text(client) or "",
        request=arrival.correlation_data[:_MAX_ID_BYTES].hex(),
        deployment=deployment_of(generation),
        generation=generation,
        latency_ms=None,
        stages=stages,
        error=read_text(error),
        reason=_read_sentence(arrival.payload) if error is not None else None,
    )


def read_report(
    arrival: Arrival, client: str, deployment_of: Callable[[str | None], str | None]
) -> Request | None:
    """Read a client's report of a request; None: the report is unreadable.

    Args:
        arrival: A message on the topic ``client/{client}/trace``.
        client: Name of the client, from the topic.
        deployment_of: A function that gets a generation and returns the name of the deployment in
            which this generation is live; None: in no deployment.
    """
    document = read_object(arrival.payload, MAX_ANSWER_BYTES)
    latency_ms = read_number(document.get("latency_ms")) if document is not None else None
    if document is None or latency_ms is None:
        return None
    generation = read_name(document.get("generation"))
    try:
        trace = json.dumps(document.get("trace"))
    except RecursionError:
        return None
    return Request(
        at_s=arrival.time_s,
        client=read_text(client) or "",
        request=(read_text(document.get("request")) or "")[: 2 * _MAX_ID_BYTES],
        deployment=deployment_of(generation),
        generation=generation,
        latency_ms=latency_ms,
        stages=_read_trace(trace),
        error=read_text(document.get("error")),
        reason=None,
    )


def read_refusal(arrival: Arrival) -> str | None:
    """Return a board's reason for refusing a deployment; None: the message is no refusal."""
    if arrival.user or not arrival.payload.startswith(b"{"):
        return None
    document: dict[str, Any] | None = read_object(arrival.payload, MAX_ANSWER_BYTES)
    if document is None or document.get("ok") is not False:
        return None
    code = document.get("code")
    if not isinstance(code, str) or code not in REFUSALS:
        return None
    return read_text(document.get("reason")) or code


def _read_trace(text: str | None) -> tuple[StageTrace, ...]:
    if text is None or len(text) > MAX_TRACE_CHARACTERS:
        return ()
    return tuple(
        StageTrace(stage.stage, read_text(stage.device) or "", queue_ms, invoke_ms)
        for stage in decode_trace(text)[:MAX_TRACED_STAGES]
        if (queue_ms := read_number(stage.queue_ms)) is not None
        and (invoke_ms := read_number(stage.invoke_ms)) is not None
    )


def _read_sentence(payload: bytes) -> str | None:
    return read_text(payload[:1000].decode("utf-8", "replace"))
