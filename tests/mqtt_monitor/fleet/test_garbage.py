"""Damaged messages: nothing raises, memory stays bounded, other messages stay correct."""

from __future__ import annotations

import json
from typing import Any

from fleet_messages import (
    PREFIX,
    START_S,
    Watched,
    arrival,
    availability,
    manifest,
    profile,
    stage,
    stats,
)
from hypothesis import given
from hypothesis import strategies as st

from mqtt_monitor.exports.metrics import collect
from mqtt_monitor.fleet.alerts import find_alerts
from mqtt_monitor.fleet.arrival import Arrival
from mqtt_monitor.fleet.describe_fleet import describe_fleet
from mqtt_monitor.fleet.limits import MAX_DEVICES, MAX_EVENTS, MAX_REQUESTS, MAX_SERVED

CONTROLS = "\x1b[31m\x00\r\n\u202e"
NAMES = st.sampled_from(
    ["pi-1", "pi-2", "net", "<b>x</b>", "[red]x", CONTROLS, "", "..", "a" * 300]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -1, 1e308, 2**63])
    | st.floats()
    | st.text(max_size=8)
    | NAMES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4) | NAMES, inner, max_size=4)
    ),
    max_leaves=8,
)


def spoiled(document: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """Generate a real message with random values in some fields."""
    fields = list(document)
    inner = [key for item in document.get("stages", []) for key in item]

    def spoil(changes: dict[str, Any], stages: dict[str, Any]) -> bytes:
        result = {**document, **changes}
        if isinstance(result.get("stages"), list):
            result["stages"] = [
                {**item, **stages} if isinstance(item, dict) else item for item in result["stages"]
            ]
        return json.dumps(result).encode()

    return st.builds(
        spoil,
        st.dictionaries(st.sampled_from(fields), VALUES, max_size=3),
        st.dictionaries(st.sampled_from(inner or ["x"]), VALUES, max_size=3),
    )


def document(message: Arrival) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(message.payload)
    return result


PAYLOADS = (
    st.binary(max_size=40)
    | VALUES.map(lambda value: json.dumps(value).encode())
    | st.sampled_from([b"online", b"offline", b"", b"[" * 100_000, b"NaN", b'{"a":' * 5000])
    | spoiled(document(stats(0, "pi-1", 1, stage(0, 5), stage(1, 7))))
    | spoiled(document(profile(0, "pi-1", ram_mib=512, cores=4)))
    | spoiled(document(manifest(0, ["pi-1"], ["pi-2"])))
)
TOPICS = st.builds(
    lambda name, kind: kind.format(name),
    NAMES,
    st.sampled_from(
        [
            f"{PREFIX}/device/{{}}/availability",
            f"{PREFIX}/device/{{}}/profile",
            f"{PREFIX}/device/{{}}/stats",
            f"{PREFIX}/device/{{}}/other",
            f"{PREFIX}/deployment/{{}}/manifest",
            f"{PREFIX}/client/{{}}/result",
            f"{PREFIX}/client/{{}}/trace",
            "elsewhere/{}",
        ]
    ),
)
ARRIVALS = st.builds(
    Arrival,
    time_s=st.floats(0, 1e11) | st.floats(START_S, START_S + 60),
    topic=TOPICS,
    payload=PAYLOADS,
    retained=st.booleans(),
    correlation_data=st.binary(max_size=40),
    user=st.dictionaries(
        st.sampled_from(["trace", "generation", "error"]),
        VALUES.map(json.dumps) | st.text(max_size=20),
        max_size=3,
    ),
)


def texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for item in value.items() for text in texts(item)]
    return (
        [text for item in value for text in texts(item)] if isinstance(value, list | tuple) else []
    )


@given(st.lists(ARRIVALS, max_size=12))
def test_no_message_breaks_the_snapshot(arrivals: list[Arrival]) -> None:
    watched = Watched().tell(manifest(0, ["pi-1"], ["pi-2"]), *arrivals)
    # A board with valid messages is shown in any case.
    watched.tell(availability(50, "good", b"online"), stats(50, "good", 1))
    fleet = watched.at(51)
    assert fleet.devices["good"].state == "online"
    shown = describe_fleet(fleet, find_alerts(fleet))
    # JSON has no NaN and no infinity.
    json.dumps(shown, allow_nan=False)
    assert not any(
        character in text for text in texts(shown) for character in CONTROLS if character < " "
    )
    for metric in collect(fleet):
        assert all(sample.value == sample.value for sample in metric.samples)


def test_invalid_names_are_counted_and_not_shown() -> None:
    watched = Watched()
    for name in ("<script>", CONTROLS, "", "-x", "a" * 129, "é"):
        watched.tell(availability(0, name, b"online"), stats(0, name, 1))
        watched.tell(arrival(0, f"deployment/{name}/manifest", {"schema": 1}))
    fleet = watched.at(1)
    assert not fleet.devices
    assert not fleet.deployments
    assert fleet.messages.unreadable == 18


def test_a_boards_texts_have_no_control_characters_and_a_limited_length() -> None:
    watched = Watched().tell(profile(0, "pi-1", cpu_model=f"Cortex{CONTROLS}" * 1000))
    told = watched.at(1).devices["pi-1"].profile
    assert told is not None
    assert told.cpu_model is not None
    assert told.cpu_model.startswith("Cortex\ufffd[31m\ufffd")
    assert len(told.cpu_model) == 200


def test_memory_is_bounded_for_any_messages() -> None:
    watched = Watched()
    many = [stage(n, n, deployment=f"d{n}") for n in range(MAX_SERVED + 50)]
    for number in range(MAX_DEVICES + 100):
        watched.tell(stats(0, f"pi-{number}", 1, *many[: MAX_SERVED + 50 if number < 100 else 3]))
    for number in range(MAX_EVENTS + 100):
        state = b"online" if number % 2 else b"offline"
        watched.tell(availability(number, "pi-1", state))
        watched.tell(arrival(1, "client/c/trace", {"latency_ms": 1.0, "request": str(number)}))
    errors = {f"code-{number}": 1 for number in range(1000)}
    watched.tell(manifest(1, ["pi-1"]), stats(1, "pi-1", 1, stage(0, 1, errors=errors)))
    fleet = watched.at(2)
    assert len(fleet.devices) == MAX_DEVICES
    assert sum(len(device.serves) for device in fleet.devices.values()) <= 4000 + MAX_SERVED
    assert len(fleet.events) == MAX_EVENTS
    assert len(fleet.requests) == MAX_REQUESTS
    assert set(fleet.too_many) == {"boards", "stages"}
    assert len(watched.board(2, 0).errors_total) <= 17


def test_impossible_times_of_a_request_are_left_out() -> None:
    huge = {"stage": 0, "device": "pi-1", "queue_ms": 1.7e308, "invoke_ms": 1.7e308}
    real = {"stage": 1, "device": "pi-2", "queue_ms": 1.0, "invoke_ms": 2.0}
    report = arrival(1, "client/c/trace", {"latency_ms": 9.0, "trace": [huge, real]})
    user = {"trace": json.dumps([huge, real])}
    result = Arrival(START_S + 2, f"{PREFIX}/client/d/result", b"", user=user)
    fleet = Watched().tell(report, result).at(3)
    assert [request.stages_ms for request in fleet.requests] == [3, 3]
    json.dumps(describe_fleet(fleet, ()), allow_nan=False)
