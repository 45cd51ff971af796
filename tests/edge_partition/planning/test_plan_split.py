from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from random_models import MIB, random_fleet, random_graph, seeded

from edge_partition.planning.cost_model import stage_cost
from edge_partition.planning.fleet import Device, Fleet, equal_fleet
from edge_partition.planning.plan_split import (
    InfeasiblePlanError,
    LimitError,
    Objective,
    Plan,
    PlanRequestError,
    evaluate,
    plan_split,
)
from edge_partition.planning.search.board_sets import find_route
from edge_partition.planning.search.max_reach import MaxReachSearch, SearchStatus
from edge_partition.planning.search.period_bound import bound_period
from edge_partition.planning.search.problem import FORBIDDEN, Problem
from edge_partition.planning.shared_period import shared_period_ns
from edge_partition.planning.stage_memory import AGENT_RAM_BYTES

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from edge_partition.tflite.graph import Graph

OBJECTIVES: tuple[Objective, ...] = ("throughput", "latency")
INSTANCES = 1000


def score(plan: Plan, objective: Objective) -> tuple[int, int]:
    bottleneck_ns, latency_ns = round(plan.bottleneck_ms * 1e6), round(plan.latency_ms * 1e6)
    if objective == "latency":
        return (latency_ns, len(plan.stages))
    return (bottleneck_ns, latency_ns)


def replica_sets(
    devices: tuple[Device, ...], count: int, most: int
) -> Iterator[tuple[tuple[Device, ...], ...]]:
    """Yield every assignment of ``count`` stages to disjoint sets of up to ``most`` boards."""
    if not count:
        yield ()
        return
    for size in range(1, min(most, len(devices) - count + 1) + 1):
        for replica_set in combinations(devices, size):
            left = tuple(device for device in devices if device not in replica_set)
            for others in replica_sets(left, count - 1, most):
                yield (replica_set, *others)


def sets_of_stages(
    devices: tuple[Device, ...], count: int, most: int, earlier: tuple[tuple[Device, ...], ...] = ()
) -> Iterator[tuple[tuple[Device, ...], ...]]:
    """Yield the same as :func:`replica_sets`, and also sets of boards that serve several stages.

    Neighbouring stages on the same boards are one stage. ``earlier`` has the sets of the stages
    before, the set of the last stage at its end.
    """
    if not count:
        yield ()
        return
    unused = [device for device in devices if not any(device in boards for boards in earlier)]
    new = [boards for size in range(1, min(most, len(unused)) + 1)
           for boards in combinations(unused, size)]  # fmt: skip
    for boards in (*earlier[:-1], *new):
        known = (*(before for before in earlier if before != boards), boards)
        for others in sets_of_stages(devices, count - 1, most, known):
            yield (boards, *others)


class Tried(NamedTuple):
    """A feasible plan, with period and latency as this test computes them."""

    bottleneck_ns: int
    latency_ns: int
    boards: tuple[tuple[Device, ...], ...]
    cuts: tuple[int, ...]

    @property
    def shares_boards(self) -> bool:
        return len(set(self.boards)) < len(self.boards)

    @property
    def latency_ms(self) -> float:
        return self.latency_ns / 1e6

    @property
    def throughput_per_s(self) -> float:
        return 1000 / (self.bottleneck_ns / 1e6)

    def score(self, objective: Objective) -> tuple[int, int]:
        if objective == "latency":
            return (self.latency_ns, len(self.boards))
        return (self.bottleneck_ns, self.latency_ns)

    def plan(self, graph: Graph) -> Plan:
        ends = (0, *self.cuts, len(graph.operators))
        return evaluate(Plan.of(graph, list(zip(self.boards, ends[:-1], ends[1:], strict=True))))


def all_plans(
    graph: Graph,
    fleet: Fleet,
    *,
    most: int = 9,
    cuts: tuple[int, ...] | None = None,
    shared: bool = True,
) -> Iterator[Tried]:
    """Yield every feasible plan: each replica set for each stage, in each order, with all cuts."""
    most_stages = len(graph.cuts) + 1 if shared else len(fleet.devices)
    counts = range(1, most_stages + 1) if cuts is None else [len(cuts) + 1]
    tried = _evaluator(graph, fleet)
    for count in counts:
        chosen = list((sets_of_stages if shared else replica_sets)(fleet.devices, count, most))
        for places in combinations(graph.cuts, count - 1) if cuts is None else [cuts]:
            for boards in chosen:
                plan = tried(boards, places)
                if plan is not None:
                    yield plan


def _evaluator(
    graph: Graph, fleet: Fleet
) -> Callable[[tuple[tuple[Device, ...], ...], tuple[int, ...]], Tried | None]:
    """Return a function that computes a plan's figures: None for a plan that does not fit."""

    @cache
    def stage(name: str, start: int, stop: int) -> tuple[int, int, int, int]:
        """Nanoseconds of period and latency; bytes of memory without the agent, and of storage."""
        device = next(device for device in fleet.devices if device.name == name)
        cost = stage_cost(graph, device, start, stop)
        period_ns, latency_ns = round(cost.bottleneck_ms * 1e6), round(cost.latency_ms * 1e6)
        return period_ns, latency_ns, cost.ram_bytes - AGENT_RAM_BYTES, cost.storage_bytes

    @cache
    def period_ns(boards: tuple[Device, ...], steps: tuple[tuple[int, int], ...]) -> int | None:
        """The period of boards that serve the given stages; None if these do not fit."""
        rate = Fraction(0)
        for board in boards:
            figures = [stage(board.name, *step) for step in steps]
            busy_ns, _, ram, storage = (sum(column) for column in zip(*figures, strict=True))
            if ram + AGENT_RAM_BYTES > board.ram_mib * MIB or storage > board.storage_mib * MIB:
                return None
            rate += Fraction(1, busy_ns)
        if len(boards) > 1 and any(graph.keeps_state(*step) for step in steps):
            return None
        return math.ceil(1 / rate)

    def tried(boards: tuple[tuple[Device, ...], ...], cuts: tuple[int, ...]) -> Tried | None:
        ends = (0, *cuts, len(graph.operators))
        steps: dict[tuple[Device, ...], tuple[tuple[int, int], ...]] = {}
        for index, replica_set in enumerate(boards):
            step = (ends[index], ends[index + 1])
            steps[replica_set] = (*steps.get(replica_set, ()), step)
        periods = [period_ns(replica_set, of) for replica_set, of in steps.items()]
        if None in periods:
            return None
        latency_ns = sum(
            max(stage(board.name, *step)[1] for board in replica_set)
            for replica_set, of in steps.items()
            for step in of
        )
        return Tried(max(filter(None, periods)), latency_ns, boards, cuts)

    return tried


def planned(graph: Graph, fleet: Fleet, objective: Objective, **request: Any) -> Plan | None:
    try:
        return plan_split(graph, fleet, objective, **request)
    except (InfeasiblePlanError, LimitError):
        return None


def lower_bound_ns(graph: Graph, fleet: Fleet) -> int:
    """Return the bound on the period that the planner computes without a search."""
    positions = (0, *graph.cuts, len(graph.operators))
    busy = np.full((len(fleet.devices), len(positions), len(positions)), FORBIDDEN)
    for kind, device in enumerate(fleet.devices):
        for row, start in enumerate(positions):
            for column, stop in enumerate(positions[row + 1 :], row + 1):
                cost = stage_cost(graph, device, start, stop)
                if (
                    cost.ram_bytes <= device.ram_mib * MIB
                    and cost.storage_bytes <= device.storage_mib * MIB
                ):
                    busy[kind, row, column] = round(cost.bottleneck_ms * 1e6)
    boards = np.ones(len(busy), np.int64)
    return bound_period(Problem(busy, busy, boards, len(busy)))[0]


def instance(seed: int) -> tuple[random.Random, Graph, Fleet]:
    rng = seeded(seed)
    graph = random_graph(rng, rng.randint(1, 5))
    ram_mib = rng.choice([(56, 85), (70, 140), (500, 900)])
    return rng, graph, random_fleet(rng, rng.choice([1, 2, 3, 3, 4]), ram_mib=ram_mib)


@pytest.mark.slow
def test_no_plan_beats_the_planner_on_random_models_and_fleets() -> None:
    """Compare the planner with exhaustive search: models with branches, replicas, limits."""
    seen: Counter[str] = Counter()
    for seed in range(INSTANCES):
        rng, graph, fleet = instance(seed)
        plans = list(all_plans(graph, fleet))
        for objective in OBJECTIVES:
            found = planned(graph, fleet, objective, max_replicas=9)
            if not plans:
                assert found is None, seed
                seen["infeasible"] += 1
                continue
            assert found is not None, seed
            best = min(plan.score(objective) for plan in plans)
            assert score(found, objective)[0] == best[0], (seed, str(found))
            apart = [plan.score(objective) for plan in plans if not plan.shares_boards]
            if min(apart, default=best)[0] == best[0]:
                assert score(found, objective) == min(apart), (seed, str(found))
            else:
                seen[f"two stages on a board are strictly better for {objective}"] += 1
                assert found.boards < sum(len(stage.devices) for stage in found.stages)
            assert found.gap == 0
            again = evaluate(found)
            assert (again.stages, again.wires) == (found.stages, found.wires)
            tried = rng.choice(plans)
            assert score(tried.plan(graph), objective) == tried.score(objective)
            seen[f"{objective} on {found.boards}"] += 1
            seen["replicas"] += any(len(stage.devices) > 1 for stage in found.stages)
            # The same request with a limit on the other objective that at least one plan meets.
            other = rng.choice(plans)
            if objective == "throughput":
                limit = {"max_latency_ms": other.latency_ms}
                kept = [plan for plan in plans if plan.latency_ms <= other.latency_ms]
            else:
                limit = {"min_throughput_per_s": other.throughput_per_s}
                kept = [plan for plan in plans if plan.bottleneck_ns <= other.bottleneck_ns]
            limited = planned(graph, fleet, objective, max_replicas=9, **limit)
            assert limited is not None, (seed, limit)
            assert limited.latency_ms <= limit.get("max_latency_ms", math.inf)
            assert limited.throughput_per_s >= limit.get("min_throughput_per_s", 0)
            best_kept = min(plan.score(objective) for plan in kept)
            assert score(limited, objective)[0] == best_kept[0], (seed, limit)
            seen["limits bind"] += score(limited, objective)[0] > best[0]
    # Each case occurs often enough for the comparison to fail.
    assert seen["infeasible"] > 100
    assert seen["limits bind"] > 50
    assert seen["replicas"] > 100
    assert seen["two stages on a board are strictly better for throughput"] > 3, seen
    assert min(seen[f"throughput on {count}"] for count in (1, 2, 3, 4)) > 20
    assert min(seen[f"latency on {count}"] for count in (1, 2)) > 20


def test_without_replicas_no_plan_with_two_stages_on_a_board_beats_the_planner() -> None:
    better = 0
    for seed in range(200):
        rng = seeded(11_000 + seed)
        graph = random_graph(rng, rng.choice([5, 6]))
        fleet = random_fleet(rng, rng.choice([2, 3]), ram_mib=rng.choice([(75, 110), (500, 900)]))
        plans = list(all_plans(graph, fleet, most=1))
        found = planned(graph, fleet, "throughput", max_replicas=1)
        assert (found is None) == (not plans), seed
        if found is None:
            continue
        assert score(found, "throughput")[0] == min(plan.bottleneck_ns for plan in plans), seed
        assert found.gap == 0
        apart = min((p.bottleneck_ns for p in plans if not p.shares_boards), default=0)
        better += score(found, "throughput")[0] < apart
    assert better > 10, better


def test_a_fast_board_without_memory_for_the_middle_runs_both_ends_for_a_low_latency() -> None:
    graph = random_graph(seeded(4), 3)
    heavy = replace(graph.operators[1], weight_bytes=300 * MIB, macs=1_000_000)
    tensors = tuple(
        replace(tensor, size_bytes=300 * MIB) if tensor.index == heavy.constants[0] else tensor
        for tensor in graph.tensors
    )
    operators = tuple(replace(operator, macs=2_000_000_000) for operator in graph.operators)
    operators = (operators[0], heavy, operators[2])
    graph = replace(graph, operators=operators, tensors=tensors, cuts=(1, 2))
    fast = Device("fast", None, 150, 1e4, 20, 4, 900.0, 0.2)
    large = Device("large", None, 1000, 1e4, 1, 4, 900.0, 0.2)
    fleet = Fleet((fast, large))
    for objective in OBJECTIVES:
        plan = plan_split(graph, fleet, objective)
        assert [stage.board_names for stage in plan.stages] == ["fast", "large", "fast"]
        assert (plan.boards, plan.gap, plan.unused) == (2, 0, ())
        best = min(tried.score(objective) for tried in all_plans(graph, fleet))
        assert score(plan, objective) == best
        apart = plan_split(graph, fleet, objective, shared_boards=False)
        assert apart.score > plan.score * 1.2
        assert evaluate(plan).bottleneck_ms == plan.bottleneck_ms
    # The agent's own memory counts once for both stages.
    stages = plan_split(graph, fleet).stages
    both = stages[0].cost.ram_bytes + stages[2].cost.ram_bytes - AGENT_RAM_BYTES
    just = Fleet((replace(fast, ram_mib=both / MIB), large))
    assert [stage.board_names for stage in plan_split(graph, just).stages] == [
        "fast", "large", "fast"
    ]  # fmt: skip
    less = Fleet((replace(fast, ram_mib=both / MIB - 0.001), large))
    assert len(plan_split(graph, less).stages) < 3
    placements = [((fast,), 0, 1), ((large,), 1, 2), ((less.devices[0],), 2, 3)]
    with pytest.raises(InfeasiblePlanError, match="fast needs"):
        evaluate(Plan.of(graph, [((less.devices[0],), 0, 1), *placements[1:]]))


def test_stages_share_all_of_their_boards_or_none() -> None:
    graph = replace(random_graph(seeded(4), 3), cuts=(1, 2))
    one, two = Device("one"), Device("two")
    with pytest.raises(PlanRequestError, match="no board in common"):
        Plan.of(graph, [((one, two), 0, 1), ((one,), 1, 3)])
    with pytest.raises(PlanRequestError, match="at least one board, and no board twice"):
        Plan.of(graph, [((one, one), 0, 3)])
    plan = Plan.of(graph, [((one, two), 0, 1), ((Device("three"),), 1, 2), ((two, one), 2, 3)])
    assert plan.boards == 3
    assert plan.period_ms(0) == plan.period_ms(2)
    assert plan.period_ms(0) > max(plan.stages[0].bottleneck_ms, plan.stages[2].bottleneck_ms)


def test_a_stage_with_state_is_on_one_board_and_no_feasible_plan_beats_the_planner() -> None:
    seen: Counter[str] = Counter()
    for seed in range(300):
        rng, graph, fleet = instance(7000 + seed)
        free = planned(graph, fleet, "throughput", max_replicas=9)
        graph = replace(
            graph,
            stateful=frozenset(
                rng.sample(range(len(graph.operators)), rng.randint(1, 1 + len(graph.cuts) // 3))
            ),
        )
        plans = list(all_plans(graph, fleet))
        for objective in OBJECTIVES:
            found = planned(graph, fleet, objective, max_replicas=9)
            assert (found is None) == (not plans), seed
            if found is None:
                continue
            best = min(plan.score(objective) for plan in plans)
            reached = score(found, objective)
            assert reached[0] == best[0], (seed, str(found))
            # The lowest latency among the plans with the least period is what a short search finds.
            seen["as quick"] += reached == best
            seen["compared"] += 1
            assert found.gap == 0
            for stage in found.stages:
                assert len(stage.devices) == 1 or not graph.keeps_state(stage.start, stage.stop)
            other = rng.choice(plans)
            if objective == "throughput":
                limited = planned(
                    graph, fleet, objective, max_replicas=9, max_latency_ms=other.latency_ms
                )
                kept = [plan for plan in plans if plan.latency_ms <= other.latency_ms]
                assert limited is not None
                assert score(limited, objective)[0] == min(p.bottleneck_ns for p in kept), seed
            seen["some stages have replicas"] += found.boards > len(found.stages)
            seen["state lengthens the period"] += (
                objective == "throughput"
                and free is not None
                and score(found, objective)[0] > score(free, objective)[0]
            )
    # Each case occurs often enough for the comparison to fail.
    assert seen["as quick"] > 0.98 * seen["compared"]
    assert min(seen.values()) > 20, seen


def test_the_error_for_an_infeasible_limit_gives_the_best_value() -> None:
    refused = 0
    for seed in range(60):
        _, graph, fleet = instance(seed)
        plans = list(all_plans(graph, fleet))
        if not plans:
            continue
        quickest = min(plan.latency_ms for plan in plans)
        with pytest.raises(LimitError, match="the lowest latency is") as caught:
            plan_split(graph, fleet, max_replicas=9, max_latency_ms=quickest * 0.99)
        assert caught.value.best is not None
        assert caught.value.best.latency_ms == quickest
        most = max(plan.throughput_per_s for plan in plans)
        with pytest.raises(LimitError, match="the highest throughput is") as caught:
            plan_split(graph, fleet, "latency", max_replicas=9, min_throughput_per_s=most * 1.01)
        assert caught.value.best is not None
        assert caught.value.best.throughput_per_s == most
        refused += 1
    assert refused > 30


def test_a_given_number_of_stages_gets_the_best_plan_with_one_board_per_stage() -> None:
    compared = 0
    for seed in range(200):
        _, graph, fleet = instance(2000 + seed)
        plans = list(all_plans(graph, fleet, most=1, shared=False))
        for count in range(1, min(len(fleet.devices), len(graph.cuts) + 1) + 1):
            exact = [plan for plan in plans if len(plan.boards) == count]
            for objective in OBJECTIVES:
                chosen = planned(graph, fleet, objective, stages=count)
                assert (chosen is None) == (not exact), seed
                if chosen is not None:
                    assert (len(chosen.stages), chosen.boards) == (count, count)
                    best = min(plan.score(objective)[0] for plan in exact)
                    assert score(chosen, objective)[0] == best, seed
                    compared += 1
    assert compared > 200


def test_a_plan_with_given_cuts_has_the_best_boards_for_these_cuts() -> None:
    compared = 0
    for seed in range(60):
        rng = seeded(1000 + seed)
        graph = random_graph(rng, 7)
        fleet = random_fleet(rng, 4, ram_mib=(70, 150))
        cuts = tuple(sorted(rng.sample(graph.cuts, min(2, len(graph.cuts)))))
        plans = list(all_plans(graph, fleet, most=1, cuts=cuts, shared=False))
        for objective in OBJECTIVES:
            found = planned(graph, fleet, objective, cuts=cuts)
            assert (found is None) == (not plans)
            if found is not None:
                assert found.cuts == cuts
                best = min(plan.score(objective)[0] for plan in plans)
                assert score(found, objective)[0] == best
                compared += 1
    assert compared > 30


def test_a_board_with_role_first_runs_the_first_stage_of_the_best_such_plan() -> None:
    compared = 0
    for seed in range(150):
        rng, graph, fleet = instance(3000 + seed)
        first = rng.randrange(len(fleet.devices))
        devices = tuple(
            replace(device, role="first" if index == first else "any", ram_mib=400.0)
            for index, device in enumerate(fleet.devices)
        )
        pinned = Fleet(devices)
        plans = [
            plan
            for plan in all_plans(graph, pinned)
            if [device.name for device in plan.boards[0]] == [devices[first].name]
            and plan.boards[0] not in plan.boards[1:]
        ]
        for objective in OBJECTIVES:
            found = planned(graph, pinned, objective, max_replicas=9)
            assert (found is None) == (not plans)
            if found is not None:
                assert [board.role for board in found.stages[0].devices] == ["first"]
                best = min(plan.score(objective)[0] for plan in plans)
                assert score(found, objective)[0] == best, seed
                compared += len(devices) > 1
    assert compared > 100


def test_boards_with_roles_first_and_last_need_a_cut_between_them() -> None:
    graph = replace(random_graph(seeded(4), 6), cuts=(3,))
    first, last = Device("eye", role="first"), Device("hand", role="last")
    plan = plan_split(graph, Fleet((last, first)), "latency")
    assert [stage.board_names for stage in plan.stages] == ["eye", "hand"]
    with pytest.raises(PlanRequestError, match="cannot be split with the boards' roles"):
        plan_split(replace(graph, cuts=()), Fleet((last, first)))


def test_auto_sends_float16_only_where_float16_makes_the_plan_better() -> None:
    narrowed = kept = 0
    for seed in range(60):
        rng = seeded(4000 + seed)
        graph = random_graph(rng, 8)
        devices = random_fleet(rng, 3, ram_mib=(500, 900)).devices
        fleet = Fleet(tuple(replace(device, storage_mib=1024) for device in devices))
        for objective in OBJECTIVES:
            plans = {
                wire: plan_split(graph, fleet, objective, wire=wire, stages=3)
                for wire in ("float32", "float16", "auto")
            }
            auto = plans["auto"]
            assert auto.score == plans["float16"].score
            kept += auto.wires.count("float32")
            if auto.score == plans["float32"].score:
                assert set(auto.wires) == {"float32"}
            for index in range(len(auto.wires)):
                if auto.wires[index] == "float16":
                    narrowed += 1
                    wires = list(auto.wires)
                    wires[index] = "float32"
                    wider = Plan.of(graph, auto.placements, wires=wires, objective=objective)
                    assert wider.score > auto.score
    assert narrowed > 20
    assert kept > 5


def test_the_fast_feasibility_test_never_contradicts_the_exact_one() -> None:
    """Compare the fast feasibility test with the exact one."""
    answers: Counter[str] = Counter()
    for seed in range(40):
        rng = seeded(5000 + seed)
        nodes, kinds = rng.randint(5, 25), rng.randint(1, 6)
        numbers = np.random.default_rng(seed)
        forward = np.triu(np.ones((nodes, nodes), bool), 1)
        busy = np.where(
            forward & (numbers.random((kinds, nodes, nodes)) < 0.8),
            numbers.integers(1, 100, (kinds, nodes, nodes)),
            FORBIDDEN,
        )
        capacity = numbers.integers(1, 3, kinds)
        no_replicas = None if seed % 2 else numbers.random((nodes, nodes)) < 0.5
        problem = Problem(busy, busy, capacity, rng.randint(1, 3), no_replicas=no_replicas)
        search = MaxReachSearch(problem)
        for period in range(1, 100, 7):
            exact = find_route(problem, period)
            quick = search.find_route(period)
            answers[quick.name if isinstance(quick, SearchStatus) else "route"] += 1
            if exact is not None:
                assert problem.is_feasible(exact)
                assert problem.period_of(exact) <= period
                assert quick is not SearchStatus.INFEASIBLE
            if not isinstance(quick, SearchStatus):
                assert exact is not None
                assert problem.is_feasible(quick)
                assert problem.period_of(quick) <= period
    assert min(answers[name] for name in ("route", "INFEASIBLE", "UNKNOWN")) > 10


def test_a_plan_for_a_thousand_boards_uses_them_and_is_close_to_the_bound() -> None:
    graph = random_graph(seeded(5), 120)
    kinds = random_fleet(seeded(6), 8, ram_mib=(200, 600)).devices
    fleet = Fleet(tuple(replace(kinds[index % 8], name=f"board-{index}") for index in range(1000)))
    for objective in OBJECTIVES:
        plan = plan_split(graph, fleet, objective)
        assert plan.bound is not None
        assert plan.bound <= plan.score
        few = plan_split(graph, Fleet(fleet.devices[:16]), objective)
        if objective == "latency":
            assert plan.gap == 0
            assert plan.score <= few.score
        else:
            # 62.5 times the boards of each kind serve about 62.5 times the requests.
            assert plan.gap < 0.06
            assert plan.boards > 900
            assert plan.score < few.score / 55


def test_replicas_serve_the_sum_of_what_their_boards_serve() -> None:
    graph = random_graph(seeded(3), 40)
    boards = tuple(
        Device(f"board-{speed}", None, 1e5, 1e5, speed, 4, 20_000.0, 0.1) for speed in (3, 6, 12)
    )
    plan = plan_split(graph, Fleet(boards))
    alone = [plan_split(graph, Fleet((board,))).throughput_per_s for board in boards]
    assert plan.boards == 3
    assert plan.throughput_per_s >= sum(alone) * (1 - 1e-6)
    assert plan_split(graph, Fleet(boards), shared_boards=False).gap == 0
    # The latency that the plan promises is that of the slowest board.
    whole = evaluate(Plan.of(graph, [(boards, 0, 40)]))
    slowest = evaluate(Plan.of(graph, [(boards[:1], 0, 40)]))
    assert whole.latency_ms == slowest.latency_ms


def test_the_exact_period_of_replicas_is_a_rounded_fraction() -> None:
    assert shared_period_ns([6, 3]) == 2
    assert shared_period_ns([7, 3]) == 3
    assert shared_period_ns([9, 9, 9]) == 3
    assert shared_period_ns([10, 10, 10]) == 4
    assert shared_period_ns([5]) == 5
    forbidden = np.array([[[FORBIDDEN, 6]], [[FORBIDDEN, 3]], [[FORBIDDEN, 7]]])
    problem = Problem(forbidden, forbidden, np.array([1, 1, 1]), 3)
    # 2/6 + 2/3 is exactly 1, although the sum of these floating-point numbers may not be.
    assert problem.meets((0, 1), 2)[0, 1]
    assert not problem.meets((1, 2), 2)[0, 1]
    assert problem.meets((1, 2), 3)[0, 1]


def test_more_boards_than_the_exact_search_can_handle_are_within_the_bound() -> None:
    """Compare plans for many unequal boards with the bound and with plans with few replicas."""
    for seed in range(12):
        rng = seeded(8000 + seed)
        graph = random_graph(rng, 30)
        fleet = random_fleet(rng, 14, ram_mib=(90, 300))
        plan = planned(graph, fleet, "throughput")
        few = planned(graph, fleet, "throughput", max_replicas=2)
        assert (plan is None) == (few is None)
        if plan is None or few is None:
            continue
        again = evaluate(plan)
        assert again.stages == plan.stages
        assert plan.bound is not None
        assert plan.bound <= plan.bottleneck_ms <= few.bottleneck_ms
        limit = plan.throughput_per_s
        limited = plan_split(graph, fleet, "latency", min_throughput_per_s=limit)
        assert limited.throughput_per_s >= limit
        assert limited.latency_ms <= plan.latency_ms
        assert limited.bound is not None
        assert limited.bound <= limited.latency_ms


def test_the_bound_on_the_period_holds_for_every_plan() -> None:
    close = 0
    for seed in range(150):
        _, graph, fleet = instance(9000 + seed)
        plans = list(all_plans(graph, fleet))
        if not plans:
            continue
        kinds = {replace(device, name="") for device in fleet.devices}
        best_ns = min(plan.bottleneck_ns for plan in plans)
        bound_ns = lower_bound_ns(graph, fleet)
        assert 0 < bound_ns <= best_ns, seed
        close += bound_ns > best_ns * 0.9 and len(kinds) > 1
    assert close > 10


def test_the_same_request_gives_the_same_plan() -> None:
    rng = seeded(7)
    graph = random_graph(rng, 30)
    fleet = random_fleet(rng, 6, ram_mib=(100, 400))
    assert plan_split(graph, fleet) == plan_split(graph, fleet)


def test_equal_boards_share_the_work() -> None:
    graph = random_graph(seeded(3), 40)
    plan = plan_split(graph, equal_fleet(4), max_replicas=1)
    assert [stage.board_names for stage in plan.stages] == [f"board-{i}" for i in range(4)]
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


def test_the_plan_for_eight_unequal_boards_is_near_the_lower_bound_of_the_period() -> None:
    rng = seeded(5)
    graph = random_graph(rng, 200)
    devices = tuple(
        Device(f"board-{i}", None, 700 + 10 * i, 1e5, 3 + i, 4, 20_000.0, 0.1) for i in range(8)
    )
    plan = plan_split(graph, Fleet(devices))
    total_speed = sum(device.speed_gmac_s for device in devices)
    alone = evaluate(Plan.of(graph, [((replace(devices[0], ram_mib=1e6),), 0, 200)]))
    # Lower bound of the period: all boards share the inference perfectly, and links take no time.
    assert plan.bottleneck_ms >= alone.stages[0].cost.invoke_ms * 3 / total_speed
    assert plan.bottleneck_ms < alone.stages[0].cost.invoke_ms * 3 / total_speed * 1.2


def test_a_plan_over_several_boards_has_a_single_board_alternative() -> None:
    graph = random_graph(seeded(3), 10)
    plan = plan_split(graph, equal_fleet(3), "latency", stages=3)
    single = plan.single_board_alternative
    assert single is not None
    assert len(single.stages) == 1
    assert single.latency_ms < plan.latency_ms
    assert plan_split(graph, equal_fleet(3), "latency").single_board_alternative is None


def test_the_error_for_too_little_memory_names_board_stage_and_shortfall() -> None:
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


def test_the_error_for_too_little_storage_names_storage() -> None:
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


def test_a_fleet_without_boards_is_refused() -> None:
    with pytest.raises(PlanRequestError, match="no boards"):
        plan_split(random_graph(seeded(4), 8), Fleet(()))
