from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations, pairwise, permutations
from typing import TYPE_CHECKING

import pytest
from random_models import MIB, random_fleet, random_graph, seeded

from edge_partition.cost_model import AGENT_RAM_BYTES
from edge_partition.fleet import Device, Fleet, equal_fleet
from edge_partition.plan_split import (
    InfeasiblePlanError,
    Plan,
    PlanRequestError,
    evaluate,
    plan_split,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_partition.graph import Graph

OBJECTIVES = ("throughput", "latency")


def rank(plan: Plan, objective: str) -> tuple[float, ...]:
    if objective == "latency":
        return (plan.latency_ms, len(plan.stages))
    return (plan.bottleneck_ms, plan.latency_ms, len(plan.stages))


def all_plans(graph: Graph, fleet: Fleet) -> Iterator[Plan]:
    """Every order of every choice of boards, at every choice of cuts."""
    for count in range(1, len(fleet.devices) + 1):
        for cuts in combinations(graph.cuts, count - 1):
            for devices in permutations(fleet.devices, count):
                try:
                    yield evaluate(graph, devices, cuts)
                except InfeasiblePlanError:
                    continue


def planned(graph: Graph, fleet: Fleet, objective: str, **request: object) -> Plan | None:
    try:
        return plan_split(graph, fleet, objective, **request)
    except InfeasiblePlanError:
        return None


def test_no_plan_beats_the_planner_on_random_models_and_fleets() -> None:
    seen: Counter[str] = Counter()
    for seed in range(300):
        rng = seeded(seed)
        graph = random_graph(rng, rng.randint(1, 8))
        ram_mib = rng.choice([(56, 85), (70, 140), (500, 900)])
        fleet = random_fleet(rng, rng.choice([1, 2, 3, 4, 4]), ram_mib=ram_mib)
        unlimited = Fleet(
            tuple(replace(device, ram_mib=1e6, storage_mib=1e6) for device in fleet.devices)
        )
        plans = list(all_plans(graph, fleet))
        for objective in OBJECTIVES:
            found = planned(graph, fleet, objective)
            if not plans:
                assert found is None, seed
                seen["infeasible"] += 1
                continue
            assert found is not None, seed
            best = min(plans, key=lambda plan: rank(plan, objective))
            assert rank(found, objective) == rank(best, objective), seed
            again = evaluate(graph, [stage.device for stage in found.stages], found.cuts)
            assert again.stages == found.stages
            seen[f"{objective} on {len(found.stages)}"] += 1
            free = planned(graph, unlimited, objective)
            seen["limits bind"] += rank(free, objective) < rank(found, objective)
            for count in range(1, len(fleet.devices) + 1):
                exact = [plan for plan in plans if len(plan.stages) == count]
                if count > len(graph.cuts) + 1:
                    continue
                chosen = planned(graph, fleet, objective, stages=count)
                assert (chosen is None) == (not exact), seed
                if chosen is not None:
                    best = min(exact, key=lambda plan: rank(plan, objective))
                    assert rank(chosen, objective) == rank(best, objective), seed
                    seen["exactly so many"] += 1
    # The comparison has met each case often enough to fail.
    assert seen["infeasible"] > 40
    assert seen["limits bind"] > 40
    assert seen["exactly so many"] > 200
    assert min(seen[f"throughput on {count}"] for count in (1, 2, 3, 4)) >= 4
    assert min(seen[f"latency on {count}"] for count in (1, 2)) >= 4


def test_given_cuts_are_kept_and_the_best_boards_found() -> None:
    compared = 0
    for seed in range(60):
        rng = seeded(1000 + seed)
        graph = random_graph(rng, 7)
        fleet = random_fleet(rng, 4, ram_mib=(70, 150))
        cuts = tuple(sorted(rng.sample(graph.cuts, min(2, len(graph.cuts)))))
        plans = []
        for devices in permutations(fleet.devices, len(cuts) + 1):
            try:
                plans.append(evaluate(graph, devices, cuts))
            except InfeasiblePlanError:
                continue
        for objective in OBJECTIVES:
            found = planned(graph, fleet, objective, cuts=cuts)
            assert (found is None) == (not plans)
            if found is not None:
                assert found.cuts == cuts
                assert rank(found, objective) == min(rank(plan, objective) for plan in plans)
                compared += 1
    assert compared > 30


def test_the_same_request_gives_the_same_plan() -> None:
    rng = seeded(7)
    graph = random_graph(rng, 30)
    fleet = random_fleet(rng, 6, ram_mib=(100, 400))
    assert plan_split(graph, fleet) == plan_split(graph, fleet)


def test_equal_boards_share_the_work() -> None:
    graph = random_graph(seeded(3), 40)
    plan = plan_split(graph, equal_fleet(4))
    assert [stage.device.name for stage in plan.stages] == [f"board-{i}" for i in range(4)]
    single = plan.single_board_alternative
    assert single is not None
    assert plan.bottleneck_ms < single.bottleneck_ms / 3


def test_stages_cover_the_model_without_gap_or_overlap() -> None:
    rng = seeded(11)
    graph = random_graph(rng, 25)
    plan = plan_split(graph, random_fleet(rng, 5, ram_mib=(120, 300)))
    ends = [(stage.start, stage.stop) for stage in plan.stages]
    assert ends[0][0] == 0
    assert ends[-1][1] == 25
    assert all(before[1] == after[0] for before, after in pairwise(ends))


def test_eight_unequal_boards_and_two_hundred_operators_are_planned() -> None:
    rng = seeded(5)
    graph = random_graph(rng, 200)
    devices = tuple(
        Device(f"board-{i}", None, 700 + 10 * i, 1e5, 3 + i, 4, 20_000.0, 0.1) for i in range(8)
    )
    plan = plan_split(graph, Fleet(devices))
    total_speed = sum(device.speed_gmac_s for device in devices)
    alone = evaluate(graph, [replace(devices[0], ram_mib=1e6)], ())
    # No plan is faster than all boards at once without links.
    assert plan.bottleneck_ms >= alone.stages[0].cost.invoke_ms * 3 / total_speed
    assert plan.bottleneck_ms < alone.stages[0].cost.invoke_ms * 3 / total_speed * 1.2


def test_one_board_that_holds_everything_is_named_when_the_plan_uses_several() -> None:
    graph = random_graph(seeded(3), 10)
    plan = plan_split(graph, equal_fleet(3), "latency", stages=3)
    single = plan.single_board_alternative
    assert single is not None
    assert len(single.stages) == 1
    assert single.latency_ms < plan.latency_ms
    assert plan_split(graph, equal_fleet(3), "latency").single_board_alternative is None


def test_too_little_memory_names_the_board_the_part_and_the_shortfall() -> None:
    graph = random_graph(seeded(4), 6)
    device = Device("pi-2", None, 45, 1000)
    with pytest.raises(InfeasiblePlanError) as caught:
        plan_split(graph, Fleet((device,)))
    error = caught.value
    assert (error.device, error.limit, error.start, error.stop) == ("pi-2", "RAM", 0, 6)
    assert error.available_bytes == 45 * MIB
    assert error.needed_bytes > AGENT_RAM_BYTES
    enough = replace(device, ram_mib=error.needed_bytes / MIB)
    assert len(plan_split(graph, Fleet((enough,))).stages) == 1
    message = str(error)
    assert "\n" not in message
    assert "pi-2 needs" in message
    assert "has 45 MiB: short by" in message
    assert "ram_mib" in message


def test_too_little_storage_is_told_from_too_little_memory() -> None:
    graph = random_graph(seeded(4), 6)
    with pytest.raises(InfeasiblePlanError, match=r"of storage .* storage_mib") as caught:
        plan_split(graph, Fleet((Device("pi-2", None, 4000, 0.5),)))
    assert caught.value.limit == "storage"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"stages": 0}, "expected 1 or more"),
        ({"stages": 4}, "the fleet has 3"),
        ({"stages": 50}, "at most"),
        ({"cuts": [99]}, "cannot be cut at position 99"),
        ({"cuts": [5, 3]}, "not ascending"),
        ({"cuts": [3, 5], "stages": 2}, "make 3 stages, not 2"),
        ({"cuts": [1, 3, 5]}, "need 4 boards"),
    ],
)
def test_an_impossible_request_is_refused_with_the_reason(
    request_: dict[str, object], message: str
) -> None:
    graph = replace(random_graph(seeded(4), 8), cuts=(1, 2, 3, 4, 5, 6, 7))
    with pytest.raises(PlanRequestError, match=message):
        plan_split(graph, equal_fleet(3), **request_)
