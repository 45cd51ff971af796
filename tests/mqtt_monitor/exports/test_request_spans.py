from __future__ import annotations

import pytest
from fleet_messages import START_S
from hypothesis import given
from hypothesis import strategies as st

from edge_core.contract.messages import StageTrace
from edge_core.contract.topics import Topics
from mqtt_monitor.exports.request_spans import split_request
from mqtt_monitor.fleet.snapshot import Request

times = st.floats(0, 1e18)


def request(
    latency_ms: float | None, *stages: StageTrace, at_s: float = START_S, **fields: str
) -> Request:
    return Request(
        at_s=at_s,
        client="me",
        request="ab" * 16,
        deployment=fields.get("deployment", "net"),
        generation="g1",
        latency_ms=latency_ms,
        stages=stages,
        error=fields.get("error"),
        reason=None,
    )


def test_parts_follow_each_other_and_add_up_to_the_latency() -> None:
    stages = (StageTrace(0, "pi-1", 1.0, 10.0), StageTrace(1, "pi-2", 2.0, 20.0))
    whole, *parts = split_request(request(39.0, *stages), Topics())
    assert [(part.name, round((part.end_ns - part.start_ns) / 1e6, 6)) for part in parts] == [
        ("wire to stage 0", 2.0),
        ("queue of stage 0", 1.0),
        ("invoke stage 0", 10.0),
        ("wire to stage 1", 2.0),
        ("queue of stage 1", 2.0),
        ("invoke stage 1", 20.0),
        ("wire to client", 2.0),
    ]
    assert whole.end_ns - whole.start_ns == 39_000_000
    invoke = parts[5]
    assert invoke.attributes == {
        "messaging.system": "mqtt",
        "messaging.operation.name": "invoke",
        "messaging.operation.type": "process",
        "messaging.destination.name": "edge/v1/deployment/net/stage/1",
        "edge_partition.deployment": "net",
        "edge_partition.generation": "g1",
        "edge_partition.stage.index": 1,
        "edge_partition.device": "pi-2",
    }
    assert whole.attributes["messaging.message.conversation_id"] == "ab" * 16


@given(st.none() | times, st.lists(st.tuples(times, times), max_size=4), st.floats(0, 4e9))
def test_parts_lie_within_the_request_for_any_reported_times(
    latency_ms: float | None, stages: list[tuple[float, float]], at_s: float
) -> None:
    traced = [StageTrace(index, "pi", *stage) for index, stage in enumerate(stages)]
    spans = split_request(request(latency_ms, *traced, at_s=at_s), Topics())
    if not spans:
        return
    whole, *parts = spans
    assert 0 <= whole.start_ns <= whole.end_ns
    edges = [whole.start_ns, *[edge for part in parts for edge in (part.start_ns, part.end_ns)]]
    assert edges == sorted(edges)
    assert edges[-1] == whole.end_ns
    assert sum(part.end_ns - part.start_ns for part in parts) == whole.end_ns - whole.start_ns


@pytest.mark.parametrize("latency_ms", [None, 1e17, START_S * 1001])
def test_a_request_without_a_valid_latency_has_no_spans(latency_ms: float | None) -> None:
    assert split_request(request(latency_ms), Topics()) == ()


def test_an_error_is_its_code() -> None:
    whole, *_ = split_request(request(5.0, error="expired"), Topics())
    assert whole.attributes["error.type"] == "expired"
