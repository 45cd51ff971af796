"""An answer's message -> a result, an error, or a request to send again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from answer_manifests import manifest_of

from edge_core.contract.manifest import TensorSpec
from edge_core.contract.messages import ERROR, TRACE, ErrorCode, StageTrace, append_trace
from edge_core.mqtt.connection import Message
from edge_partition.client.errors import RequestError
from edge_partition.client.read_answer import read_answer
from edge_partition.client.result import Result

MANIFEST = manifest_of(TensorSpec("scores", "float32", (1, 3)))
RAN = StageTrace(0, "pi", 1.0, 2.0)


def make_message(payload: bytes, error: str | None = None) -> Message:
    user = {TRACE: append_trace(None, RAN)}
    if error is not None:
        user[ERROR] = error
    return Message("result", payload, None, b"1", None, user, retained=False, arrived=0.0)


def test_tensors_become_a_result_with_latency_and_trace() -> None:
    scores = np.array([[1, 2, 3]], np.float32)
    answer = read_answer(MANIFEST, make_message(scores.tobytes()), 12.5)
    assert isinstance(answer, Result)
    assert answer.outputs["scores"].tobytes() == scores.tobytes()
    assert (answer.latency_ms, answer.trace) == (12.5, (RAN,))


def test_a_payload_of_another_size_is_an_error_of_one_request() -> None:
    answer = read_answer(MANIFEST, make_message(b"1234"), 1.0)
    assert isinstance(answer, RequestError)
    assert answer.code == "bad-payload"
    assert not answer.is_final
    assert answer.trace == (RAN,)


@pytest.mark.parametrize("code", [ErrorCode.UNKNOWN_GENERATION, ErrorCode.STOPPING])
def test_errors_that_pass_are_no_answer(code: str) -> None:
    assert read_answer(MANIFEST, make_message(b"", code), 1.0) is None


def test_an_agents_error_has_its_code_and_reason() -> None:
    message = make_message(b"stage 0 failed: \xff", ErrorCode.STAGE_FAILED)
    answer = read_answer(MANIFEST, message, 1.0)
    assert isinstance(answer, RequestError)
    assert (answer.code, str(answer)) == (
        "stage-failed",
        "stage 0 failed: \N{REPLACEMENT CHARACTER}",
    )
    assert not answer.is_final


@pytest.mark.parametrize(
    ("code", "state", "is_final"),
    [
        (ErrorCode.STAGE_FAILED, "reset", False),
        (ErrorCode.STAGE_FAILED, "keep", True),
        (ErrorCode.STATE_LOST, "keep", True),
        (ErrorCode.STATE_TAKEN, "", True),
    ],
)
def test_an_error_is_final_where_a_kept_state_is_lost(
    code: str, state: str, is_final: bool
) -> None:
    manifest = replace(MANIFEST, model=replace(MANIFEST.model, state=state))
    answer = read_answer(manifest, make_message(b"", code), 1.0)
    assert isinstance(answer, RequestError)
    assert answer.is_final is is_final
