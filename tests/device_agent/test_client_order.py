from __future__ import annotations

import pytest

from device_agent.client_order import ClientOrder, StateError, Turn
from edge_core.contract.messages import ErrorCode

A, B = "edge/v1/client/a/result", "edge/v1/client/b/result"


def number(value: int) -> bytes:
    return value.to_bytes(8, "big")


def serve(order: ClientOrder, client: str, correlation_data: bytes, answer: bytes = b"") -> Turn:
    turn = order.find_turn(client, correlation_data)
    if turn is not Turn.REPEAT:
        order.note(client, correlation_data, answer)
    return turn


def refused(order: ClientOrder, client: str, value: int) -> ErrorCode:
    with pytest.raises(StateError) as caught:
        order.find_turn(client, number(value))
    assert "\n" not in str(caught.value)
    assert "new pipeline" in str(caught.value)
    return caught.value.code


def test_request_1_starts_from_the_initial_state_and_later_requests_continue() -> None:
    order = ClientOrder()
    turns = [serve(order, A, number(value)) for value in (1, 2, 3)]
    assert turns == [Turn.FIRST, Turn.NEXT, Turn.NEXT]


def test_a_request_that_is_sent_again_gets_the_same_answer() -> None:
    order = ClientOrder()
    serve(order, A, number(1), b"one")
    serve(order, A, number(2), b"two")
    for _ in range(2):
        assert order.find_turn(A, number(2)) is Turn.REPEAT
        assert order.answer_again() == b"two"
    assert serve(order, A, number(3)) is Turn.NEXT


def test_request_1_sent_again_gets_the_same_answer() -> None:
    order = ClientOrder()
    serve(order, A, number(1), b"one")
    assert order.find_turn(A, number(1)) is Turn.REPEAT
    assert order.answer_again() == b"one"


@pytest.mark.parametrize("value", [1 + 2, 99, 2**64 - 1, 0])
def test_a_gap_is_refused_and_does_not_change_the_state(value: int) -> None:
    order = ClientOrder()
    serve(order, A, number(1), b"one")
    assert refused(order, A, value) is ErrorCode.STATE_LOST
    assert order.answer_again() == b"one"
    assert serve(order, A, number(2)) is Turn.NEXT


def test_a_late_older_request_is_refused_and_the_client_continues() -> None:
    order = ClientOrder()
    for value in (1, 2, 3, 4):
        serve(order, A, number(value))
    assert refused(order, A, 2) is ErrorCode.STATE_LOST
    assert serve(order, A, number(5)) is Turn.NEXT


def test_a_restarted_board_holds_no_state() -> None:
    assert refused(ClientOrder(), A, 2) is ErrorCode.STATE_LOST
    assert serve(ClientOrder(), A, number(1)) is Turn.FIRST


def test_after_a_failed_inference_no_client_continues() -> None:
    order = ClientOrder()
    serve(order, A, number(1))
    order.forget()
    assert refused(order, A, 2) is ErrorCode.STATE_LOST
    with pytest.raises(StateError):
        order.answer_again()


def test_another_client_takes_the_state_and_the_first_client_gets_an_error() -> None:
    order = ClientOrder()
    serve(order, A, number(1))
    serve(order, A, number(2), b"a")
    assert refused(order, B, 2) is ErrorCode.STATE_TAKEN
    assert serve(order, A, number(3)) is Turn.NEXT
    assert serve(order, B, number(1), b"b") is Turn.FIRST
    assert refused(order, A, 4) is ErrorCode.STATE_TAKEN
    # The client's last request is refused too: the held answer belongs to the other client.
    assert refused(order, A, 3) is ErrorCode.STATE_TAKEN
    assert serve(order, B, number(2)) is Turn.NEXT


def test_a_client_starts_again_with_request_1() -> None:
    order = ClientOrder()
    for value in (1, 2, 3):
        serve(order, A, number(value))
    assert serve(order, A, number(1)) is Turn.FIRST
    assert serve(order, A, number(2)) is Turn.NEXT


@pytest.mark.parametrize("correlation_data", [b"", b"x", b"seven..", b"nine......", b"0" * 16])
def test_clients_without_numbers_continue_in_order(correlation_data: bytes) -> None:
    order = ClientOrder()
    turns = [serve(order, A, correlation_data) for _ in range(3)]
    assert turns == [Turn.FIRST, Turn.NEXT, Turn.NEXT]
    assert serve(order, B, correlation_data) is Turn.FIRST
    # After requests without a number, only number 1 is accepted.
    assert refused(order, B, 7) is ErrorCode.STATE_LOST
    assert serve(order, B, number(1)) is Turn.FIRST
