from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import random_fleet, random_graph, seeded

from device_agent.worker import QUEUE_LENGTH
from edge_core.contract.messages import RECEIVE_MAXIMUM
from edge_partition.cli import main
from edge_partition.planning.plan_document import plan_document
from edge_partition.planning.plan_split import plan_split
from edge_partition.planning.read_plan import PlanDocumentError, read_plan
from edge_partition.simulation import simulated_board
from edge_partition.simulation.simulate_plan import (
    Capacity,
    Failure,
    SimulationError,
    Stream,
    arrival_times_s,
    find_capacity,
    simulate_plan,
)

if TYPE_CHECKING:
    from pathlib import Path

    from edge_partition.planning.plan import Plan
    from edge_partition.planning.read_plan import PipelineTimes
    from edge_partition.simulation.simulate_plan import Forecast

#: Requests per second, so few that at most one request is in flight.
RARELY = 0.1


def replica(device: str, invoke_ms: float, **times: float) -> dict[str, Any]:
    zero = {"handling_ms": 0.0, "receive_ms": 0.0, "send_ms": 0.0}
    return {"device": device, "invoke_ms": invoke_ms, **zero, **times}


def document(*stages: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "model": "some-model",
        "source": "measured",
        "stages": [
            {"index": index, "devices": [item["device"] for item in replicas], "replicas": replicas}
            for index, replicas in enumerate(stages)
        ],
    }


def plan(*stages: list[dict[str, Any]]) -> PipelineTimes:
    return read_plan(document(*stages))


def exactly(requests: int, **options: Any) -> Stream:
    """A stream in which every inference takes the planned time."""
    return Stream(requests, **{"spread": 0.0, **options})


THREE = plan(
    [replica("a", 20, handling_ms=3, receive_ms=4, send_ms=2)],
    [replica("b", 50, handling_ms=2, receive_ms=2, send_ms=1)],
    [replica("c", 30, handling_ms=1, receive_ms=1, send_ms=0.5)],
)


def period_ms(times: PipelineTimes, stream: Stream, *, short: int = 240, long: int = 480) -> float:
    """Return the period at full load, in milliseconds, from a short and a long stream."""
    few = simulate_plan(times, replace(stream, requests=short))
    many = simulate_plan(times, replace(stream, requests=long))
    return (many.seconds - few.seconds) * 1000 / (long - short)


# One request


def test_the_latency_of_a_lone_request_is_the_sum_of_its_parts() -> None:
    forecast = simulate_plan(THREE, exactly(20, rate_per_s=RARELY, steady=True))
    parts_ms = sum(item.latency_ms for (item,) in THREE.stages)
    assert parts_ms == 116.5
    for value in forecast.latency_ms.values():
        assert value == pytest.approx(parts_ms)
    assert forecast.spent_ms == pytest.approx(
        {
            "source": 0,
            "resent": 0,
            "broker": 0,
            "link": 10.5,
            "handling": 6,
            "queue": 0,
            "invoke": 100,
        }
    )


# Full load


def test_the_period_of_a_full_pipeline_is_the_time_of_the_bottleneck() -> None:
    times = plan([replica("a", 20)], [replica("b", 50)], [replica("c", 30)])
    forecast = simulate_plan(times, exactly(100))
    assert forecast.seconds * 1000 == pytest.approx(100 + 99 * 50)
    assert forecast.throughput_per_s == pytest.approx(100 / 5.05)
    assert forecast.capacity_per_s == 20
    assert "b's processor is busy 100%" in forecast.limit


def test_messages_take_processor_time_from_inference() -> None:
    assert period_ms(THREE, exactly(1, window=16)) == pytest.approx(52)


def test_inference_and_handling_overlap_on_a_board_with_several_processors() -> None:
    times = plan([replica("a", 50, handling_ms=20, busy_ms=50)])
    assert period_ms(times, exactly(1)) == pytest.approx(50)
    times = plan([replica("a", 50, handling_ms=20, busy_ms=60)])
    assert period_ms(times, exactly(1)) == pytest.approx(60)
    times = plan([replica("a", 10, handling_ms=30, busy_ms=35)])
    assert period_ms(times, exactly(1)) == pytest.approx(35)


def test_a_link_carries_incoming_and_outgoing_messages_one_at_a_time() -> None:
    times = plan([replica("a", 10, receive_ms=30, send_ms=15)])
    assert period_ms(times, exactly(1)) == pytest.approx(45)
    assert "a's link is busy" in simulate_plan(times, exactly(200)).limit


def test_a_link_delay_adds_to_the_latency_but_not_to_the_period() -> None:
    near = plan([replica("a", 10, receive_ms=6, send_ms=6)])
    far = plan([replica("a", 10, receive_ms=10, send_ms=10, link_delay_ms=4)])
    window = exactly(1, window=30)
    assert period_ms(near, window) == pytest.approx(12)
    assert period_ms(far, window) == pytest.approx(12)
    forecast = simulate_plan(far, exactly(20, rate_per_s=RARELY, steady=True))
    assert forecast.latency_ms["max"] == pytest.approx(30)


def test_a_long_delay_limits_the_throughput_to_the_receive_maximum_per_acknowledgement() -> None:
    times = plan([replica("a", 10, receive_ms=46, send_ms=46, link_delay_ms=40)])
    # The request and the result, the broker's acknowledgement of the result, and the board's
    # acknowledgement of the request pass the link one after another.
    unacknowledged_ms = 46 + 10 + 46 + 40 + 40
    expected_ms = unacknowledged_ms / RECEIVE_MAXIMUM
    # Requests arrive in groups, in which messages wait for the link and the board.
    period = period_ms(times, exactly(1, window=30))
    assert expected_ms <= period <= 1.05 * expected_ms
    assert find_capacity(times) == Capacity(1000 / expected_ms, ("a",), "receive maximum")
    forecast = simulate_plan(times, exactly(1000, window=30))
    assert "The broker waits for acknowledgements from a before it sends more" in forecast.limit
    assert period_ms(times, exactly(1, window=30, receive_maximum=30)) == pytest.approx(12)


def test_a_message_in_flight_to_a_failing_board_is_delivered_again() -> None:
    times = plan([replica("a", 10, receive_ms=50, send_ms=1, link_delay_ms=1)])
    failed = Failure("a", 0.0495, 0.1)
    forecast = simulate_plan(times, exactly(1, failures=(failed,)))
    assert forecast.latency_ms["max"] == pytest.approx(149.5 + 61)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_replicas_multiply_the_throughput(count: int) -> None:
    one = plan([replica("a", 10)], [replica("b", 60)])
    several = plan([replica("a", 10)], [replica(f"b{index}", 60) for index in range(count)])
    window = exactly(1, window=20)
    assert period_ms(one, window) == pytest.approx(60)
    assert period_ms(several, window) == pytest.approx(60 / count)
    assert find_capacity(several).rate_per_s == pytest.approx(count * find_capacity(one).rate_per_s)


UNEQUAL = plan([replica("slow", 40), replica("middle", 20), replica("fast", 10)])


def test_replicas_share_requests_by_their_speed_and_reach_the_sum_of_their_rates() -> None:
    total_per_s = 25 + 50 + 100
    capacity = find_capacity(UNEQUAL)
    assert capacity.rate_per_s == pytest.approx(total_per_s)
    assert capacity.devices == ("slow", "middle", "fast")
    for spread in (0.0, 0.2):
        forecast = simulate_plan(UNEQUAL, Stream(7000, spread=spread))
        served = {board.device: board.served for board in forecast.boards}
        assert served == pytest.approx({"slow": 1000, "middle": 2000, "fast": 4000}, rel=0.03)
        assert 0.97 * total_per_s <= forecast.throughput_per_s <= 1.005 * total_per_s


def test_a_small_window_does_not_wait_for_the_slow_replica() -> None:
    times = plan([replica("slow", 100), replica("fast", 10)])
    # A window of 2 that started at the oldest request without an answer would reach 20/s.
    forecast = simulate_plan(times, exactly(1000, window=2))
    assert forecast.throughput_per_s >= 0.9 * 100


def test_the_forecast_names_the_replicas_that_limit_the_throughput() -> None:
    stream = exactly(100, rate_per_s=200)
    limit = simulate_plan(UNEQUAL, stream).limit
    assert "the capacity of slow, middle and fast together is 175.0 requests/s" in limit
    assert simulate_plan(UNEQUAL, exactly(2000)).limit == (
        "slow, middle and fast together serve at most 175.0 requests/s and limit the throughput."
    )
    held_up = plan([replica("a", 10), replica("b", 10)], [replica("c", 50)])
    assert "c's processor is busy" in simulate_plan(held_up, exactly(200)).limit


def test_a_board_that_serves_two_stages_runs_one_inference_at_a_time() -> None:
    times = plan([replica("a", 10)], [replica("b", 5)], [replica("a", 30)])
    assert period_ms(times, exactly(1, window=16)) == pytest.approx(40)
    assert find_capacity(times) == Capacity(25, ("a",), "processor")


@pytest.mark.parametrize(("shared_ms", "other_ms", "period"), [(10, 20, 40 / 3), (10, 10, 10)])
def test_a_board_of_two_stages_leaves_requests_to_the_replica_in_one_of_them(
    shared_ms: float, other_ms: float, period: float
) -> None:
    # Of the requests to the second stage, a serves the share s: 10 + 10 s = (1 - s) * other_ms, or
    # none of them.
    times = plan([replica("a", 10)], [replica("a", shared_ms), replica("b", other_ms)])
    assert find_capacity(times).rate_per_s == pytest.approx(1000 / period, rel=0.01)
    forecast = simulate_plan(times, Stream(3000))
    assert 0.9 * 1000 / period <= forecast.throughput_per_s <= 1.005 * 1000 / period


def test_a_small_window_limits_the_throughput_and_the_forecast_says_so() -> None:
    forecast = simulate_plan(THREE, exactly(100, window=1))
    assert forecast.throughput_per_s == pytest.approx(1000 / 116.5)
    assert "The window of 1 request limits the throughput" in forecast.limit
    assert "A larger window" in forecast.limit
    large = simulate_plan(THREE, exactly(100, window=8))
    assert "window" not in large.limit


@pytest.mark.parametrize("stages", [1, 2, 4])
def test_the_clients_own_window_fills_a_pipeline_and_stays_small(stages: int) -> None:
    times = plan(*([replica(f"pi-{index}", 20)] for index in range(stages)))
    forecast = simulate_plan(times, Stream(3000, spread=0.1))
    assert forecast.throughput_per_s >= 0.97 * 50
    assert forecast.largest_window <= 8 * stages
    assert "limits the throughput" in forecast.limit


# Figures of the plan


def planned_per_s(planned: Plan) -> float:
    """Return the throughput of a plan: the rates of a stage's boards add up."""
    return min(sum(1000 / cost.bottleneck_ms for cost in stage.costs) for stage in planned.stages)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("max_replicas", [1, 3])
def test_the_simulation_reproduces_the_plans_latency_and_throughput(
    seed: int, max_replicas: int
) -> None:
    rng = seeded(seed)
    fleet = random_fleet(rng, 5, ram_mib=(1e4, 2e4))
    planned = plan_split(
        random_graph(rng, 12), fleet, max_replicas=max_replicas, shared_boards=False
    )
    times = read_plan(json.loads(json.dumps(plan_document(planned))))
    assert find_capacity(times).rate_per_s == pytest.approx(planned_per_s(planned), rel=1e-5)
    # Replicas have no fixed turns, so that streams start and end differently; with one board per
    # stage the period is exact.
    close, long = (1e-6, 480) if max_replicas == 1 else (1e-2, 12_000)
    full_ms = period_ms(times, exactly(1, window=64), long=long)
    assert full_ms == pytest.approx(1000 / planned_per_s(planned), rel=close)
    rate = 1 / planned.latency_ms
    lone = simulate_plan(times, exactly(60, rate_per_s=rate, steady=True))
    if all(len(stage) == 1 for stage in times.stages):
        assert lone.latency_ms["median"] == pytest.approx(planned.latency_ms)
    # A plan's latency is the latency of its slowest replicas.
    assert lone.latency_ms["max"] <= planned.latency_ms * (1 + 1e-9)


def test_random_plans_have_replicas() -> None:
    fleet = random_fleet(seeded(1), 5, ram_mib=(1e4, 2e4))
    planned = plan_split(random_graph(seeded(1), 12), fleet, max_replicas=3)
    assert max(len(stage.devices) for stage in planned.stages) > 1


# Queues


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_the_waiting_time_is_that_of_an_m_d_1_queue(load: float) -> None:
    # Pollaczek-Khinchine formula: load * service / (2 * (1 - load)).
    rate = load * 100
    forecast = simulate_plan(
        plan([replica("a", 10)]), exactly(50_000, rate_per_s=rate, window=50_000)
    )
    waiting_ms = sum(forecast.spent_ms[name] for name in ("queue", "broker"))
    assert waiting_ms == pytest.approx(load * 10 / (2 * (1 - load)), rel=0.05)
    assert forecast.boards[0].processor == pytest.approx(load, rel=0.02)
    # Little's law: mean number of waiting requests = arrival rate * mean waiting time.
    assert forecast.boards[0].queue_mean + forecast.boards[0].at_broker_mean == pytest.approx(
        rate * waiting_ms / 1000, rel=0.02
    )


def test_the_waiting_time_of_random_inference_times_follows_pollaczek_and_khinchine() -> None:
    # Twice the waiting time of equal inference times.
    times = plan([replica("a", 10, invoke_spread=1.0)])
    forecast = simulate_plan(times, exactly(50_000, rate_per_s=50, window=50_000))
    waiting_ms = sum(forecast.spent_ms[name] for name in ("queue", "broker"))
    assert forecast.spent_ms["invoke"] == pytest.approx(10, rel=0.02)
    assert waiting_ms == pytest.approx(2 * 0.5 * 10 / (2 * 0.5), rel=0.05)


def test_a_board_holds_at_most_the_receive_maximum() -> None:
    times = plan([replica("a", 10)])
    board = simulate_plan(times, exactly(500, window=50)).boards[0]
    assert board.queue_max == RECEIVE_MAXIMUM - 1
    assert board.at_broker_max == 50 - RECEIVE_MAXIMUM


def test_the_client_waits_for_an_overloaded_board_and_sends_again() -> None:
    forecast = simulate_plan(
        plan([replica("a", 10)]), exactly(500, window=100, receive_maximum=1000)
    )
    assert forecast.boards[0].queue_max == simulated_board.AGENT_QUEUE_LENGTH == QUEUE_LENGTH
    assert forecast.overloaded > 0
    assert forecast.resent == forecast.overloaded
    assert forecast.outcomes == {"answered": 500, "timed_out": 0}
    # The client's own window does not overload the board.
    adapted = simulate_plan(plan([replica("a", 10)]), exactly(500, receive_maximum=1000))
    assert adapted.overloaded == adapted.resent == 0
    assert adapted.throughput_per_s >= 99


def test_the_forecast_says_that_arrivals_exceed_the_capacity() -> None:
    forecast = simulate_plan(THREE, Stream(1000, rate_per_s=30))
    assert forecast.throughput_per_s == pytest.approx(1000 / 52, rel=0.02)
    assert forecast.limit == (
        "30 requests/s arrive, but the capacity of b's processor is 19.2 requests/s: requests wait "
        "longer and longer."
    )
    assert forecast.spent_ms["source"] > 5_000


def test_arrivals_below_the_capacity_are_served_at_their_rate() -> None:
    forecast = simulate_plan(THREE, Stream(2000, rate_per_s=10))
    assert forecast.throughput_per_s == pytest.approx(10, rel=0.05)
    assert "The arrival rate limits the throughput" in forecast.limit
    assert [board.processor for board in forecast.boards] == pytest.approx(
        [0.23, 0.52, 0.31], rel=0.1
    )


# Failures


def test_no_request_is_lost_if_a_failed_board_returns_before_the_timeout() -> None:
    failure = Failure("b", 1.95, 5)
    stream = exactly(200, rate_per_s=10, steady=True, failures=(failure,))
    forecast = simulate_plan(THREE, stream)
    assert forecast.outcomes == {"answered": 200, "timed_out": 0}
    # Requests in flight at the failure wait for the board; the client resends them meanwhile.
    assert forecast.latency_ms["max"] > 5_000
    assert forecast.resent > 0
    assert sum(forecast.spent_ms.values()) == pytest.approx(forecast.latency_ms["mean"])
    undisturbed = simulate_plan(THREE, replace(stream, failures=()))
    assert (undisturbed.resent, undisturbed.latency_ms["max"]) == (0, pytest.approx(116.5))
    assert forecast.limit.startswith(undisturbed.limit)
    assert "With b offline for 5 s" in forecast.limit
    assert forecast.limit.endswith("ms, no requests without an answer.")


def test_timed_out_requests_are_counted_and_the_stream_goes_on() -> None:
    stream = exactly(200, rate_per_s=10, timeout_s=2, failures=(Failure("b", 2, 5),))
    forecast = simulate_plan(THREE, stream)
    assert 0 < forecast.outcomes["timed_out"] < 100
    assert sum(forecast.outcomes.values()) == 200
    assert forecast.latency_ms["max"] < 2_000 + forecast.spent_ms["source"] * 200
    assert forecast.seconds > 20


def test_every_request_times_out_if_a_failed_board_never_returns() -> None:
    stream = exactly(50, timeout_s=1, failures=(Failure("a", 0, 1e6),))
    forecast = simulate_plan(THREE, stream)
    assert forecast.outcomes == {"answered": 0, "timed_out": 50}
    assert forecast.throughput_per_s == 0


REPLICAS = plan([replica("a", 20), replica("b", 20)], [replica("c", 5)])


def test_the_death_of_a_replica_delays_a_request_by_no_more_than_its_repeat() -> None:
    # The request of the time 1 s is on the board a for 8 ms.
    stream = exactly(100, rate_per_s=10, steady=True, failures=(Failure("a", 1.008, 30),))
    forecast = simulate_plan(REPLICAS, stream)
    assert forecast.outcomes["answered"] == 100
    assert forecast.resent == 1
    assert forecast.latency_ms["max"] == pytest.approx(8 + 25)
    assert forecast.latency_ms["p95"] == pytest.approx(25)


def test_a_full_stream_waits_only_for_the_queue_of_the_replica_that_is_left() -> None:
    forecast = simulate_plan(REPLICAS, Stream(2000, failures=(Failure("a", 5, 60),)))
    assert forecast.outcomes["answered"] == 2000
    assert 0 < forecast.resent <= RECEIVE_MAXIMUM
    # All requests in flight at the failure are served by b.
    assert forecast.latency_ms["max"] <= 1.2 * forecast.largest_window * 20
    assert forecast.throughput_per_s >= 0.97 * (5 * 100 + (2000 - 500)) / (5 + 1500 / 50)


def test_a_board_without_service_gets_nothing() -> None:
    stream = exactly(300, rate_per_s=20, steady=True)
    forecast = simulate_plan(REPLICAS, replace(stream, failures=(Failure("a", 1, 1e6),)))
    served = {board.device: board.served for board in forecast.boards}
    assert served["a"] <= 21
    assert served["a"] + served["b"] == 300


def test_a_replica_that_came_back_gets_its_share() -> None:
    stream = exactly(4000, failures=(Failure("a", 1, 2),))
    served = {board.device: board.served for board in simulate_plan(REPLICAS, stream).boards}
    assert served["a"] == pytest.approx((4000 - 100) / 2, rel=0.05)


def test_requests_wait_at_the_client_while_all_boards_of_a_stage_are_offline() -> None:
    alone = plan([replica("a", 20)], [replica("c", 5)])
    failure = Failure("a", 1.1, 3)
    stream = exactly(40, rate_per_s=5, steady=True, window=40, failures=(failure,))
    forecast = simulate_plan(alone, stream)
    # Requests of the times 1.2 to 4.0 s are sent when the board is back at 4.1 s, and are not sent
    # a second time: their answers come within the pause before the next repeat.
    assert forecast.resent == 0
    assert forecast.boards[0].served == 40
    assert forecast.latency_ms["max"] == pytest.approx(2_900 + 25)
    assert forecast.spent_ms["resent"] == pytest.approx(sum(100 + 200 * i for i in range(15)) / 40)


def test_the_broker_forgets_a_board_after_its_session_and_the_client_sends_again() -> None:
    # The result of the first stage comes when the session of the second stage's board has expired.
    times = plan([replica("a", 70_000)], [replica("b", 20)])
    stream = exactly(1, timeout_s=400, failures=(Failure("b", 1, 75),))
    forecast = simulate_plan(times, stream)
    assert forecast.latency_ms["max"] == pytest.approx(76_000 + 70_020)
    # The client sends until the answer comes, because a board that is back may still lose messages.
    assert forecast.resent > 1
    # The broker keeps the result during a shorter failure.
    kept = simulate_plan(times, replace(stream, failures=(Failure("b", 15, 59),)))
    assert kept.latency_ms["max"] == pytest.approx(74_020)


def test_a_result_on_its_way_counts_although_its_board_fails_before_the_acknowledgement() -> None:
    # The first board's result is at the broker after 102 ms, the acknowledgement after 182 ms.
    times = plan(
        [replica("a", 10, receive_ms=46, send_ms=46, link_delay_ms=40)], [replica("b", 1000)]
    )
    forecast = simulate_plan(times, exactly(1, failures=(Failure("a", 0.12, 0.08),)))
    assert forecast.latency_ms["max"] == pytest.approx(102 + 1000)
    # The copy that the broker sends to the first board again leaves the result's times alone.
    parts = {name: spent_ms for name, spent_ms in forecast.spent_ms.items() if spent_ms}
    assert parts == pytest.approx({"link": 92, "invoke": 1010})


# Chance


def test_the_same_seed_gives_the_same_forecast_and_another_seed_gives_another() -> None:
    stream = Stream(300, rate_per_s=15)
    first = simulate_plan(THREE, stream)
    assert first == simulate_plan(THREE, stream)
    assert first.latency_ms != simulate_plan(THREE, replace(stream, seed=1)).latency_ms
    assert first.latency_ms != simulate_plan(THREE, replace(stream, spread=0.2)).latency_ms


def test_arrivals_are_a_poisson_process_or_at_equal_intervals() -> None:
    gaps_s = np.diff(arrival_times_s(Stream(50_000, rate_per_s=20)))
    assert gaps_s.mean() == pytest.approx(1 / 20, rel=0.02)
    assert gaps_s.std() == pytest.approx(1 / 20, rel=0.02)
    assert np.diff(arrival_times_s(Stream(9, rate_per_s=20, steady=True))) == pytest.approx(0.05)


_TIMES = st.floats(0.1, 50)


@st.composite
def _plans(draw: st.DrawFn) -> PipelineTimes:
    names = iter(f"board-{index}" for index in range(100))
    return plan(
        *(
            [
                replica(
                    next(names),
                    draw(_TIMES),
                    handling_ms=draw(_TIMES),
                    receive_ms=draw(_TIMES),
                    send_ms=draw(_TIMES),
                    link_delay_ms=draw(_TIMES),
                )
                for _ in range(draw(st.integers(1, 3)))
            ]
            for _ in range(draw(st.integers(1, 4)))
        )
    )


@settings(max_examples=60, deadline=None)
@given(_plans(), st.floats(0.1, 3), st.integers(1, 20), st.integers(0, 5))
def test_no_stream_is_faster_than_its_boards_or_loses_a_request(
    times: PipelineTimes, load: float, window: int, seed: int
) -> None:
    rate = load * find_capacity(times).rate_per_s
    stream = Stream(60, rate_per_s=rate, window=window, seed=seed, timeout_s=1e6, spread=0)
    forecast = simulate_plan(times, stream)
    assert forecast.outcomes["answered"] == 60
    fastest_ms = sum(min(item.latency_ms for item in stage) for stage in times.stages)
    assert forecast.latency_ms["median"] >= fastest_ms - 1e-6
    assert sum(forecast.spent_ms.values()) == pytest.approx(forecast.latency_ms["mean"])
    full = simulate_plan(times, replace(stream, rate_per_s=None, requests=300))
    most = 300 + len(times.stages) * 20
    assert full.throughput_per_s <= find_capacity(times).rate_per_s * most / 300


@settings(max_examples=40, deadline=None)
@given(_plans(), st.integers(0, 5))
def test_the_latency_does_not_fall_with_a_higher_arrival_rate(
    times: PipelineTimes, seed: int
) -> None:
    capacity = find_capacity(times).rate_per_s

    def mean_ms(load: float) -> float:
        stream = Stream(200, rate_per_s=load * capacity, seed=seed, window=200, spread=0)
        return simulate_plan(times, stream).latency_ms["mean"]

    low_ms, middle_ms, high_ms = map(mean_ms, (0.3, 0.7, 1.2))
    assert low_ms <= middle_ms * 1.001
    assert middle_ms <= high_ms * 1.001


@settings(max_examples=40, deadline=None)
@given(
    _plans(),
    st.floats(0.3, 2),
    st.lists(
        st.tuples(st.integers(0, 20), st.floats(0, 3), st.floats(0.01, 3)), min_size=1, max_size=3
    ),
)
def test_every_request_has_one_outcome_under_any_failures(
    times: PipelineTimes, load: float, chosen: list[tuple[int, float, float]]
) -> None:
    names = sorted({item.device for stage in times.stages for item in stage})
    # One failure per board: a failed board can't fail again before it returns.
    failures = {names[number % len(names)]: (start, duration) for number, start, duration in chosen}
    stream = Stream(
        100,
        rate_per_s=load * find_capacity(times).rate_per_s,
        timeout_s=2,
        failures=tuple(Failure(name, *when) for name, when in failures.items()),
    )
    forecast = simulate_plan(times, stream)
    assert sum(forecast.outcomes.values()) == 100
    assert forecast.latency_ms["max"] >= forecast.latency_ms["p99"] >= forecast.latency_ms["p95"]


def test_slowed_boards_have_longer_processor_times_and_unchanged_links() -> None:
    times = plan([replica("a", 20, handling_ms=4, receive_ms=3)], [replica("b", 30)])
    slowed = times.slowed({"a": 1.5})
    (first,), (second,) = slowed.stages
    assert (first.invoke_ms, first.handling_ms, first.receive_ms) == (30, 6, 3)
    assert first.busy_ms == 1.5 * times.stages[0][0].busy_ms
    assert second == times.stages[1][0]
    lone_ms = simulate_plan(times, exactly(1)).latency_ms["max"]
    assert simulate_plan(slowed, exactly(1)).latency_ms["max"] == pytest.approx(lone_ms + 12)


# Refused settings


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rate_per_s": 0}, "rate is 0"),
        ({"rate_per_s": float("inf")}, "rate is inf"),
        ({"window": 0}, "window is 0"),
        ({"requests": 0}, "requests is 0"),
        ({"timeout_s": -1}, "timeout is -1"),
        ({"spread": -0.1}, "spread is -0.1"),
        ({"failures": (Failure("z", 0, 1),)}, "The failing board 'z' is not in the plan.*a, b, c"),
        ({"failures": (Failure("a", 0, 0),)}, "board a starts at 0 s and lasts 0 s"),
        ({"failures": (Failure("a", 0, 9), Failure("a", 5, 1))}, "a fails again"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SimulationError, match=words):
        simulate_plan(THREE, Stream(**{"requests": 10, **options}))


TIMES = {"invoke_ms": 1, "handling_ms": 1, "receive_ms": 1, "send_ms": 1}


@pytest.mark.parametrize(
    ("damaged", "where"),
    [
        ([], "document"),
        ({}, "stages"),
        ({"stages": []}, "stages"),
        ({"stages": [{}]}, "stages[0].replicas"),
        ({"stages": [{"replicas": []}]}, "stages[0].replicas"),
        ({"stages": [{"replicas": [{"device": 1, **TIMES}]}]}, "stages[0].replicas[0].device"),
        ({"stages": [{"replicas": [{"device": "a"}]}]}, "stages[0].replicas[0].invoke_ms"),
        (document([replica("a", -1)]), "stages[0].replicas[0].invoke_ms"),
        (document([replica("a", float("nan"))]), "stages[0].replicas[0].invoke_ms"),
        (document([replica("a", 1, send_ms="2")]), "stages[0].replicas[0].send_ms"),  # type: ignore[arg-type]
    ],
)
def test_the_error_for_an_invalid_plan_document_names_the_field(damaged: Any, where: str) -> None:
    with pytest.raises(PlanDocumentError) as raised:
        read_plan(damaged)
    assert raised.value.where == where
    assert where in str(raised.value)


# The command


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["simulate", *map(str, words)])
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    stages = [
        [replica("pi-1", 20, handling_ms=2, receive_ms=3, send_ms=1)],
        [replica("pi-2", 80, handling_ms=2, receive_ms=1, send_ms=1)],
    ]
    path = tmp_path / "build" / "plan.json"
    path.parent.mkdir()
    path.write_text(json.dumps(document(*stages)))
    return path


def test_the_command_prints_the_forecast_and_the_limit(
    plan_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(plan_file, "--rate", 20, "--requests", 300) == 0
    shown = capsys.readouterr().out
    assert "pi-2" in shown
    assert "300 answered" in shown
    assert "20 requests/s arrive, but the capacity of pi-2's processor is 12.2 requests/s" in shown
    assert "With all boards 10% slower: 11.1 requests/s" in shown


def test_the_json_of_the_command_is_the_forecast(
    plan_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--rate", 8, "--requests", 300, "--json", "--fail", "pi-2@3+2", "--seed", 5)
    assert run(plan_file.parent, *words) == 0
    told = json.loads(capsys.readouterr().out)
    expected: Forecast = simulate_plan(
        read_plan(json.loads(plan_file.read_text())),
        Stream(300, rate_per_s=8, failures=(Failure("pi-2", 3, 2),), seed=5),
    )
    assert told["model"] == "some-model"
    assert told["throughput_per_s"] == expected.throughput_per_s
    assert told["latency_ms"] == expected.latency_ms
    # After the failure of 2 s, slower boards take longer to work off the queue.
    assert told["if_slower"]["latency_ms"]["median"] > 1.05 * told["latency_ms"]["median"]
    assert told["boards"][1]["device"] == "pi-2"
    assert told["outcomes"] == {"answered": 300, "timed_out": 0}
    assert told["failures"] == [{"device": "pi-2", "start_s": 3, "duration_s": 2}]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("{folder}/none.json",), 1, "none.json can't be read: No such file"),
        (("{folder}",), 1, "can't be read: No such file"),
        (("{folder}/text.json",), 1, "is not JSON"),
        (("{folder}/list.json",), 1, "document is a list; expected an object"),
        (("{plan}", "--fail", "pi-9@1+1"), 1, "The failing board 'pi-9'"),
        (("{plan}", "--fail", "pi-1"), 2, "expected BOARD@START+DURATION, such as pi-2@10+5"),
        (("{plan}", "--rate", "0"), 2, "--rate"),
        (("{plan}", "--steady"), 2, "--rate"),
        ((), 2, "PLAN"),
    ],
)
def test_the_command_explains_an_error_in_one_line(
    words: tuple[str, ...],
    status: int,
    said: str,
    plan_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = plan_file.parent.parent
    (folder / "text.json").write_text("a plan")
    (folder / "list.json").write_text("[1, 2]")
    assert run(*(word.format(folder=folder, plan=plan_file) for word in words)) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert "internal error" not in captured.err
    if status == 1:
        assert captured.err.count("\n") == 1


def test_the_energy_of_an_answer_is_the_sum_over_the_boards_that_served_it() -> None:
    stages = ([replica("a", 20.0, energy_j=0.3)], [replica("b", 10.0, energy_j=0.05)])
    forecast = simulate_plan(plan(*stages), exactly(50, rate_per_s=RARELY))
    assert forecast.energy_j == pytest.approx(0.35)
    slower = simulate_plan(plan(*stages).slowed({"a": 2.0}), exactly(50, rate_per_s=RARELY))
    assert slower.energy_j == pytest.approx(0.65)
    unknown = simulate_plan(plan(stages[0], [replica("b", 10.0)]), exactly(50))
    assert unknown.energy_j is None


def test_the_energy_of_repeats_counts() -> None:
    stages = [replica("a", 20.0, energy_j=0.3), replica("b", 20.0, energy_j=0.3)]
    failing = exactly(300, rate_per_s=80.0, failures=(Failure("a", 2.0, 3.0),))
    forecast = simulate_plan(plan(stages), failing)
    assert forecast.resent > 0
    assert forecast.energy_j is not None
    served = sum(board.served for board in forecast.boards)
    # The board that fails loses the inference that it has begun.
    assert forecast.energy_j == pytest.approx(
        0.3 * served / forecast.outcomes["answered"], rel=0.01
    )
    assert served > forecast.outcomes["answered"]
