"""Plans of the least energy, against exhaustive search."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from random_models import random_fleet, random_graph, seeded
from tflite_models import chain_of_adds

from edge_partition.cli import app
from edge_partition.planning.fleet import Device, Fleet
from edge_partition.planning.plan import InfeasiblePlanError, PlanRequestError
from edge_partition.planning.plan_document import plan_document
from edge_partition.planning.plan_split import LimitError, Plan, evaluate, plan_split

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from pathlib import Path

    from edge_partition.tflite.graph import Graph

INSTANCES = 200


def powered_fleet(rng: random.Random, count: int) -> Fleet:
    """Return unequal boards; the fastest boards are not those that take the least energy."""
    boards = random_fleet(rng, count, ram_mib=(60, 160)).devices
    watts = [(rng.uniform(3, 12), rng.uniform(0.5, 3)) for _ in boards]
    return Fleet(
        tuple(
            replace(board, active_watts=active, idle_watts=idle)
            for board, (active, idle) in zip(boards, watts, strict=True)
        )
    )


def replica_sets(
    devices: tuple[Device, ...], count: int
) -> Iterator[tuple[tuple[Device, ...], ...]]:
    """Yield every assignment of ``count`` stages to disjoint sets of boards."""
    if not count:
        yield ()
        return
    for size in range(1, len(devices) - count + 2):
        for chosen in combinations(devices, size):
            left = tuple(device for device in devices if device not in chosen)
            for others in replica_sets(left, count - 1):
                yield (chosen, *others)


def least_energy(graph: Graph, fleet: Fleet, least_per_s: float = 0) -> tuple[int, int] | None:
    """Return the least energy in microjoules and its least number of stages."""
    found = []
    for count in range(1, len(fleet.devices) + 1):
        for places in combinations(graph.cuts, count - 1):
            ends = (0, *places, len(graph.operators))
            for boards in replica_sets(fleet.devices, count):
                plan = Plan.of(graph, list(zip(boards, ends[:-1], ends[1:], strict=True)))
                fits = plan.fits
                if fits and plan.throughput_per_s >= least_per_s:
                    energy_uj = sum(
                        max(round((cost.energy_j or 0) * 1e6) for cost in stage.costs)
                        for stage in plan.stages
                    )
                    found.append((energy_uj, count))
    return min(found, default=None)


#: Plans with one stage on each board, as :func:`least_energy` enumerates them.
plan_apart = partial(plan_split, shared_boards=False)


def test_no_plan_takes_less_energy() -> None:
    splits = faster = 0
    for seed in range(INSTANCES):
        rng = seeded(seed)
        graph, fleet = random_graph(rng, rng.randint(3, 6)), powered_fleet(rng, rng.randint(1, 3))
        expected = least_energy(graph, fleet)
        if expected is None:
            with pytest.raises(InfeasiblePlanError):
                plan_apart(graph, fleet, "energy")
            continue
        plan = plan_apart(graph, fleet, "energy")
        assert plan.energy_j is not None
        assert (round(plan.energy_j * 1e6), len(plan.stages)) == expected
        assert plan.gap == 0
        assert plan.bound == plan.score == plan.energy_j == evaluate(plan).energy_j
        splits += len(plan.stages) > 1
        faster += plan_apart(graph, fleet, "latency").latency_ms < plan.latency_ms
    assert splits > 10
    assert faster > 20


def test_a_limit_on_the_throughput_costs_energy_and_may_need_replicas() -> None:
    dearer = replicated = 0
    for seed in range(INSTANCES // 4):
        rng = seeded(1000 + seed)
        graph, fleet = random_graph(rng, 5), powered_fleet(rng, 3)
        try:
            most_per_s = plan_apart(graph, fleet, max_replicas=3).throughput_per_s
        except InfeasiblePlanError:
            continue
        least_per_s = rng.uniform(0.5, 0.99) * most_per_s
        plan = plan_apart(graph, fleet, "energy", max_replicas=3, min_throughput_per_s=least_per_s)
        assert plan.throughput_per_s >= least_per_s
        expected = least_energy(graph, fleet, least_per_s)
        assert plan.energy_j is not None
        assert (round(plan.energy_j * 1e6), len(plan.stages)) == expected
        free_j = plan_apart(graph, fleet, "energy").energy_j
        assert free_j is not None
        dearer += plan.energy_j > free_j
        replicated += plan.boards > len(plan.stages)
    assert dearer > 5
    assert replicated > 3


def test_a_stage_on_replicas_takes_the_energy_of_its_dearest_board() -> None:
    graph = random_graph(seeded(4), 5)
    cheap = Device("cheap", active_watts=3, idle_watts=1)
    dear = Device("dear", active_watts=9, idle_watts=1)
    alone = plan_split(graph, Fleet((cheap, dear)), "energy")
    assert [stage.board_names for stage in alone.stages] == ["cheap"]
    both = plan_split(
        graph,
        Fleet((cheap, dear)),
        "energy",
        min_throughput_per_s=1.9 * alone.throughput_per_s,
    )
    assert both.boards == 2
    assert both.energy_j == max(cost.energy_j or 0 for stage in both.stages for cost in stage.costs)
    with pytest.raises(LimitError, match="the highest throughput is"):
        plan_split(graph, Fleet((cheap, dear)), "energy", min_throughput_per_s=1e9)


def test_a_plan_for_energy_needs_the_power_of_every_board_and_takes_no_limit_on_latency() -> None:
    graph, known = random_graph(seeded(4), 5), Device("a", active_watts=3, idle_watts=1)
    fleet = Fleet((known, Device("b", active_watts=3)))
    with pytest.raises(PlanRequestError, match="power of b is not known; expected active_watts"):
        plan_split(graph, fleet, "energy")
    assert plan_split(graph, fleet, "latency").boards == 1
    with pytest.raises(PlanRequestError, match="cannot limit the latency"):
        plan_split(graph, Fleet((known,)), "energy", max_latency_ms=10)


def test_the_document_has_the_joules_of_each_board_and_of_the_plan() -> None:
    graph, fleet = random_graph(seeded(8), 8), powered_fleet(seeded(8), 2)
    plan = plan_split(graph, replace_ram(fleet), "energy")
    document = plan_document(plan)
    assert document["objective"] == "energy"
    assert document["bound_j"] == document["energy_j"] == plan.energy_j
    assert "bound_ms" not in document
    parts = [replica["energy_j"] for stage in document["stages"] for replica in stage["replicas"]]
    assert sum(parts) == pytest.approx(plan.energy_j)
    unknown: Plan = plan_split(graph, Fleet((Device("a"),)))
    assert plan_document(unknown)["energy_j"] is None


def replace_ram(fleet: Fleet) -> Fleet:
    return Fleet(tuple(replace(device, ram_mib=4000) for device in fleet.devices))


def test_the_commands_plan_split_and_simulate_tell_joules(tmp_path: Path) -> None:
    model, fleet, bundle = (tmp_path / name for name in ("chain.tflite", "fleet.toml", "build"))
    model.write_bytes(chain_of_adds())
    fleet.write_text('[[device]]\nname = "pi"\nboard = "raspberry-pi-4"\n')

    def run(*words: object) -> str:
        result = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
        assert result.exit_code == 0
        return result.stdout

    options = ("--fleet", fleet, "--objective", "energy")
    energy_j = json.loads(run("plan", model, *options, "--json"))["energy_j"]
    assert f"{energy_j:.3g} J for one request" in run("plan", model, *options)
    run("split", model, *options, "-o", bundle)
    assert json.loads((bundle / "plan.json").read_text())["energy_j"] == energy_j
    quiet = ("--requests", 20, "--spread", 0)
    forecast = json.loads(run("simulate", bundle, *quiet, "--json"))
    assert forecast["energy_j"] == pytest.approx(energy_j)
    told = re.search(r"Energy: (\S+) J for each answer", run("simulate", bundle, *quiet))
    assert told is not None
    assert float(told[1]) == pytest.approx(energy_j, rel=0.01)
    refused = CliRunner().invoke(
        app, ["plan", str(model), "--stages", "1", "--objective", "energy"]
    )
    assert refused.exit_code != 0
