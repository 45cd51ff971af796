"""A plan: the stages of a model, the boards that run each stage, and the stages' costs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from edge_core.errors import EdgePartitionError
from edge_partition.planning.cost_model import MIB, StageCost, stage_cost
from edge_partition.planning.shared_period import shared_period_ns
from edge_partition.planning.stage_memory import AGENT_RAM_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_partition.planning.fleet import Device
    from edge_partition.tflite.graph import Graph, Wire

Objective: TypeAlias = Literal["throughput", "latency", "energy"]

_NS_PER_MS = 1_000_000
_UJ_PER_J = 1_000_000
#: Largest number of changes that an error message lists. The message counts the other changes.
_MOST_NAMED = 4


class PlanRequestError(EdgePartitionError):
    """A request for a plan is not valid for the model and the fleet.

    For example, the request has more stages than the fleet has boards.
    """


class InfeasiblePlanError(EdgePartitionError):
    """No plan fits the memory and storage of the boards.

    The attributes describe the nearest plan: the plan that would fit after the smallest change of
    the fleet file.

    Attributes:
        device: Name of the board with the largest shortage in the nearest plan.
        limit: The resource that is short on this board: ``RAM`` or ``storage``.
        start: Index of the first operator of the board's stage.
        stop: Index of the last operator of the board's stage, plus 1.
        needed_bytes: Bytes of the resource that the board needs.
        available_bytes: Bytes of the resource that the board has.
        change: The smallest change of the fleet file that makes the nearest plan fit, as a text.
    """

    def __init__(self, graph: Graph, nearest: Sequence[PlannedStage]) -> None:
        short = sorted(
            (
                (stage, device, limit, needed_bytes, available_bytes)
                for stages in group_stages(nearest)
                for stage in stages[:1]
                for device, limit, needed_bytes, available_bytes in board_limits(stages)
                if needed_bytes > available_bytes
            ),
            key=lambda found: found[4] - found[3],
        )
        stage, device, self.limit, self.needed_bytes, self.available_bytes = short[0]
        self.device, self.start, self.stop = device.name, stage.start, stage.stop
        self.change = _smallest_change(
            [(device, limit, needed, had) for _, device, limit, needed, had in short]
        )
        super().__init__(
            f"No split of {graph.name} fits the boards. In the nearest split, on "
            f"{len(nearest)} board{'s' * (len(nearest) > 1)}, {self.device} needs "
            f"{_mib(self.needed_bytes)} MiB of {self.limit} for operators {self.start} to "
            f"{self.stop - 1} and has {_mib(self.available_bytes)} MiB: short by "
            f"{_mib(self.needed_bytes - self.available_bytes)} MiB. The smallest change of the "
            f"fleet file that fits: {self.change}. Or add a board, or quantize the model."
        )


@dataclass(frozen=True)
class PlannedStage:
    """A stage of a plan: operators ``[start, stop)``, the boards that run them, and the costs.

    Attributes:
        devices: One board, or several boards (replicas) that share the requests in proportion to
            their speed.
        start: Index of the first operator.
        stop: Index of the last operator, plus 1.
        costs: Cost of the stage on each of ``devices``.
    """

    devices: tuple[Device, ...]
    start: int
    stop: int
    costs: tuple[StageCost, ...]

    @property
    def cost(self) -> StageCost:
        """Cost of the stage on its slowest board: the board with the longest period."""
        return max(self.costs, key=lambda cost: cost.bottleneck_ms)

    @property
    def bottleneck_ms(self) -> float:
        """Time between two results of this stage at full load, in milliseconds.

        The rates of replicas add up. If the boards also run other stages, the time for the other
        stages does not count.
        """
        return group_period_ns([self]) / _NS_PER_MS

    @property
    def latency_ms(self) -> float:
        """Latency of one request on the stage's board with the longest latency, in milliseconds.

        The board serves no other request at the same time.
        """
        return max(cost.latency_ms for cost in self.costs)

    @property
    def energy_j(self) -> float | None:
        """Energy of one request without the boards' idle power, in joules.

        Only one of the replicas serves the request. The value is for the replica that uses the most
        energy. ``None`` if the power of a replica is not known.
        """
        energies = [cost.energy_j for cost in self.costs if cost.energy_j is not None]
        return max(energies) if len(energies) == len(self.costs) else None

    def cost_on(self, device: Device) -> StageCost:
        """Return the cost of the stage on one of its boards."""
        return next(
            cost
            for other, cost in zip(self.devices, self.costs, strict=True)
            if other.name == device.name
        )

    @property
    def board_names(self) -> str:
        """Names of the stage's boards, separated by commas."""
        return ", ".join(device.name for device in self.devices)

    def __str__(self) -> str:
        cost = self.cost
        return (
            f"{self.board_names}: operators [{self.start}, {self.stop}), "
            f"invoke {cost.invoke_ms:.1f} ms, handling {cost.handling_ms:.1f} ms, "
            f"link {cost.link_ms:.1f} ms, RAM {_mib(cost.ram_bytes)} MiB"
        )


def group_stages(stages: Sequence[PlannedStage]) -> tuple[tuple[PlannedStage, ...], ...]:
    """Return the stages in groups, one group for each set of boards."""
    groups: dict[tuple[str, ...], list[PlannedStage]] = {}
    for stage in stages:
        groups.setdefault(tuple(sorted(device.name for device in stage.devices)), []).append(stage)
    return tuple(map(tuple, groups.values()))


def board_limits(
    stages: Sequence[PlannedStage],
) -> tuple[tuple[Device, str, int, float], ...]:
    """Return the RAM and the storage that each board of a set needs and has.

    A board needs the memory of all of its stages, and the agent's own memory once.

    Args:
        stages: All stages on this set of boards.

    Returns:
        Two items for each board, one for RAM and one for storage. An item is (board, ``RAM`` or
        ``storage``, needed bytes, available bytes).
    """
    agents_counted = (len(stages) - 1) * AGENT_RAM_BYTES
    limits: list[tuple[Device, str, int, float]] = []
    for device in stages[0].devices:
        costs = [stage.cost_on(device) for stage in stages]
        ram_bytes = sum(cost.ram_bytes for cost in costs) - agents_counted
        storage_bytes = sum(cost.storage_bytes for cost in costs)
        limits += [
            (device, "RAM", ram_bytes, device.ram_mib * MIB),
            (device, "storage", storage_bytes, device.storage_mib * MIB),
        ]
    return tuple(limits)


def group_period_ns(stages: Sequence[PlannedStage]) -> int:
    """Return the period of a set of boards that serve all of ``stages``, in nanoseconds.

    For one stage, a board is busy for its processor time or its link time, whichever is longer. The
    busy times for all stages are added. This sum may be too high, because the processor can work
    for one stage while the link carries tensors of another stage.
    """
    return shared_period_ns(
        sum(_to_ns(stage.cost_on(device).bottleneck_ms) for stage in stages)
        for device in stages[0].devices
    )


@dataclass(frozen=True)
class Plan:
    """A model's stages and the boards that run them.

    Two stages have either the same boards or no board in common.

    Attributes:
        objective: The objective that the plan optimizes.
        graph: The model.
        stages: The stages in order. Together they cover all operators.
        wires: For each boundary between two stages, the dtype in which float32 activations are
            sent.
        bound: Lower bound on the ``score`` of every plan within the request's limits. The bound is
            equal to this plan's score if the plan is proven optimal. ``None`` if the plan is not
            the result of a search.
        single_board_alternative: The best plan with the whole model on one board. ``None`` if the
            model fits no single board, if this plan uses one board, or if a board has a role. The
            alternative may have a better latency, throughput or energy than this plan. It may even
            have a better score if the request gave the number of stages.
        unused: Boards of the fleet that the plan does not use.
    """

    objective: Objective
    graph: Graph
    stages: tuple[PlannedStage, ...]
    wires: tuple[Wire, ...] = ()
    bound: float | None = None
    single_board_alternative: Plan | None = None
    unused: tuple[Device, ...] = ()

    @classmethod
    def of(
        cls,
        graph: Graph,
        placements: Sequence[tuple[Sequence[Device], int, int]],
        *,
        wires: Sequence[Wire] | None = None,
        objective: Objective = "throughput",
    ) -> Plan:
        """Return the plan with the given placements, even if a stage does not fit its boards.

        Args:
            graph: The model.
            placements: For each stage: its boards, the index of its first operator, and the index
                of its last operator plus 1. Together the stages cover all operators, in order.
            wires: For each boundary between two stages, the dtype in which float32 activations are
                sent. ``None``: ``float32`` for all boundaries.
            objective: The objective of the plan.

        Raises:
            PlanRequestError: The placements do not cover the model, the number of wires is wrong,
                a boundary is not a cut of the graph, a stage has no board, or two stages share some
                of their boards, but not all.
        """
        _check_placements(graph, placements)
        plain: Sequence[Wire] = ["float32"] * (len(placements) - 1)
        inner = tuple(plain if wires is None else wires)
        if len(inner) != len(placements) - 1:
            raise PlanRequestError(
                f"{len(inner)} wires were given for {len(placements)} stages; expected "
                f"{len(placements) - 1}, one for each boundary between two stages."
            )
        ends: tuple[Wire, ...] = ("float32", *inner, "float32")
        stages = tuple(
            PlannedStage(
                tuple(devices),
                start,
                stop,
                _stage_costs(graph, devices, start, stop, (ends[index], ends[index + 1])),
            )
            for index, (devices, start, stop) in enumerate(placements)
        )
        return cls(objective, graph, stages, inner)

    @property
    def graph_name(self) -> str:
        """The model's name."""
        return self.graph.name

    @property
    def placements(self) -> tuple[tuple[tuple[Device, ...], int, int], ...]:
        """The boards, start and stop of each stage, in the form of ``placements`` of :meth:`of`."""
        return tuple((stage.devices, stage.start, stage.stop) for stage in self.stages)

    @property
    def cuts(self) -> tuple[int, ...]:
        """Positions where the model is cut, ascending. Position ``i`` is before operator ``i``."""
        return tuple(stage.start for stage in self.stages[1:])

    @property
    def boards(self) -> int:
        """Number of boards that the plan uses."""
        return len({device.name for stage in self.stages for device in stage.devices})

    @property
    def fits(self) -> bool:
        """Whether every board has enough memory and storage for all of its stages."""
        return all(
            needed_bytes <= available_bytes
            for stages in group_stages(self.stages)
            for _, _, needed_bytes, available_bytes in board_limits(stages)
        )

    def stages_with(self, index: int) -> tuple[PlannedStage, ...]:
        """Return all stages on the boards of stage ``index``, stage ``index`` included."""
        return next(group for group in group_stages(self.stages) if self.stages[index] in group)

    def period_ms(self, index: int) -> float:
        """Return the period of the boards of stage ``index`` at full load, in milliseconds.

        If these boards also serve other stages, the period includes the time for the other stages.
        """
        return group_period_ns(self.stages_with(index)) / _NS_PER_MS

    @property
    def latency_ms(self) -> float:
        """Latency of one request while the system serves no other request, in milliseconds."""
        return sum(_to_ns(stage.latency_ms) for stage in self.stages) / _NS_PER_MS

    @property
    def slowest_stage(self) -> int:
        """Index of the stage whose boards have the longest period.

        If several stages have the longest period, the index is that of the earliest stage.
        """
        return max(range(len(self.stages)), key=self.period_ms)

    @property
    def bottleneck_ms(self) -> float:
        """Time between the plan's results at full load (the period), in milliseconds."""
        return max(map(group_period_ns, group_stages(self.stages))) / _NS_PER_MS

    @property
    def throughput_per_s(self) -> float:
        """Results per second at full load."""
        return 1000 / self.bottleneck_ms

    @property
    def energy_j(self) -> float | None:
        """Energy of one request without the boards' idle power, in joules.

        ``None`` if the power of a board is not known.
        """
        energies = [stage.energy_j for stage in self.stages if stage.energy_j is not None]
        if len(energies) < len(self.stages):
            return None
        return sum(round(energy_j * _UJ_PER_J) for energy_j in energies) / _UJ_PER_J

    @property
    def score(self) -> float:
        """The figure that the objective minimizes: period, latency or energy of a request.

        It is ``bottleneck_ms``, ``latency_ms`` or ``energy_j``.
        """
        if self.objective == "energy":
            return math.inf if self.energy_j is None else self.energy_j
        return self.latency_ms if self.objective == "latency" else self.bottleneck_ms

    @property
    def gap(self) -> float:
        """Largest possible improvement of the score by another plan, as a fraction of the score.

        The value is from 0 to 1. It is 0 if the plan is proven optimal, or if it has no bound.
        """
        if self.bound is None or not self.score:
            return 0.0
        return max(0.0, 1 - self.bound / self.score)

    def __str__(self) -> str:
        head = (
            f"{self.graph_name} on {self.boards} board{'s' * (self.boards > 1)}: "
            f"{self.throughput_per_s:.1f} results/s, latency {self.latency_ms:.1f} ms"
        )
        return "\n  ".join((head, *map(str, self.stages)))


def evaluate(plan: Plan) -> Plan:
    """Compute the costs of ``plan`` again, from its graph, boards, cuts and wires.

    With this function, a plan from any source can be compared with a plan from
    :func:`~edge_partition.planning.plan_split.plan_split`.

    Returns:
        A plan with the same stages and wires, with new costs and without a bound.

    Raises:
        PlanRequestError: The placements are not valid; see :meth:`Plan.of`.
        InfeasiblePlanError: A stage does not fit its boards.
    """
    fresh = Plan.of(plan.graph, plan.placements, wires=plan.wires, objective=plan.objective)
    if not fresh.fits:
        raise InfeasiblePlanError(plan.graph, fresh.stages)
    return fresh


def check_cuts(graph: Graph, cuts: Sequence[int]) -> None:
    """Check that a model can be cut at the given positions.

    Raises:
        PlanRequestError: A position is not a cut of the graph, or the positions do not ascend.
    """
    allowed = set(graph.cuts)
    for before, cut in zip((0, *cuts), cuts, strict=False):
        if cut not in allowed:
            raise PlanRequestError(
                f"{graph.name} cannot be cut at position {cut}. `edge-partition inspect` lists "
                "the possible cuts."
            )
        if cut <= before:
            raise PlanRequestError(
                f"The cuts {list(cuts)} are not ascending. Give each position once, in ascending "
                "order."
            )


def _stage_costs(
    graph: Graph, devices: Sequence[Device], start: int, stop: int, wires: tuple[Wire, Wire]
) -> tuple[StageCost, ...]:
    """Return the cost of a stage on each board, in the order of ``devices``."""
    # The cost is computed only once for boards that are equal except for their names.
    alike = [replace(device, name="", board=None) for device in devices]
    costs = {device: stage_cost(graph, device, start, stop, wires) for device in set(alike)}
    return tuple(costs[device] for device in alike)


def _check_placements(
    graph: Graph, placements: Sequence[tuple[Sequence[Device], int, int]]
) -> None:
    starts = [start for _, start, _ in placements]
    stops = [stop for _, _, stop in placements]
    if not placements or [0, *stops] != [*starts, len(graph.operators)]:
        raise PlanRequestError(
            f"The stages {list(zip(starts, stops, strict=True))} do not cover {graph.name}. "
            "Expected (start, stop) ranges without gaps or overlaps, from 0 to "
            f"{len(graph.operators)}."
        )
    check_cuts(graph, starts[1:])
    sets = {frozenset(device.name for device in devices) for devices, _, _ in placements}
    names = [name for boards in sets for name in boards]
    if (
        len(set(names)) < len(names)
        or frozenset() in sets
        or any(len({device.name for device in on}) < len(on) for on, _, _ in placements)
    ):
        raise PlanRequestError(
            "The boards of the stages are not valid. Give each stage at least one board, and no "
            "board twice. Two stages must have exactly the same boards, or no board in common."
        )


def _smallest_change(short: list[tuple[Device, str, int, float]]) -> str:
    fields = {"RAM": "ram_mib", "storage": "storage_mib"}
    changes = [
        f"{fields[limit]} of {device.name} from {available_bytes / MIB:g} to "
        f"{math.ceil(needed_bytes / MIB)}"
        for device, limit, needed_bytes, available_bytes in short
    ]
    others = len(changes) - _MOST_NAMED
    return ", ".join(changes[:_MOST_NAMED]) + (f" and {others} more" if others > 0 else "")


def _to_ns(milliseconds: float) -> int:
    return round(milliseconds * _NS_PER_MS)


def _mib(size_bytes: float) -> str:
    mib = size_bytes / MIB
    return f"{mib:.0f}" if mib >= 10 else f"{mib:.2g}"  # noqa: PLR2004
