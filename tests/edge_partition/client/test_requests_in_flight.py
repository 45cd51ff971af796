"""Transitions of a request: sent again at growing pauses, answered once."""

from __future__ import annotations

import pytest
from pipeline_simulation import make_router

from edge_partition.client.errors import RequestError
from edge_partition.client.requests_in_flight import (
    RESEND_FIRST_S,
    RESEND_MAX_S,
    RETRY_FIRST_S,
    Request,
    RequestsInFlight,
)
from edge_partition.client.result import Result
from edge_partition.inputs.take_inputs import TakenInputs


def make_request(number: int) -> Request:
    return Request(bytes([number]), TakenInputs({}), started=0.0, deadline=30.0)


def make_result() -> Result:
    return Result({}, 1.0, ())


def test_a_request_without_a_sign_of_loss_is_never_sent_again() -> None:
    request = make_request(1)
    assert not request.take_turn(1_000.0)
    assert request.resend_at is None


def test_pauses_between_repeats_double_up_to_the_longest_one() -> None:
    request = make_request(1)
    request.schedule_resends(10.0)
    repeats, now = [], 10.0
    while len(repeats) < 6:
        now += 0.25
        if request.take_turn(now):
            repeats.append(now)
    pauses = [later - sooner for sooner, later in zip([10.0, *repeats], repeats, strict=False)]
    assert pauses == [RESEND_FIRST_S, 0.5, 1.0, 2.0, RESEND_MAX_S, RESEND_MAX_S]


def test_a_second_sign_of_loss_starts_with_the_first_pause_again() -> None:
    request = make_request(1)
    request.schedule_resends(0.0)
    for now in (0.5, 1.0, 2.0):
        assert request.take_turn(now)
    request.schedule_resends(2.1)
    assert not request.take_turn(2.5)
    assert request.take_turn(2.6)


def test_a_request_whose_board_went_offline_is_sent_again_once_and_at_once() -> None:
    request = make_request(1)
    request.resend_once(10.0)
    assert request.take_turn(10.0)
    assert not request.take_turn(1_000.0)


def test_pauses_after_temporary_errors_double_up_to_the_longest_one() -> None:
    request, now, pauses = make_request(1), 10.0, []
    for _ in range(9):
        request.schedule_retry(now)
        assert request.resend_at is not None
        pauses.append(round(request.resend_at - now, 6))
        now = request.resend_at
        assert request.take_turn(now)
        assert not request.take_turn(now + 100)
    assert pauses[:3] == [RETRY_FIRST_S, 2 * RETRY_FIRST_S, 4 * RETRY_FIRST_S]
    assert pauses[-1] == RESEND_MAX_S


def test_the_next_repeat_is_the_first_one_of_all_requests() -> None:
    in_flight = RequestsInFlight()
    first, second = make_request(1), make_request(2)
    for request in (first, second):
        in_flight.add(request)
    assert in_flight.next_resend() is None
    first.schedule_resends(10.0)
    second.schedule_resends(9.0)
    assert in_flight.next_resend() == 9.0 + RESEND_FIRST_S
    assert in_flight.take_due(9.5) == [second]
    assert in_flight.next_resend() == 10.0
    in_flight.settle(second, make_result())
    assert in_flight.next_resend() == 10.0 + RESEND_FIRST_S


def test_a_settled_request_calls_back_once() -> None:
    in_flight, settled = RequestsInFlight(), []
    request = make_request(1)
    request.on_settled = settled.append
    in_flight.add(request)
    for _ in range(2):
        in_flight.settle(request, make_result())
    assert settled == [request]


def test_the_first_answer_counts_and_repeats_find_no_request() -> None:
    in_flight = RequestsInFlight()
    request, first = make_request(1), make_result()
    in_flight.add(request)
    found = in_flight.find(b"\x01")
    assert found is request
    in_flight.settle(request, first)
    assert in_flight.find(b"\x01") is None
    in_flight.settle(request, make_result())
    assert request.answer is first


def test_an_answer_to_an_unknown_request_finds_none() -> None:
    assert RequestsInFlight().find(b"nobody's") is None


def test_only_requests_without_an_answer_are_sent_again() -> None:
    in_flight = RequestsInFlight()
    answered, open_one = make_request(1), make_request(2)
    in_flight.add(answered)
    in_flight.add(open_one)
    for request in in_flight.all():
        request.schedule_resends(0.0)
    in_flight.settle(answered, make_result())
    assert not answered.take_turn(1.0)
    assert open_one.take_turn(1.0)


def test_a_change_of_a_boards_availability_concerns_the_requests_on_its_routes() -> None:
    router = make_router({"a": 10.0, "b": 10.0})
    in_flight, requests = RequestsInFlight(), [make_request(1), make_request(2)]
    for request in requests:
        in_flight.add(request)
        router.choose(request.id, 0.0)
    assert [router.route_of(request.id) for request in requests] == [("a",), ("b",)]
    on_a, on_b = requests
    router.set_online("a", is_online=False)
    in_flight.take_availability(router, "a", is_online=False, now=1.0)
    assert (on_a.resend_at, on_a.resend_after_s, on_b.resend_at) == (1.0, None, None)
    # A request without a route waits for any board, and its message may be lost again.
    router.release(on_a.id)
    router.set_online("a", is_online=True)
    in_flight.take_availability(router, "a", is_online=True, now=2.0)
    assert (on_a.resend_at, on_a.resend_after_s, on_b.resend_at) == (2.0, RESEND_FIRST_S, None)
    # The broker may have lost a message to a board that came back.
    in_flight.take_availability(router, "b", is_online=True, now=3.0)
    assert (on_b.resend_at, on_b.resend_after_s) == (3.0 + RESEND_FIRST_S, RESEND_FIRST_S)


def test_discarded_requests_get_no_answer() -> None:
    in_flight = RequestsInFlight()
    requests = [make_request(number) for number in range(3)]
    for request in requests:
        in_flight.add(request)
    in_flight.discard(requests[:2])
    in_flight.discard(requests[:1])  # Twice does no harm.
    assert len(in_flight) == 1
    in_flight.fail_all("closed", "The pipeline was closed.")
    assert [request.answer is None for request in requests] == [True, True, False]


def test_failing_all_leaves_answers_that_came_before() -> None:
    in_flight = RequestsInFlight()
    answered, open_one, result = make_request(1), make_request(2), make_result()
    in_flight.add(answered)
    in_flight.add(open_one)
    in_flight.settle(answered, result)
    in_flight.fail_all("undeployed", "Deployment 'digits' was undeployed.")
    assert answered.answer is result
    assert isinstance(open_one.answer, RequestError)
    assert open_one.answer.is_final
    with pytest.raises(RequestError, match="was undeployed"):
        raise open_one.answer
    assert len(in_flight) == 0
