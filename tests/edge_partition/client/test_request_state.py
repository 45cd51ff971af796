"""Each event of a client's requests and deployment, and the decision that follows."""

from __future__ import annotations

import collections
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from answer_manifests import manifest_of

from edge_core.contract.manifest import NEEDS_ROUTE, Predicted, TensorSpec
from edge_core.contract.messages import ERROR, TRACE, ErrorCode, StageTrace, append_trace
from edge_core.mqtt.data_connection import NO_SUBSCRIBERS
from edge_core.mqtt.message import Message
from edge_partition.client.errors import RequestError
from edge_partition.client.request_state import RequestState
from edge_partition.client.requests_in_flight import (
    RESEND_FIRST_S,
    RESEND_MAX_S,
    RETRY_FIRST_S,
    Request,
)
from edge_partition.client.result import Result
from edge_partition.inputs.take_inputs import TakenInputs

if TYPE_CHECKING:
    from edge_core.contract.manifest import Manifest

SCORES = TensorSpec("scores", "float32", (1, 3))
ARRAY = np.array([[1, 2, 3]], np.float32)
BROKER = "mqtt://hub:1883"
NOT_AUTHORIZED = 0x87


def make_manifest(
    *boards_of_stages: tuple[str, ...], is_routed: bool = True, state: str = ""
) -> Manifest:
    """Return a manifest with these boards for each stage; each inference takes 10 ms."""
    manifest = manifest_of(SCORES)
    (stage,) = manifest.stages
    tensors = [manifest.inputs, *((SCORES,) for _ in boards_of_stages)]
    stages = tuple(
        replace(
            stage,
            index=index,
            devices=boards,
            file=f"stages/{index}.tflite",
            inputs=tensors[index],
            predicted=Predicted(10.0, 1),
        )
        for index, boards in enumerate(boards_of_stages)
    )
    needs = (NEEDS_ROUTE,) if is_routed else ()
    model = replace(manifest.model, state=state)
    return replace(manifest, stages=stages, needs=needs, model=model)


def make_state(
    *boards_of_stages: tuple[str, ...], is_routed: bool = True, state: str = ""
) -> RequestState:
    requests = RequestState("m")
    requests.begin(make_manifest(*boards_of_stages, is_routed=is_routed, state=state))
    return requests


def make_request(number: int, started: float = 0.0) -> Request:
    return Request(bytes([number]), TakenInputs({}), started=started, deadline=started + 30.0)


def send(state: RequestState, number: int, now: float = 0.0) -> Request:
    """Add a request and send it."""
    request = make_request(number, now)
    assert state.add(request)
    state.prepare_send(request, now)
    return request


def route_of(state: RequestState, request: Request, now: float = 0.0) -> tuple[str, ...] | None:
    """Send a request; return the route."""
    prepared = state.prepare_send(request, now)
    assert prepared is not None
    return prepared[1]


def answer_to(request: Request, *boards: str, error: str | None = None) -> Message:
    """Return the message that answers a request after an inference of 4 ms on each board."""
    trace = None
    for index, board in enumerate(boards):
        trace = append_trace(trace, StageTrace(index, board, 1.0, 4.0))
    user = {} if trace is None else {TRACE: trace}
    payload = ARRAY.tobytes()
    if error is not None:
        user[ERROR], payload = error, b"a reason"
    return Message("result", payload, None, request.id, None, user, retained=False, arrived=0.0)


def error_of(request: Request) -> RequestError:
    assert isinstance(request.answer, RequestError)
    return request.answer


# Sending


def test_a_request_is_sent_with_the_live_manifest_and_its_route() -> None:
    state, request = make_state(("a",), ("b",)), make_request(1)
    assert state.add(request)
    assert state.in_flight.all() == [request]
    assert (request.sends, request.sent_at) == (0, None)
    assert state.prepare_send(request, 2.0) == (state.deployment.manifest, ("a", "b"))
    assert (request.sends, request.sent_at) == (1, 2.0)


def test_a_manifest_without_routes_gives_no_route() -> None:
    state, request = make_state(("a", "b"), is_routed=False), make_request(1)
    assert state.add(request)
    assert state.prepare_send(request, 0.0) == (state.deployment.manifest, None)
    assert request.resend_at is None


def test_without_routes_an_offline_replica_makes_new_requests_repeat() -> None:
    state = make_state(("a", "b"), is_routed=False)
    state.take_availability("a", 0.0, is_online=False, is_new=False)
    request = make_request(1, started=5.0)
    assert state.add(request)
    assert (request.resend_at, request.resend_after_s) == (5.0 + RESEND_FIRST_S, RESEND_FIRST_S)


def test_no_route_while_all_boards_of_a_stage_are_offline() -> None:
    state, request = make_state(("a",), ("b", "c")), make_request(1)
    for board in ("b", "c"):
        state.take_availability(board, 0.0, is_online=False, is_new=True)
    assert state.add(request)
    assert state.prepare_send(request, 1.0) is None
    assert (request.sends, request.sent_at) == (0, None)
    state.take_availability("c", 2.0, is_online=True, is_new=True)
    assert state.in_flight.take_due(2.0) == [request]
    assert state.prepare_send(request, 2.0) == (state.deployment.manifest, ("a", "c"))


# Answers


def test_an_answer_settles_its_request_and_returns_the_latency() -> None:
    state = make_state(("a",))
    first, second = send(state, 1, 10.0), send(state, 2, 10.0)
    assert state.take_answer(answer_to(first, "a"), 10.25) == 250.0
    assert isinstance(first.answer, Result)
    assert first.answer.outputs["scores"].tolist() == [[1.0, 2.0, 3.0]]
    assert first.answer.latency_ms == 250.0
    assert first.answer.trace == (StageTrace(0, "a", 1.0, 4.0),)
    assert state.in_flight.all() == [second]
    assert second.answer is None


def test_a_repeated_answer_returns_none_and_changes_nothing() -> None:
    state = make_state(("a",))
    request = send(state, 1)
    state.take_answer(answer_to(request, "a"), 0.1)
    first = request.answer
    assert state.take_answer(answer_to(request, "a"), 0.2) is None
    assert request.answer is first


def test_an_answer_to_a_discarded_request_returns_none() -> None:
    state = make_state(("a",))
    request = send(state, 1)
    state.discard(iter([request]))
    assert len(state.in_flight) == 0
    assert state.take_answer(answer_to(request, "a"), 0.1) is None
    assert request.answer is None


def test_an_agents_error_is_the_answer() -> None:
    state = make_state(("a",), ("b",))
    request = send(state, 1)
    message = answer_to(request, "a", error=ErrorCode.STAGE_FAILED)
    assert state.take_answer(message, 0.5) == 500.0
    error = error_of(request)
    assert (error.code, str(error), error.is_final) == ("stage-failed", "a reason", False)
    assert error.trace == (StageTrace(0, "a", 1.0, 4.0),)
    assert len(state.in_flight) == 0


@pytest.mark.parametrize(
    "code", [ErrorCode.STOPPING, ErrorCode.UNKNOWN_GENERATION, ErrorCode.NOT_LISTENING]
)
def test_a_temporary_error_schedules_a_repeat_and_keeps_the_request(code: str) -> None:
    state, calls = make_state(("a", "b")), list[str]()
    request = make_request(1)
    request.on_overloaded = lambda: calls.append("overloaded")
    assert state.add(request)
    assert route_of(state, request) == ("a",)
    assert state.take_answer(answer_to(request, error=code), 1.0) == 1000.0
    assert request.answer is None
    assert state.in_flight.all() == [request]
    assert (request.resend_at, request.resend_after_s) == (1.0 + RETRY_FIRST_S, None)
    assert state.in_flight.take_due(1.0) == []
    assert state.in_flight.take_due(1.0 + RETRY_FIRST_S) == [request]
    # Both boards are idle, and board b had no request yet.
    assert route_of(state, request) == ("b",)
    assert request.sends == 2
    assert calls == []


def test_pauses_after_temporary_errors_double() -> None:
    state = make_state(("a",))
    request = send(state, 1)
    pauses = []
    for _ in range(9):
        state.take_answer(answer_to(request, error=ErrorCode.STOPPING), 8.0)
        assert request.resend_at is not None
        pauses.append(round(request.resend_at - 8.0, 6))
    assert pauses[:3] == [RETRY_FIRST_S, 2 * RETRY_FIRST_S, 4 * RETRY_FIRST_S]
    assert pauses[-1] == RESEND_MAX_S


def test_an_overloaded_board_calls_back_and_schedules_a_repeat() -> None:
    state, calls = make_state(("a",)), list[str]()
    request = make_request(1)
    request.on_overloaded = lambda: calls.append("overloaded")
    assert state.add(request)
    state.prepare_send(request, 0.0)
    assert state.take_answer(answer_to(request, error=ErrorCode.OVERLOADED), 1.0) == 1000.0
    assert calls == ["overloaded"]
    assert (request.answer, request.resend_at) == (None, 1.0 + RETRY_FIRST_S)


def test_an_overloaded_board_needs_no_callback() -> None:
    state = make_state(("a",))
    request = send(state, 1)
    assert state.take_answer(answer_to(request, error=ErrorCode.OVERLOADED), 1.0) == 1000.0
    assert (request.answer, request.resend_at) == (None, 1.0 + RETRY_FIRST_S)


def test_a_result_frees_its_board() -> None:
    state = make_state(("a", "b"))
    on_a, on_b = send(state, 1), send(state, 2)
    assert state.take_answer(answer_to(on_b, "b"), 0.1) is not None
    assert route_of(state, make_request(3)) == ("b",)
    assert state.in_flight.all() == [on_a]


@pytest.mark.parametrize("is_answered", [True, False])
def test_a_board_that_takes_no_request_gets_one_at_a_time(*, is_answered: bool) -> None:
    state, request = make_state(("a", "b")), make_request(1)
    assert state.add(request)
    assert route_of(state, request) == ("a",)
    if is_answered:
        state.take_answer(answer_to(request, error=ErrorCode.STOPPING), 0.1)
    else:
        state.take_refusal(request.id, NO_SUBSCRIBERS, BROKER, 0.1)
    routes = [route_of(state, make_request(number)) for number in range(2, 10)]
    assert collections.Counter(routes) == {("a",): 1, ("b",): 7}


# The broker


def test_a_request_that_no_agent_receives_is_sent_again() -> None:
    state = make_state(("a",))
    request = send(state, 1)
    state.take_refusal(request.id, NO_SUBSCRIBERS, BROKER, 2.0)
    assert request.answer is None
    assert state.in_flight.all() == [request]
    assert request.resend_at == 2.0 + RETRY_FIRST_S


def test_a_request_that_the_broker_refuses_fails() -> None:
    state = make_state(("a",))
    request, other = send(state, 1), send(state, 2)
    state.take_refusal(request.id, NOT_AUTHORIZED, BROKER, 2.0)
    error = error_of(request)
    assert (error.code, error.is_final) == ("broker-refused", False)
    assert "The broker at mqtt://hub:1883 refused the request" in str(error)
    assert "0x87" in str(error)
    assert state.in_flight.all() == [other]


def test_a_refusal_of_an_answered_request_changes_nothing() -> None:
    state = make_state(("a",))
    request = send(state, 1)
    state.take_answer(answer_to(request, "a"), 0.1)
    state.take_refusal(request.id, NOT_AUTHORIZED, BROKER, 0.2)
    assert isinstance(request.answer, Result)
    assert request.resend_at is None


def test_a_reconnect_schedules_repeats_of_all_requests() -> None:
    state = make_state(("a", "b"))
    requests = [send(state, number) for number in (1, 2)]
    state.take_connect(7.0)
    assert [request.resend_at for request in requests] == [7.0 + RESEND_FIRST_S] * 2
    assert [request.resend_after_s for request in requests] == [RESEND_FIRST_S] * 2


# The deployment


def test_an_ended_deployment_fails_all_requests_and_refuses_new_ones() -> None:
    state = make_state(("a",))
    requests = [send(state, number) for number in (1, 2)]
    state.take_manifest(b"")
    late, settled = make_request(3), list[Request]()
    late.on_settled = settled.append
    assert not state.add(late)
    assert settled == [late]
    for request in (*requests, late):
        error = error_of(request)
        assert (error.code, error.is_final) == ("undeployed", True)
        assert str(error) == "Deployment 'm' was undeployed."
    assert len(state.in_flight) == 0


def test_a_model_with_other_outputs_ends_the_deployment() -> None:
    state = make_state(("a",))
    request = send(state, 1)
    other = manifest_of(replace(SCORES, shape=(1, 4)))
    state.take_manifest(other.to_json().encode())
    assert (error_of(request).code, error_of(request).is_final) == ("replaced", True)
    assert not state.add(make_request(2))


def test_a_new_generation_gives_repeats_its_own_boards() -> None:
    state = make_state(("a",))
    request = send(state, 1)
    state.take_availability("c", 0.0, is_online=False, is_new=True)
    second = replace(make_manifest(("b", "c")), generation="h")
    state.take_manifest(second.to_json().encode())
    assert state.in_flight.all() == [request]
    assert request.answer is None
    # Board c was offline before the generation that uses it.
    prepared = [state.prepare_send(request, 1.0) for _ in range(3)]
    assert prepared == [(second, ("b",))] * 3


def test_the_same_generation_keeps_the_routes() -> None:
    state = make_state(("a", "b"))
    request = send(state, 1)
    state.take_manifest(state.deployment.manifest.to_json().encode())
    state.take_availability("a", 1.0, is_online=False, is_new=True)
    # With a new router, the request would have no route, and would be sent again many times.
    assert (request.resend_at, request.resend_after_s) == (1.0, None)


def test_a_deployment_that_comes_back_takes_requests_again() -> None:
    state = make_state(("a",))
    manifest = replace(state.deployment.manifest, generation="h")
    state.take_manifest(b"")
    state.take_manifest(manifest.to_json().encode())
    request = make_request(1)
    assert state.add(request)
    assert state.prepare_send(request, 0.0) == (manifest, ("a",))


# Boards


def test_requests_on_a_board_that_goes_offline_are_sent_at_once_to_another_board() -> None:
    state = make_state(("a", "b"))
    on_a, on_b = send(state, 1), send(state, 2)
    state.take_availability("a", 3.0, is_online=False, is_new=True)
    assert (on_a.resend_at, on_a.resend_after_s) == (3.0, None)
    assert on_b.resend_at is None
    assert state.in_flight.take_due(3.0) == [on_a]
    assert route_of(state, on_a, 3.0) == ("b",)


def test_requests_on_a_board_that_comes_back_are_repeated_until_answered() -> None:
    state = make_state(("a",))
    request = send(state, 1)
    state.take_availability("a", 3.0, is_online=False, is_new=True)
    state.take_availability("a", 4.0, is_online=True, is_new=True)
    assert (request.resend_at, request.resend_after_s) == (4.0 + RESEND_FIRST_S, RESEND_FIRST_S)
    repeats = [now / 4 for now in range(16, 80) if state.in_flight.take_due(now / 4)]
    assert repeats == [4.5, 5.0, 6.0, 8.0, 12.0, 16.0]


def test_a_retained_availability_repeats_nothing_and_counts_for_routes() -> None:
    state = make_state(("a", "b"))
    request = send(state, 1)
    state.take_availability("a", 3.0, is_online=False, is_new=False)
    assert request.resend_at is None
    assert route_of(state, send(state, 2), 3.0) == ("b",)


# Timeouts


@pytest.mark.parametrize("is_online", [True, False])
def test_a_timeout_names_the_lost_broker(*, is_online: bool) -> None:
    state = make_state(("a",))
    state.take_availability("a", 0.0, is_online=is_online, is_new=True)
    request = send(state, 1, 10.0)
    state.expire(request, 12.5, BROKER)
    error = error_of(request)
    assert (error.code, error.is_final) == ("timeout", True)
    assert str(error).startswith(
        "No answer within 2.5 s: the connection to the broker at mqtt://hub:1883 is lost"
    )
    assert len(state.in_flight) == 0


def test_a_timeout_names_the_stages_whose_boards_are_all_offline() -> None:
    state = make_state(("a",), ("b", "c"), ("d",), ("e", "f"))
    for board in ("b", "c", "d", "e"):
        state.take_availability(board, 0.0, is_online=False, is_new=True)
    request = send(state, 1, 10.0)
    state.expire(request, 13.0, None)
    error = error_of(request)
    assert (error.code, error.is_final) == ("timeout", True)
    assert "No answer within 3.0 s: all boards of a stage are offline" in str(error)
    assert "offline: b, c (stage 1); d (stage 2)." in str(error)


@pytest.mark.parametrize(("word", "is_final"), [("", False), ("reset", False), ("keep", True)])
def test_a_timeout_with_online_boards_is_final_if_state_is_kept(word: str, is_final: bool) -> None:
    state = make_state(("a", "b"), state=word)
    state.take_availability("a", 0.0, is_online=False, is_new=True)
    request = send(state, 1, 10.0)
    state.expire(request, 40.0, None)
    error = error_of(request)
    assert (error.code, error.is_final) == ("timeout", is_final)
    assert "No answer within 30.0 s: each stage has an online board" in str(error)
    assert "`edge-partition status m`" in str(error)


def test_an_ended_request_frees_its_boards() -> None:
    state = make_state(("a", "b"))
    on_a, on_b = send(state, 1), send(state, 2)
    on_a_too = make_request(3)
    assert state.add(on_a_too)
    assert route_of(state, on_a_too) == ("a",)
    state.expire(on_a, 30.0, None)
    state.settle(on_a_too, RequestError("timeout", "late"))
    # Board b still has a request, and a has none.
    assert state.in_flight.all() == [on_b]
    assert route_of(state, send(state, 4)) == ("a",)
