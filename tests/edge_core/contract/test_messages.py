from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_core.contract.messages import (
    CommandError,
    ErrorCode,
    StageTrace,
    append_trace,
    decode_json,
    decode_trace,
    encode_json,
)
from edge_core.contract.names import NAME_PATTERN

MILLISECONDS = st.floats(0, 1e6).map(lambda ms: round(ms, 3))
DEVICES = st.from_regex(NAME_PATTERN, fullmatch=True)
STAGES = st.builds(StageTrace, st.integers(0, 99), DEVICES, MILLISECONDS, MILLISECONDS)


@given(st.lists(STAGES, max_size=5))
@settings(max_examples=100, deadline=None)
def test_a_trace_has_the_appended_stages(
    stages: list[StageTrace],
) -> None:
    text = None
    for stage in stages:
        text = append_trace(text, stage)
    assert decode_trace(text) == tuple(stages)


def test_a_trace_is_compact_and_keeps_microseconds() -> None:
    text = append_trace(None, StageTrace(0, "pi-1", 0.12345, 7.0))
    assert text == '[{"stage":0,"device":"pi-1","queue_ms":0.123,"invoke_ms":7.000}]'


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "[]",
        "garbage",
        "[garbage]",
        "{}",
        "null",
        "5",
        "[1]",
        '["stage"]',
        "[[]]",
        '[{"stage": 0}]',
        '[{"stage": "x", "device": "d", "queue_ms": 1, "invoke_ms": 1}]',
        '[{"stage": Infinity, "device": "d", "queue_ms": 1, "invoke_ms": 1}]',
        f'[{{"stage": 1, "device": "d", "queue_ms": 1{"0" * 400}, "invoke_ms": 1}}]',
        "[" * 100_000,
    ],
)
def test_an_unreadable_trace_is_empty(text: str | None) -> None:
    assert decode_trace(text) == ()


@pytest.mark.parametrize("text", [None, "", "[]", "garbage", "[", "]"])
def test_a_stage_appended_to_no_trace_starts_a_trace(text: str | None) -> None:
    stage = StageTrace(1, "pi-2", 0.5, 1.5)
    assert decode_trace(append_trace(text, stage)) == (stage,)


def test_a_malformed_list_stays_unreadable_without_an_error() -> None:
    assert decode_trace(append_trace("[x]", StageTrace(1, "pi-2", 0.5, 1.5))) == ()


@given(st.text(max_size=40))
def test_any_text_reads_as_a_trace_or_as_an_empty_trace(text: str) -> None:
    decode_trace(text)
    decode_trace(append_trace(text, StageTrace(1, "pi-2", 0.5, 1.5)))


def test_a_command_round_trips_through_utf_8() -> None:
    document = {"command": "load", "name": "née", "nested": {"list": [1, None, 2.5]}}
    assert decode_json(encode_json(document)) == document
    assert decode_json(bytearray(encode_json(document))) == document


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "not JSON"),
        (b"online", "not JSON"),
        (b"\xff\xfe\xfd", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "JSON list; expected a JSON object"),
        (b"null", "JSON NoneType; expected a JSON object"),
        (b'"ping"', "JSON str; expected a JSON object"),
    ],
)
def test_a_payload_that_is_not_a_json_object_is_a_bad_command(payload: bytes, reason: str) -> None:
    with pytest.raises(CommandError, match=reason) as caught:
        decode_json(payload)
    assert caught.value.code is ErrorCode.BAD_COMMAND
    assert "\n" not in str(caught.value)


def test_an_error_code_is_its_text() -> None:
    assert json.loads(encode_json({"code": ErrorCode.NO_MEMORY})) == {"code": "no-memory"}
