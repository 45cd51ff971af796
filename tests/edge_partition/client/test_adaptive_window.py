"""Transitions of a window's size; ``test_simulated_streams.py`` runs windows against pipelines."""

from __future__ import annotations

import itertools

from pipeline_simulation import make_stages

from edge_core.contract.messages import StageTrace
from edge_partition.client.adaptive_window import LARGEST, AdaptiveWindow

STAGES = make_stages({"a": 10.0}, {"b": 10.0})


def trace(queue_ms: float) -> tuple[StageTrace, ...]:
    return StageTrace(0, "a", queue_ms, 10.0), StageTrace(1, "b", 0.0, 10.0)


def answer(
    window: AdaptiveWindow,
    answers: int,
    *,
    queue_ms: float = 0.0,
    rest_ms: float = 5.0,
    in_flight: int | None = None,
    start: float = 0.0,
) -> list[int]:
    """Add results of requests that waited ``queue_ms`` at stage 0; return the sizes after each."""
    sizes = []
    for number in range(answers):
        count = window.size if in_flight is None else in_flight
        latency_ms = queue_ms + 20.0 + rest_ms
        window.add_result(start + 0.01 * number, latency_ms, trace(queue_ms), count)
        sizes.append(window.size)
    return sizes


def test_a_window_starts_with_a_place_for_each_board_and_two_more() -> None:
    assert AdaptiveWindow(make_stages({"a": 1.0})).size == 3
    assert AdaptiveWindow(STAGES).size == 4
    assert AdaptiveWindow(make_stages({"a": 1.0, "b": 1.0}, {"c": 1.0})).size == 5
    # A board with two stages serves one request at a time.
    assert AdaptiveWindow(make_stages({"a": 1.0}, {"b": 1.0}, {"a": 1.0})).size == 4
    assert AdaptiveWindow(make_stages({str(board): 1.0 for board in range(99)})).size == LARGEST


def test_a_window_grows_while_no_request_waits_up_to_its_largest_size() -> None:
    window = AdaptiveWindow(STAGES)
    sizes = answer(window, 60)
    # The size of a fraction alternates between two whole numbers.
    assert all(later >= sooner - 1 for sooner, later in itertools.pairwise(sizes))
    assert window.size > 10
    answer(window, 3000)
    assert window.size == LARGEST


def test_a_window_does_not_grow_while_the_caller_keeps_fewer_requests_in_flight() -> None:
    window = AdaptiveWindow(STAGES)
    assert set(answer(window, 500, in_flight=2)) == {4}


def test_a_window_shrinks_to_one_where_the_agents_have_all_the_requests_they_take() -> None:
    window = AdaptiveWindow(STAGES)
    answer(window, 100)
    sizes = answer(window, 300, queue_ms=70.0)
    assert sizes[-1] == 1
    # The broker's queue, which is in no trace, changes nothing.
    assert set(answer(window, 100, queue_ms=70.0, rest_ms=5000.0)) == {1}


def test_waits_on_links_stop_the_growth_though_no_trace_shows_them() -> None:
    window = AdaptiveWindow(STAGES)
    answer(window, 1)
    for _ in range(200):
        answer(window, 1, rest_ms=5.0 + 20.0 * max(0, window.size - 2))
    assert 3 <= window.size <= 6


def test_an_overloaded_answer_halves_a_window() -> None:
    window = AdaptiveWindow(STAGES)
    answer(window, 3000)
    window.add_overloaded()
    assert window.size == LARGEST // 2


def test_the_other_requests_in_flight_halve_a_window_no_further() -> None:
    window = AdaptiveWindow(STAGES)
    answer(window, 3000)
    for _ in range(LARGEST):
        window.add_overloaded()
    assert window.size == LARGEST // 2
    window.add_overloaded()
    assert window.size == LARGEST // 4


def test_a_window_never_falls_below_one() -> None:
    window = AdaptiveWindow(STAGES)
    for _ in range(100):
        window.add_overloaded()
        assert window.size >= 1
    assert window.size == 1


def test_a_window_follows_a_network_that_becomes_slower() -> None:
    window = AdaptiveWindow(STAGES)
    answer(window, 100, rest_ms=5.0)
    # The longer way looks like a queue on a link first, until a drain shows that it is none.
    falling = answer(window, 900, rest_ms=200.0, start=1.0)
    growing = answer(window, 2000, rest_ms=200.0, start=11.0)
    assert falling[-1] <= 6
    assert growing[-1] >= 12


def test_a_least_rest_that_is_seen_again_needs_no_drain() -> None:
    window = AdaptiveWindow(STAGES)
    answer(window, 1, rest_ms=5.0)
    sizes = answer(window, 3000, rest_ms=5.05)
    assert all(later >= sooner - 1 for sooner, later in itertools.pairwise(sizes))


def test_a_trace_of_unknown_stages_and_an_empty_trace_do_no_harm() -> None:
    window = AdaptiveWindow(STAGES)
    for _ in range(100):
        window.add_result(0.0, 0.0, (StageTrace(7, "x", 1.0, 1.0),), 4)
        window.add_result(0.0, 0.0, (), 4)
    assert 1 <= window.size <= LARGEST
