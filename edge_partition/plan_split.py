"""Graph x Fleet x objective -> Plan: the best contiguous split, its boards and their order.

A plan is a row of stages, each a range of operators on a board of its own. Two objectives:

``throughput``
    The slowest resource sets the pace. A stage takes the larger of its inference and its link time
    (in and out), for the agent's network thread and inference thread overlap. The largest of these
    is to be least; among equals the lower latency wins, then the fewer boards.
``latency``
    A lone request passes each stage's link in, its inference and its link out, one after another:
    the client's inputs over the first board's link, each boundary over the sender's and the
    receiver's, the result over the last board's. The sum is to be least; then the fewer boards.

Plans on fewer boards than there are, one board included, are candidates. The optimum is exact, by
:mod:`edge_partition.search_split`, with times in whole nanoseconds: :func:`evaluate` lets anybody
check it against other plans.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from broker_config.errors import EdgePartitionError
from edge_partition.cost_model import MIB, StageCost, StageTable, stage_cost
from edge_partition.search_split import (
    FORBIDDEN,
    Arc,
    IntArray,
    Route,
    find_cheapest_path,
    find_least_bottleneck,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_partition.fleet import Device, Fleet
    from edge_partition.graph import Graph, Wire
    from edge_partition.stage_times import StageTimes

Objective: TypeAlias = Literal["throughput", "latency"]

#: A latency in nanoseconds times this, plus 1 a stage: least latency first, then fewest boards.
_TIE = 1 << 12


class PlanRequestError(EdgePartitionError):
    """The number of stages or the cuts asked for do not fit the model or the fleet."""


class InfeasiblePlanError(EdgePartitionError):
    """No split fits the boards. The facts are those of the split that comes nearest to fitting.

    Attributes:
        device: Name of the board that is shortest of memory or storage.
        limit: What it is short of: ``RAM`` or ``storage``.
        start: First operator of its stage.
        stop: The position after its last operator.
        needed_bytes: What the stage needs.
        available_bytes: What the board has.
    """

    def __init__(self, graph: Graph, nearest: Sequence[PlannedStage]) -> None:
        stage, self.limit, self.needed_bytes, self.available_bytes = max(
            (
                (stage, limit, needed_bytes, available_bytes)
                for stage in nearest
                for limit, needed_bytes, available_bytes in stage.limits()
            ),
            key=lambda found: found[2] - found[3],
        )
        self.device, self.start, self.stop = stage.device.name, stage.start, stage.stop
        field = "ram_mib" if self.limit == "RAM" else "storage_mib"
        super().__init__(
            f"No split of {graph.name} fits the boards. In the one that comes nearest, on "
            f"{len(nearest)} board{'s' * (len(nearest) > 1)}, {self.device} needs "
            f"{_mib(self.needed_bytes)} MiB of {self.limit} for operators [{self.start}, "
            f"{self.stop}) and has {_mib(self.available_bytes)} MiB: short by "
            f"{_mib(self.needed_bytes - self.available_bytes)} MiB. Raise {field}, add a board, or "
            "quantize the model."
        )


@dataclass(frozen=True)
class PlannedStage:
    """Operators ``[start, stop)`` on a board, and what they cost it."""

    device: Device
    start: int
    stop: int
    cost: StageCost

    def limits(self) -> tuple[tuple[str, int, float], ...]:
        """Return each limit's name, the bytes needed and the bytes available."""
        return (
            ("RAM", self.cost.ram_bytes, self.device.ram_mib * MIB),
            ("storage", self.cost.storage_bytes, self.device.storage_mib * MIB),
        )

    @property
    def fits(self) -> bool:
        """Whether the board has the memory and the storage."""
        return all(needed_bytes <= available for _, needed_bytes, available in self.limits())

    def __str__(self) -> str:
        cost = self.cost
        return (
            f"{self.device.name}: operators [{self.start}, {self.stop}), "
            f"invoke {cost.invoke_ms:.1f} ms, link {cost.link_ms:.1f} ms, "
            f"RAM {_mib(cost.ram_bytes)} MiB"
        )


@dataclass(frozen=True)
class Plan:
    """A model's stages on their boards.

    Attributes:
        objective: What the plan is the best for.
        graph_name: The model.
        stages: In order; together they cover all operators.
        wire: As what float32 activations travel between the stages.
        single_board_alternative: The best plan that leaves the whole model on one board, if there
            is a board that holds it and this plan uses several. It may well be the better one
            for the other objective, or where the number of stages was given.
    """

    objective: Objective
    graph_name: str
    stages: tuple[PlannedStage, ...]
    single_board_alternative: Plan | None = None
    wire: Wire = "float32"

    @property
    def cuts(self) -> tuple[int, ...]:
        """The positions where the model is cut."""
        return tuple(stage.start for stage in self.stages[1:])

    @property
    def latency_ms(self) -> float:
        """Milliseconds from a lone request's inputs to its result."""
        return round(sum(stage.cost.latency_ms for stage in self.stages), 6)

    @property
    def slowest_stage(self) -> int:
        """The index of the first stage that sets the pace."""
        return max(range(len(self.stages)), key=lambda index: self.stages[index].cost.bottleneck_ms)

    @property
    def bottleneck_ms(self) -> float:
        """Milliseconds between results at full load."""
        return self.stages[self.slowest_stage].cost.bottleneck_ms

    @property
    def throughput_per_s(self) -> float:
        """Results a second at full load."""
        return 1000 / self.bottleneck_ms

    def __str__(self) -> str:
        head = (
            f"{self.graph_name} on {len(self.stages)} board{'s' * (len(self.stages) > 1)}: "
            f"{self.throughput_per_s:.1f} results/s, latency {self.latency_ms:.1f} ms"
        )
        return "\n  ".join((head, *map(str, self.stages)))


def plan_split(
    graph: Graph,
    fleet: Fleet,
    objective: Objective = "throughput",
    *,
    stages: int | None = None,
    cuts: Sequence[int] | None = None,
) -> Plan:
    """Return the best plan there is.

    Args:
        graph: The model.
        fleet: The boards it may use, each for one stage at most.
        objective: What to optimise; see the module's text.
        stages: Use exactly so many boards; ``None`` for as many as are best.
        cuts: Cut exactly at these positions, ascending; only the boards are chosen.

    Raises:
        PlanRequestError: ``stages`` or ``cuts`` ask for more than the model or the fleet has.
        InfeasiblePlanError: No split fits the boards' memory and storage.
    """
    stages = _check_request(graph, fleet, stages, cuts)
    between = graph.cuts if cuts is None else cuts
    table = StageTable.of(graph, (0, *between, len(graph.operators)))
    kinds = _group_equal(fleet.devices)
    capacity = np.array([len(kind) for kind in kinds], np.int64)
    costs = _Costs.of(table, [kind[0] for kind in kinds])
    path = _best_path(costs, capacity, objective, stages)
    if path is None:
        nearest = find_least_bottleneck(costs.excess_bytes, capacity, stages=stages)
        # Without limits there is always a split: the request was checked against both sizes.
        raise InfeasiblePlanError(graph, _stages_of(graph, table, kinds, nearest or ()))
    plan = Plan(objective, graph.name, _stages_of(graph, table, kinds, path), wire=graph.wire)
    if len(path) == 1:
        return plan
    alone = _best_path(costs, capacity, objective, 1)
    if alone is None:
        return plan
    single = Plan(objective, graph.name, _stages_of(graph, table, kinds, alone))
    return replace(plan, single_board_alternative=single)


def evaluate(
    graph: Graph,
    devices: Sequence[Device],
    cuts: Sequence[int],
    objective: Objective = "throughput",
) -> Plan:
    """Return the plan that cuts at ``cuts`` and puts the parts on ``devices``, in that order.

    Raises:
        PlanRequestError: The cuts are not the graph's, or do not make one part a device.
        InfeasiblePlanError: A part does not fit its board.
    """
    _check_cuts(graph, cuts)
    if len(devices) != len(cuts) + 1:
        raise PlanRequestError(
            f"{len(cuts)} cuts make {len(cuts) + 1} parts; expected as many boards, not "
            f"{len(devices)}."
        )
    ends = (0, *cuts, len(graph.operators))
    stages = tuple(
        PlannedStage(device, start, stop, stage_cost(graph, device, start, stop))
        for device, start, stop in zip(devices, ends, ends[1:], strict=False)
    )
    if not all(stage.fits for stage in stages):
        raise InfeasiblePlanError(graph, stages)
    return Plan(objective, graph.name, stages, wire=graph.wire)


@dataclass(frozen=True)
class _Costs:
    """Each ``(kinds, n, n)``: of the stage from one position to another on a kind of board.

    Attributes:
        latency: Nanoseconds and a stage's share of the tie-break; FORBIDDEN where it doesn't fit.
        bottleneck_ns: FORBIDDEN where it doesn't fit.
        excess_bytes: By how much memory or storage it doesn't fit; 0 where it does.
    """

    latency: IntArray
    bottleneck_ns: IntArray
    excess_bytes: IntArray

    @classmethod
    def of(cls, table: StageTable, devices: Sequence[Device]) -> _Costs:
        forward = table.positions[:, None] < table.positions
        latency, bottleneck_ns, excess_bytes = [], [], []
        for device in devices:
            invoke_ns, link_ns = table.invoke_ns(device), table.link_ns(device)
            excess = np.maximum(
                table.ram_bytes - device.ram_mib * MIB,
                table.storage_bytes - device.storage_mib * MIB,
            )
            over = np.ceil(np.maximum(excess, 0)).astype(np.int64)
            fits = forward & (over == 0)
            latency.append(np.where(fits, (invoke_ns + link_ns) * _TIE + 1, FORBIDDEN))
            bottleneck_ns.append(np.where(fits, np.maximum(invoke_ns, link_ns), FORBIDDEN))
            excess_bytes.append(np.where(forward, over, FORBIDDEN))
        return cls(np.stack(latency), np.stack(bottleneck_ns), np.stack(excess_bytes))


def _best_path(
    costs: _Costs, capacity: IntArray, objective: Objective, stages: int | None
) -> Route | None:
    if objective == "latency":
        return find_cheapest_path(costs.latency, capacity, stages=stages)
    fastest = find_least_bottleneck(costs.bottleneck_ns, capacity, stages=stages)
    if fastest is None:
        return None
    pace_ns = max(costs.bottleneck_ns[arc.kind, arc.start, arc.stop] for arc in fastest)
    latency = np.where(costs.bottleneck_ns <= pace_ns, costs.latency, FORBIDDEN)
    return find_cheapest_path(latency, capacity, stages=stages, known=fastest)


def _group_equal(devices: Sequence[Device]) -> list[list[Device]]:
    """Return the boards by kind: those of one kind are the same to a plan."""
    kinds: dict[tuple[float | StageTimes | None, ...], list[Device]] = {}
    for device in devices:
        figures = (
            device.ram_mib,
            device.storage_mib,
            device.speed_gmac_s,
            device.link_mbit_s,
            device.link_ms,
            device.stage_times,
        )
        kinds.setdefault(figures, []).append(device)
    return list(kinds.values())


def _stages_of(
    graph: Graph, table: StageTable, kinds: list[list[Device]], path: Sequence[Arc]
) -> tuple[PlannedStage, ...]:
    free = [iter(kind) for kind in kinds]
    stages = []
    for arc in path:
        device = next(free[arc.kind])
        start, stop = int(table.positions[arc.start]), int(table.positions[arc.stop])
        stages.append(PlannedStage(device, start, stop, stage_cost(graph, device, start, stop)))
    return tuple(stages)


def _check_request(
    graph: Graph, fleet: Fleet, stages: int | None, cuts: Sequence[int] | None
) -> int | None:
    """Return how many stages there must be, or ``None`` for any number."""
    if cuts is not None:
        _check_cuts(graph, cuts)
        if stages is not None and stages != len(cuts) + 1:
            raise PlanRequestError(
                f"{len(cuts)} cuts make {len(cuts) + 1} stages, not {stages}. Give one or the "
                "other."
            )
        stages = len(cuts) + 1
    if stages is None:
        return None
    if stages < 1:
        raise PlanRequestError(f"{stages} stages were asked for; expected 1 or more.")
    if stages > len(graph.cuts) + 1:
        raise PlanRequestError(
            f"{graph.name} can be cut into at most {len(graph.cuts) + 1} parts; {stages} stages "
            "were asked for. Ask for fewer."
        )
    if stages > len(fleet.devices):
        raise PlanRequestError(
            f"{stages} stages need {stages} boards; the fleet has {len(fleet.devices)}. Add "
            "boards or ask for fewer stages."
        )
    return stages


def _check_cuts(graph: Graph, cuts: Sequence[int]) -> None:
    allowed = set(graph.cuts)
    for before, cut in zip((0, *cuts), cuts, strict=False):
        if cut not in allowed:
            raise PlanRequestError(
                f"{graph.name} cannot be cut at position {cut}. `edge-partition inspect` lists "
                "where it can."
            )
        if cut <= before:
            raise PlanRequestError(
                f"The cuts {list(cuts)} are not ascending. Give each position once, in order."
            )


def _mib(size_bytes: float) -> str:
    mib = size_bytes / MIB
    return f"{mib:.0f}" if mib >= 10 else f"{mib:.2g}"  # noqa: PLR2004
