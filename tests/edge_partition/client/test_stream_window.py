"""Transitions of a stream's window: places, results in input order, bounds, due repeats."""

from __future__ import annotations

import numpy as np
import pytest

from edge_core.errors import EdgePartitionError
from edge_partition.client.errors import RequestError
from edge_partition.client.requests_in_flight import Request
from edge_partition.client.result import Result
from edge_partition.client.stream_window import StreamWindow
from edge_partition.inputs.take_inputs import TakenInputs

RESULT = Result({}, 1.0, ())
LATE = RequestError("timeout", "No answer.")


def make_window(
    requests: int, *, input_bytes: int = 0, largest_answered_bytes: int = 1 << 20
) -> tuple[StreamWindow, list[Request]]:
    window = StreamWindow(largest_answered_bytes=largest_answered_bytes)
    taken = TakenInputs({"x": np.zeros(input_bytes, np.uint8)})
    made = [
        Request(number.to_bytes(8, "big"), taken, started=number, deadline=number + 30.0)
        for number in range(requests)
    ]
    for request in made:
        window.add(request)
    return window, made


def make_result(size_bytes: int) -> Result:
    return Result({"y": np.zeros(size_bytes, np.uint8)}, 1.0, ())


def test_an_empty_window_has_room() -> None:
    assert StreamWindow().has_room(1)


def test_a_window_has_room_until_every_place_is_taken() -> None:
    for requests in range(3):
        assert make_window(requests)[0].has_room(3)
    assert not make_window(3)[0].has_room(3)


def test_a_window_that_becomes_smaller_takes_nothing_until_enough_are_answered() -> None:
    window, requests = make_window(4)
    assert window.has_room(5)
    assert not window.has_room(2)
    for request in requests[2:]:
        request.answer = RESULT
    assert not window.has_room(2)
    requests[1].answer = RESULT
    assert window.has_room(2)


def test_a_request_answered_before_an_older_one_takes_no_place() -> None:
    window, (_, second) = make_window(2)
    assert not window.has_room(2)
    second.answer = RESULT
    assert window.has_room(2)
    assert window.in_flight == 1
    assert len(window) == 2


def test_an_answered_head_is_taken_before_the_next_input() -> None:
    window, (first, _) = make_window(2)
    assert window.has_room(3)
    first.answer = RESULT
    assert not window.has_room(3)
    window.take_head()
    assert window.has_room(3)


@pytest.mark.parametrize(("size", "answered"), [(1, 64), (4, 64), (8, 64), (9, 72), (64, 512)])
def test_a_bounded_number_of_answers_waits_for_an_older_request(size: int, answered: int) -> None:
    window, requests = make_window(1 + answered)
    for request in requests[2:]:
        request.answer = RESULT
    assert window.has_room(max(3, size))
    requests[1].answer = RESULT
    assert not window.has_room(size)
    requests[0].answer = RESULT
    for _ in range(1 + answered):
        window.take_head()
    assert window.has_room(size)


def test_a_bounded_number_of_bytes_waits_for_an_older_request() -> None:
    window, (first, *others) = make_window(4, largest_answered_bytes=2000)
    others[0].answer = make_result(1999)
    assert window.has_room(64)
    others[1].answer = make_result(1)
    assert not window.has_room(64)
    others[2].answer = LATE  # An error holds no bytes.
    assert window.answered_bytes == 2000
    first.answer = make_result(500)
    for _ in range(4):
        window.take_head()
    assert window.answered_bytes == 0
    assert window.has_room(64)


def test_the_inputs_of_answered_requests_count_among_the_bytes() -> None:
    window, (_, second, third) = make_window(3, input_bytes=600, largest_answered_bytes=1000)
    assert window.answered_bytes == 0
    second.answer = make_result(300)
    assert window.answered_bytes == 900
    assert window.has_room(64)
    third.answer = LATE
    assert window.answered_bytes == 1500
    assert not window.has_room(64)


def test_results_come_in_input_order_whatever_the_order_of_answers() -> None:
    window, requests = make_window(3)
    results = [Result({}, float(number), ()) for number in range(3)]
    for number in (2, 0, 1):
        requests[number].answer = results[number]
    assert list(window) == requests
    assert [window.take_head()[1] for _ in range(3)] == results
    assert len(window) == window.in_flight == 0


def test_a_head_without_an_answer_stays() -> None:
    window, (first,) = make_window(1)
    with pytest.raises(LookupError, match="no answer yet"):
        window.take_head()
    assert window.head is first


def test_a_request_that_was_never_sent_takes_no_place() -> None:
    window, _ = make_window(1)
    error = EdgePartitionError("An input of another shape.")
    window.add(Request(b"", TakenInputs({}), started=0, deadline=0, answer=error))
    assert window.in_flight == 1
    assert window.has_room(2)


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
        window, requests = make_window(len(answers))
        for request, answer in zip(requests, answers, strict=True):
            request.answer = answer
            window.take_head()
        assert window.is_timed_out(2) is is_timed_out
