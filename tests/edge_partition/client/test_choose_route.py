"""Routes: each request goes to the boards on which it would be done first."""

from __future__ import annotations

import collections
from dataclasses import replace

import pytest
from pipeline_simulation import make_router, make_stages

from edge_core.contract.messages import StageTrace
from edge_partition.client.choose_route import Router


def request_id(number: int) -> bytes:
    return number.to_bytes(8, "big")


def choose(router: Router, requests: range, now: float = 0.0) -> list[tuple[str, ...] | None]:
    return [router.choose(request_id(number), now) for number in requests]


def test_equal_boards_alternate() -> None:
    router = make_router({"a": 10.0, "b": 10.0, "c": 10.0})
    boards = []
    for number in range(6):
        boards.append(router.choose(request_id(number), 0.0))
        # One in flight: all boards are free each time.
        router.take_result(request_id(number), (), 0.0)
    assert boards == [("a",), ("b",), ("c",)] * 2


def test_boards_of_nearly_equal_averages_alternate() -> None:
    router = make_router({"a": 10.0, "b": 10.05})
    boards = []
    for number in range(4):
        boards.append(router.choose(request_id(number), 0.0))
        router.release(request_id(number))
    assert boards == [("a",), ("b",)] * 2


def test_a_board_that_other_clients_use_gets_fewer_requests() -> None:
    router = make_router({"a": 10.0, "b": 10.0})
    shares = collections.Counter[str]()
    for number in range(200):
        (board,) = router.choose(request_id(number), 0.0) or ()
        shares[board] += 1
        queue_ms = 50.0 if board == "a" else 0.0
        trace = (StageTrace(0, board, queue_ms, 10.0),)
        router.take_result(request_id(number), trace, queue_ms + 11.0)
    assert shares["b"] >= 150
    assert shares["a"] >= 2  # The other clients may have stopped.


def test_the_wait_for_the_clients_own_requests_is_not_counted_twice() -> None:
    router = make_router({"a": 10.0, "b": 10.0})
    routes = choose(router, range(8))
    for number, (board,) in enumerate(route or () for route in routes):
        queue_ms = 10.0 * (number // 2) if board == "a" else 0.0
        trace = (StageTrace(0, board, queue_ms, 10.0),)
        router.take_result(request_id(number), trace, queue_ms + 11.0)
    assert collections.Counter(choose(router, range(8, 16))) == {("a",): 4, ("b",): 4}


def test_unanswered_requests_are_shared_by_speed() -> None:
    router = make_router({"slow": 40.0, "middle": 20.0, "fast": 10.0})
    shares = collections.Counter(choose(router, range(70)))
    assert shares == {("slow",): 10, ("middle",): 20, ("fast",): 40}


def test_a_lone_request_goes_to_the_fastest_board() -> None:
    router = make_router({"slow": 40.0, "fast": 10.0})
    for number in range(5):
        assert router.choose(request_id(number), 0.0) == ("fast",)
        router.take_result(request_id(number), (StageTrace(0, "fast", 0.0, 10.0),), 0.0)


def test_a_route_names_one_board_of_each_stage_in_order() -> None:
    router = make_router({"a": 1.0}, {"b": 1.0, "c": 1.0}, {"d": 1.0})
    assert choose(router, range(2)) == [("a", "b", "d"), ("a", "c", "d")]


def test_without_times_of_single_boards_the_stages_prediction_counts_for_each() -> None:
    (stage,) = make_stages({"a": 10.0, "b": 30.0})
    assert collections.Counter(choose(Router([stage]), range(40))) == {("a",): 30, ("b",): 10}
    equal = replace(stage, predicted=replace(stage.predicted, boards_ms=()))
    assert collections.Counter(choose(Router([equal]), range(40))) == {("a",): 20, ("b",): 20}


def test_traces_correct_the_plans_times() -> None:
    router = make_router({"a": 10.0, "b": 10.0})
    for _ in range(20):
        for board, invoke_ms in (("a", 5.0), ("b", 20.0)):
            router.take_result(b"", (StageTrace(0, board, 0.0, invoke_ms),), 0.0)
    assert router.time_ms(0, "a") == pytest.approx(5.0)
    shares = collections.Counter(choose(router, range(50)))
    assert shares == {("a",): 40, ("b",): 10}


def test_one_slow_answer_does_not_turn_a_stream_away() -> None:
    router = make_router({"a": 10.0, "b": 10.0})
    for number in range(20):
        (board,) = router.choose(request_id(number), 0.0) or ()
        router.take_result(request_id(number), (StageTrace(0, board, 0.0, 10.0),), 0.0)
    router.choose(request_id(20), 0.0)
    router.take_result(request_id(20), (StageTrace(0, "a", 0.0, 1000.0),), 0.0)
    assert 10.0 < router.time_ms(0, "a") <= 13.0


def test_a_board_that_stays_slow_is_known_as_slow_within_some_answers() -> None:
    router = make_router({"a": 10.0, "b": 10.0})
    for _ in range(30):
        router.take_result(b"", (StageTrace(0, "a", 0.0, 300.0),), 0.0)
    assert router.time_ms(0, "a") == pytest.approx(300.0, rel=0.1)


def test_the_work_of_all_its_stages_counts_for_a_board() -> None:
    router = make_router({"both": 30.0}, {"both": 10.0, "free": 10.0})
    assert choose(router, range(4)) == [("both", "free")] * 4


def test_a_board_may_run_several_stages_of_one_request() -> None:
    router = make_router({"a": 10.0}, {"b": 40.0}, {"a": 10.0})
    assert choose(router, range(1)) == [("a", "b", "a")]
    assert router.outstanding("a") == 2
    router.take_result(request_id(0), (StageTrace(2, "a", 0.0, 30.0),), 0.0)
    assert router.outstanding("a") == 0
    assert router.time_ms(0, "a") == 10.0
    assert router.time_ms(2, "a") == 30.0


def test_an_offline_board_gets_nothing_and_its_requests_are_named() -> None:
    router = make_router({"a": 10.0, "b": 10.0}, {"c": 10.0})
    choose(router, range(4))
    router.set_online("a", is_online=False)
    assert router.routes_through("a") == [request_id(0), request_id(2)]
    assert router.routes_through("c") == [request_id(number) for number in range(4)]
    assert router.offline == {"a"}
    assert choose(router, range(4, 10)) == [("b", "c")] * 6
    for number in (0, 2):  # Sent again: a new route in place of the old one.
        assert router.choose(request_id(number), 0.0) == ("b", "c")
    assert router.routes_through("a") == []
    assert router.outstanding("a") == 0
    assert router.outstanding("c") == 10


def test_a_request_waits_while_all_boards_of_a_stage_are_offline() -> None:
    router = make_router({"a": 10.0, "b": 10.0}, {"c": 10.0})
    router.set_online("c", is_online=False)
    assert router.choose(request_id(0), 0.0) is None
    assert router.route_of(request_id(0)) is None
    assert router.outstanding("a") == router.outstanding("b") == 0
    router.set_online("c", is_online=True)
    assert router.choose(request_id(0), 0.0) == ("a", "c")


def test_a_board_that_comes_back_gets_one_request_until_it_answers() -> None:
    router = make_router({"a": 10.0, "b": 10.0})
    router.set_online("a", is_online=False)
    router.set_online("a", is_online=True)
    shares = collections.Counter(choose(router, range(8)))
    assert shares == {("a",): 1, ("b",): 7}
    answered = next(number for number in range(8) if router.route_of(request_id(number)) == ("a",))
    router.take_result(request_id(answered), (StageTrace(0, "a", 0.0, 5.0),), 0.0)
    assert router.time_ms(0, "a") == 5.0  # The old average has no weight.
    shares = collections.Counter(choose(router, range(8, 30)))
    assert shares[("a",)] > shares[("b",)]


def test_the_only_board_of_a_stage_comes_back_to_all_requests() -> None:
    router = make_router({"a": 10.0})
    router.set_online("a", is_online=False)
    router.set_online("a", is_online=True)
    assert choose(router, range(4)) == [("a",)] * 4


def test_a_repeated_availability_changes_nothing() -> None:
    router = make_router({"a": 10.0, "b": 10.0})
    router.set_online("a", is_online=True)
    router.set_online("elsewhere", is_online=False)
    assert choose(router, range(4)) == [("a",), ("b",)] * 2
    assert router.offline == frozenset()


def test_a_board_that_refuses_requests_gets_one_at_a_time() -> None:
    router = make_router({"first": 1.0}, {"a": 10.0, "b": 10.0})
    assert router.choose(request_id(0), 0.0) == ("first", "a")
    router.take_error(request_id(0), (StageTrace(0, "first", 0.0, 1.0),))
    assert router.outstanding("first") == router.outstanding("a") == 0
    shares = collections.Counter(choose(router, range(1, 9)))
    assert shares == {("first", "a"): 1, ("first", "b"): 7}


def test_a_board_whose_average_may_be_old_is_tried_again() -> None:
    router = make_router({"fast": 10.0, "slow": 100.0})
    slow = 0
    for number in range(2000):  # One at a time, 20 s: the fast board is free each time.
        now = number * 0.01
        (board,) = router.choose(request_id(number), now) or ()
        slow += board == "slow"
        router.take_result(
            request_id(number),
            (StageTrace(0, board, 0.0, 100.0 if board == "slow" else 10.0),),
            0.0,
        )
    assert 3 <= slow <= 20


def test_a_lone_request_after_a_pause_goes_to_the_fastest_board() -> None:
    router = make_router({"slow": 40.0, "fast": 10.0})
    for number in range(20):
        assert router.choose(request_id(number), 60.0 * number) == ("fast",)
        router.take_result(request_id(number), (), 0.0)


def test_routes_through_a_board_of_another_deployment_are_none() -> None:
    router = make_router({"a": 10.0})
    choose(router, range(2))
    assert router.routes_through("elsewhere") == []
    router.release(b"unknown")
    router.take_error(b"unknown", ())
    assert router.outstanding("a") == 2


def test_a_board_that_its_link_limits_gets_its_share_by_the_link() -> None:
    (stage,) = make_stages({"near": 10.0, "far": 10.0})
    router = Router([replace(stage, predicted=replace(stage.predicted, links_ms=(5.0, 30.0)))])
    chosen = [router.choose(bytes([number]), 0.0) for number in range(4)]
    assert chosen.count(("near",)) == 3
    # Traces tell the time of the inference, and the link stays as slow.
    for number in range(4):
        trace = [StageTrace(0, (chosen[number] or ("",))[0], 0.0, 10.0)]
        router.take_result(bytes([number]), trace, 40.0)
    again = [router.choose(bytes([number]), 1.0) for number in range(10, 14)]
    assert again.count(("near",)) == 3
