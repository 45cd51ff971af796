"""Routers and windows against simulated pipelines: throughput, fairness, queues, failures.

All times are simulated: the results are the same on every machine.
"""

from __future__ import annotations

import pytest
from pipeline_simulation import OVERHEAD_MS, PipelineSimulation, SimulatedClient

STAGE_COUNTS = (1, 2, 3, 4)


def equal_boards(stages: int, invoke_ms: float) -> list[dict[str, float]]:
    return [{f"pi-{stage}": invoke_ms} for stage in range(stages)]


def bound_per_s(*invoke_ms: float) -> float:
    """Return the requests per second that boards with these times serve together."""
    return sum(1000 / (time_ms + OVERHEAD_MS) for time_ms in invoke_ms)


def total_rate_per_s(simulation: PipelineSimulation, start_ms: float, stop_ms: float) -> float:
    return sum(client.rate_per_s(start_ms, stop_ms) for client in simulation.clients)


def shares(simulation: PipelineSimulation, start_ms: float, stop_ms: float) -> list[float]:
    """Return each client's rate relative to a fair share of the total rate."""
    rates = [client.rate_per_s(start_ms, stop_ms) for client in simulation.clients]
    return [rate * len(rates) / sum(rates) for rate in rates]


def requests_of_start(client: SimulatedClient, bound_per_s: float) -> int:
    """Return the number of answers before the first 100 that come at 0.95 of a bound."""
    answers_ms = client.answers_ms
    return next(
        first
        for first in range(len(answers_ms) - 100)
        if 100_000 / (answers_ms[first + 100] - answers_ms[first]) >= 0.95 * bound_per_s
    )


@pytest.mark.parametrize("jitter", [0.0, 0.2])
@pytest.mark.parametrize("stages", STAGE_COUNTS)
def test_a_pipeline_bound_by_its_boards_reaches_its_bound(stages: int, jitter: float) -> None:
    simulation = PipelineSimulation(*equal_boards(stages, 20.0), jitter=jitter)
    client = simulation.add_client()
    simulation.run(60_000)
    assert client.rate_per_s(2_000, 60_000) >= 0.97 * bound_per_s(20.0)
    assert requests_of_start(client, bound_per_s(20.0)) <= 20
    assert simulation.longest_at_broker <= 2


@pytest.mark.parametrize("jitter", [0.0, 0.2])
@pytest.mark.parametrize("stages", STAGE_COUNTS)
def test_a_pipeline_bound_by_its_links_reaches_its_bound(stages: int, jitter: float) -> None:
    simulation = PipelineSimulation(*equal_boards(stages, 5.0), transfer_ms=50.0, jitter=jitter)
    client = simulation.add_client()
    simulation.run(60_000)
    assert client.rate_per_s(2_000, 60_000) >= 0.97 * 20
    assert requests_of_start(client, 20) <= 20
    assert simulation.longest_at_broker <= 2


@pytest.mark.parametrize("jitter", [0.0, 0.2])
@pytest.mark.parametrize("stages", STAGE_COUNTS)
def test_a_pipeline_with_long_ways_reaches_its_bound(stages: int, jitter: float) -> None:
    simulation = PipelineSimulation(*equal_boards(stages, 1.0), latency_ms=5.0, jitter=jitter)
    client = simulation.add_client()
    simulation.events.call_after(2_000, simulation.forget_longest)
    simulation.run(12_000)
    assert client.rate_per_s(2_000, 12_000) >= 0.97 * bound_per_s(1.0)
    assert requests_of_start(client, bound_per_s(1.0)) <= 100
    # More requests than an agent takes are on their way to it.
    assert simulation.longest_at_broker <= 16


def test_a_pipeline_of_unequal_stages_reaches_its_bound() -> None:
    boards = [{f"pi-{stage}": 20.0 + 5 * stage} for stage in range(4)]
    simulation = PipelineSimulation(*boards, jitter=0.2)
    client = simulation.add_client()
    simulation.run(60_000)
    assert client.rate_per_s(2_000, 60_000) >= 0.97 * bound_per_s(35.0)


UNEQUAL = {"slow": 40.0, "middle": 20.0, "fast": 10.0}
UNEQUAL_PER_S = bound_per_s(*UNEQUAL.values())


@pytest.mark.parametrize("jitter", [0.0, 0.2])
def test_unequal_replicas_serve_the_sum_of_what_they_serve_alone(jitter: float) -> None:
    simulation = PipelineSimulation(UNEQUAL, jitter=jitter)
    client = simulation.add_client()
    simulation.run(30_000)
    assert client.rate_per_s(2_000, 30_000) >= 0.97 * UNEQUAL_PER_S
    assert simulation.longest_at_broker <= 2


@pytest.mark.parametrize("jitter", [0.0, 0.2])
def test_unequal_replicas_between_other_stages_serve_their_sum(jitter: float) -> None:
    simulation = PipelineSimulation({"first": 5.0}, UNEQUAL, {"last": 5.0}, jitter=jitter)
    client = simulation.add_client()
    simulation.run(30_000)
    assert client.rate_per_s(2_000, 30_000) >= 0.97 * UNEQUAL_PER_S


def test_a_board_with_two_stages_reaches_its_bound() -> None:
    simulation = PipelineSimulation({"a": 1.0}, {"b": 10.0}, {"a": 9.0}, jitter=0.2)
    client = simulation.add_client()
    simulation.run(30_000)
    assert client.rate_per_s(2_000, 30_000) >= 0.97 * bound_per_s(9.0 + 1.0 + OVERHEAD_MS)


@pytest.mark.parametrize("stages", [1, 2])
def test_clients_that_start_one_after_another_share_boards_equally(stages: int) -> None:
    simulation = PipelineSimulation(*equal_boards(stages, 20.0), jitter=0.1)
    for number in range(4):
        simulation.add_client(3_000.0 * number)
    simulation.run(34_000)
    # From five seconds after the last start.
    for start_ms in (14_000, 24_000):
        assert min(shares(simulation, start_ms, start_ms + 10_000)) >= 0.85
    assert total_rate_per_s(simulation, 14_000, 34_000) >= 0.97 * bound_per_s(20.0)
    assert simulation.longest_at_broker <= 6


def test_clients_share_unequal_replicas_equally() -> None:
    simulation = PipelineSimulation(UNEQUAL, jitter=0.1)
    for number in range(4):
        simulation.add_client(3_000.0 * number)
    simulation.run(74_000)
    assert min(shares(simulation, 14_000, 74_000)) >= 0.85
    assert total_rate_per_s(simulation, 14_000, 74_000) >= 0.95 * UNEQUAL_PER_S
    assert simulation.longest_at_broker <= 8


def test_clients_share_links_equally_though_later_clients_never_saw_them_free() -> None:
    simulation = PipelineSimulation(*equal_boards(2, 5.0), transfer_ms=50.0, jitter=0.1)
    for number in range(4):
        simulation.add_client(3_000.0 * number)
    simulation.run(120_000)
    # The clients' drains have to coincide first.
    assert min(shares(simulation, 60_000, 120_000)) >= 0.85
    assert total_rate_per_s(simulation, 14_000, 120_000) >= 0.97 * 20


def test_the_others_get_the_share_of_a_client_that_stops() -> None:
    simulation = PipelineSimulation(*equal_boards(2, 20.0), jitter=0.2)
    clients = [simulation.add_client(stop_ms=stop_ms) for stop_ms in (10_000.0, None, None, None)]
    simulation.run(30_000)
    assert clients[0].rate_per_s(11_000, 30_000) == 0
    assert sum(client.rate_per_s(11_000, 30_000) for client in clients[1:]) >= 0.97 * bound_per_s(
        20.0
    )


def test_a_hundred_clients_on_one_board_end_with_one_request_each() -> None:
    simulation = PipelineSimulation({"pi": 20.0}, jitter=0.2)
    for number in range(100):
        simulation.add_client(10.0 * number)
    simulation.run(120_000)
    # The first requests: at most three of each client.
    assert simulation.longest_at_broker <= 300
    assert simulation.in_flight <= 110
    assert min(shares(simulation, 40_000, 120_000)) >= 0.8
    assert total_rate_per_s(simulation, 20_000, 120_000) >= 0.99 * bound_per_s(20.0)


@pytest.mark.parametrize("invoke_ms", [0.05, 1.0, 5.0])
def test_many_clients_on_a_fast_board_stay_bounded(invoke_ms: float) -> None:
    simulation = PipelineSimulation({"pi": invoke_ms}, jitter=0.2)
    for number in range(20):
        simulation.add_client(10.0 * number)
    simulation.events.call_after(5_000, simulation.forget_longest)
    simulation.run(15_000)
    assert simulation.longest_at_broker <= 40
    assert min(shares(simulation, 5_000, 15_000)) >= 0.8
    assert total_rate_per_s(simulation, 5_000, 15_000) >= 0.97 * bound_per_s(invoke_ms)


def test_a_pipeline_with_little_to_compute_reaches_its_bound() -> None:
    simulation = PipelineSimulation(*equal_boards(2, 0.05), latency_ms=0.2)
    client = simulation.add_client()
    simulation.run(5_000)
    assert client.rate_per_s(500, 5_000) >= 0.97 * bound_per_s(0.05)


def test_a_hundred_clients_keep_unequal_replicas_busy() -> None:
    simulation = PipelineSimulation(UNEQUAL, jitter=0.2)
    for number in range(100):
        simulation.add_client(10.0 * number)
    simulation.run(60_000)
    assert simulation.in_flight <= 115
    assert min(shares(simulation, 10_000, 60_000)) >= 0.7
    assert total_rate_per_s(simulation, 10_000, 60_000) >= 0.97 * UNEQUAL_PER_S


def test_a_hundred_clients_on_a_slow_link_stay_far_below_the_brokers_limit() -> None:
    simulation = PipelineSimulation(*equal_boards(2, 5.0), transfer_ms=50.0, jitter=0.1)
    for number in range(100):
        simulation.add_client(10.0 * number)
    simulation.run(300_000)
    # mosquitto drops messages of a queue longer than 1,000.
    assert simulation.longest_at_broker <= 700
    assert min(len(client.answers_ms) for client in simulation.clients) >= 20


@pytest.mark.parametrize("stages", STAGE_COUNTS)
def test_one_slow_answer_does_not_collapse_a_window(stages: int) -> None:
    boards = equal_boards(stages, 20.0)
    simulation = PipelineSimulation(*boards, jitter=0.2, slow_ms={300: 1000.0})
    client = simulation.add_client()
    simulation.run(20_000)
    (gap_ms, slow_ms), (second_ms, _) = sorted(
        (
            (later - sooner, later)
            for sooner, later in zip(client.answers_ms, client.answers_ms[1:], strict=False)
        ),
        reverse=True,
    )[:2]
    assert gap_ms >= 800 > 8 * second_ms  # The slow answer is there.
    assert min(client.sizes[300:]) >= stages
    assert client.rate_per_s(slow_ms, slow_ms + 2_000) >= 0.9 * bound_per_s(20.0)


def test_requests_at_a_replica_that_dies_are_answered_by_the_other() -> None:
    simulation = PipelineSimulation({"a": 20.0, "b": 20.0}, {"c": 5.0}, jitter=0.2)
    client = simulation.add_client()
    # The broker publishes the will at once when a connection breaks.
    simulation.events.call_after(5_000, simulation.kill, "a", 20.0)
    simulation.run(15_000)
    # The simulated board fails the test if anything is sent to it after its death is known.
    assert 1 <= client.sent_again <= 8
    assert max(client.latencies_ms) <= 400
    assert client.rate_per_s(6_000, 15_000) >= 0.97 * bound_per_s(20.0)
    assert client.router.outstanding("a") == 0
