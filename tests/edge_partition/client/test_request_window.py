"""Transitions of a stream's window: free places, results in input order, due repeats."""

from __future__ import annotations

import pytest

from edge_core.errors import EdgePartitionError
from edge_partition.client.errors import RequestError
from edge_partition.client.request_window import RequestWindow, default_window
from edge_partition.client.requests_in_flight import Request
from edge_partition.client.result import Result
from edge_partition.inputs.take_inputs import TakenInputs

RESULT = Result({}, 1.0, ())
LATE = RequestError("timeout", "No answer.")


def make_window(size: int, requests: int) -> tuple[RequestWindow, list[Request]]:
    window = RequestWindow(size)
    made = [
        Request(bytes([number]), TakenInputs({}), started=number, deadline=number + 30.0)
        for number in range(requests)
    ]
    for request in made:
        window.add(request)
    return window, made


def test_an_empty_window_has_room() -> None:
    assert RequestWindow(1).has_room


def test_a_window_has_room_until_every_place_is_taken() -> None:
    for requests in range(3):
        assert make_window(3, requests)[0].has_room
    assert not make_window(3, 3)[0].has_room


def test_a_request_answered_before_an_older_one_keeps_its_place() -> None:
    window, (_, second) = make_window(2, 2)
    second.answer = RESULT
    assert not window.has_room


def test_an_answered_head_is_taken_before_the_next_input() -> None:
    window, (first, _) = make_window(3, 2)
    assert window.has_room
    first.answer = RESULT
    assert not window.has_room
    window.take_head()
    assert window.has_room


def test_results_come_in_input_order_whatever_the_order_of_answers() -> None:
    window, requests = make_window(3, 3)
    results = [Result({}, float(number), ()) for number in range(3)]
    for number in (2, 0, 1):
        requests[number].answer = results[number]
    assert [window.take_head()[1] for _ in range(3)] == results
    assert len(window) == 0


def test_a_head_without_an_answer_stays() -> None:
    window, (first,) = make_window(1, 1)
    with pytest.raises(LookupError, match="no answer yet"):
        window.take_head()
    assert window.head is first


def test_as_many_timeouts_in_a_row_as_places_end_a_stream() -> None:
    refused = EdgePartitionError("An input of another shape.")
    failed = RequestError("stage-failed", "stage 0 failed")
    for answers, is_timed_out in (
        ([LATE], False),
        ([LATE, LATE], True),
        ([LATE, RESULT, LATE], False),
        ([LATE, refused, LATE], False),
        ([LATE, failed, LATE, LATE], True),
    ):
        window, requests = make_window(2, len(answers))
        for request, answer in zip(requests, answers, strict=True):
            request.answer = answer
            window.take_head()
        assert window.is_timed_out is is_timed_out


def test_the_next_event_is_the_heads_deadline_or_the_first_repeat() -> None:
    window, (first, second, third) = make_window(3, 3)
    assert window.next_event() == first.deadline
    second.schedule_resend(10.0)
    third.schedule_resend(9.0)
    assert window.next_event() == 9.5
    third.answer = RESULT
    assert window.next_event() == 10.5
    second.schedule_resend(40.0)
    assert window.next_event() == first.deadline


def test_due_requests_are_returned_once_for_each_pause() -> None:
    window, (first, second, _) = make_window(3, 3)
    first.schedule_resend(10.0)
    second.schedule_resend(10.2)
    assert window.take_due(10.4) == []
    assert window.take_due(10.5) == [first]
    assert window.take_due(10.7) == [second]
    assert window.take_due(10.9) == []
    assert window.take_due(11.2) == [first, second]


@pytest.mark.parametrize(("boards", "size"), [(1, 4), (2, 4), (3, 6), (8, 16), (20, 16)])
def test_the_default_window_is_two_requests_a_board_within_bounds(boards: int, size: int) -> None:
    assert default_window(boards) == size
