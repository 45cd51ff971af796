"""Graph x Fleet x objective -> Plan: the best split, its boards, their order and the wires.

A plan is a row of stages, each a range of operators on a board of its own, or on several that take
requests in turn (replicas); a stage that keeps state is never on several. Two objectives:

``throughput``
    The slowest resource sets the pace. A stage takes the larger of its processor's and its link's
    time (:mod:`edge_partition.planning.cost_model`), divided by its replicas, each of which gets
    every n-th request, so that the slowest of them counts. The largest of these is to be least.
    Among the plans of that pace the one with the lowest latency wins, as far as a short search
    tells.
``latency``
    A lone request passes each stage's link in, its processor and its link out, one after another.
    The sum is to be least; then the fewer stages.

Each may have the other as a limit. Plans on fewer boards than there are, one board included, are
candidates. The optimum is exact, by :mod:`edge_partition.planning.search`, with times in whole
nanoseconds; where the search gives up on the proof, :attr:`Plan.bound_ms` says what no plan can
beat. :func:`evaluate` lets anybody check it against other plans.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from edge_core.errors import EdgePartitionError
from edge_partition.planning.cost_model import MIB, StageTable
from edge_partition.planning.plan import (
    InfeasiblePlanError,
    Objective,
    Plan,
    PlannedStage,
    PlanRequestError,
    check_cuts,
    evaluate,
)
from edge_partition.planning.search.least_cost import ANY_PACE, find_least_cost
from edge_partition.planning.search.least_pace import find_least_pace
from edge_partition.planning.search.problem import FORBIDDEN, Found, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

    from edge_partition.planning.fleet import Device, Fleet, Role
    from edge_partition.planning.search.problem import IntArray, Route
    from edge_partition.tflite.graph import Graph, Wire

__all__ = [
    "InfeasiblePlanError",
    "LimitError",
    "Objective",
    "Plan",
    "PlanRequestError",
    "PlannedStage",
    "WireChoice",
    "evaluate",
    "plan_split",
]

#: ``auto``: float16 over the boundaries where that makes the plan better.
WireChoice: TypeAlias = Literal["float32", "float16", "auto"]

#: By default a stage has as many replicas as can be searched quickly: so many different crews, or
#: two boards; never more than the last.
_MOST_CREWS, _LEAST_REPLICAS, _MOST_REPLICAS = 200, 2, 8
#: A latency in nanoseconds times this, plus 1 a stage: least latency first, then fewest stages.
_TIE = 1 << 12
#: How much is looked at for a lower latency among the plans of the best pace: ways, subgradient
#: steps, and stages in all of those.
_TIE_EFFORT, _TIE_ROUNDS, _TIE_STEPS = 40_000, 12, 4_000_000
_NS_PER_MS = 1_000_000
#: Cells of the tables of stages that are worked out at a time.
_TABLE_CELLS = 1 << 15


class LimitError(EdgePartitionError):
    """Splits fit the boards, but none keeps the limit on the other objective.

    Attributes:
        asked: The limit, in milliseconds of latency or results a second.
        best: What the best plan for that alone reaches; ``None`` where the search ended without an
            answer.
    """

    def __init__(self, asked: float, best: Plan | None, what: str) -> None:
        self.asked = asked
        self.best = best
        if best is None:
            reached = "the search ended without finding one. Ask for less, or for fewer boards"
        elif what == "latency":
            reached = (
                f"the quickest takes {best.latency_ms:.3g} ms, on "
                f"{_name_boards(best)}. Allow more, or give a faster board"
            )
        else:
            reached = (
                f"the best serves {best.throughput_per_s:.3g} requests/s, on "
                f"{_name_boards(best)}. Ask for less, or add a board"
            )
        wanted = (
            f"answers within {asked:g} ms" if what == "latency" else f"serves {asked:g} requests/s"
        )
        super().__init__(f"No plan {wanted}: {reached}.")


def plan_split(
    graph: Graph,
    fleet: Fleet,
    objective: Objective = "throughput",
    *,
    stages: int | None = None,
    cuts: Sequence[int] | None = None,
    wire: WireChoice = "float32",
    max_replicas: int | None = None,
    max_latency_ms: float | None = None,
    min_throughput_per_s: float | None = None,
) -> Plan:
    """Return the best plan there is.

    Args:
        graph: The model.
        fleet: The boards it may use, each for one stage at most.
        objective: What to optimise; see the module's text.
        stages: Exactly so many stages, each on one board; ``None`` for as many as are best.
        cuts: Cut exactly at these positions, ascending; only the boards are chosen, one a stage.
        wire: As what float32 activations travel between stages.
        max_replicas: A stage is served by so many boards at most; ``None``: by as many as can be
            searched quickly, 2 where there are 16 different boards, 8 where all are equal.
        max_latency_ms: Of a lone request.
        min_throughput_per_s: Results a second.

    Raises:
        PlanRequestError: What was asked for is more than the model or the fleet has.
        InfeasiblePlanError: No split fits the boards' memory and storage.
        LimitError: No split that fits keeps ``max_latency_ms`` or ``min_throughput_per_s``.
    """
    _check_positive(
        max_replicas=max_replicas,
        max_latency_ms=max_latency_ms,
        min_throughput_per_s=min_throughput_per_s,
    )
    kinds = _group_equal(fleet.devices)
    request = _Request(
        graph=graph,
        objective=objective,
        kinds=kinds,
        positions=(0, *(graph.cuts if cuts is None else cuts), len(graph.operators)),
        stages=_check_request(graph, fleet, stages, cuts),
        max_replicas=max_replicas or _default_replicas(len(kinds)),
        max_latency_ms=max_latency_ms,
        min_throughput_per_s=min_throughput_per_s,
    )
    if wire != "auto":
        return _with_rest(request.solve(wire), fleet, kinds)
    narrow = request.solve("float16")
    try:
        exact = request.solve("float32")
    except (InfeasiblePlanError, LimitError):
        exact = None
    if exact is not None and exact.score_ms <= narrow.score_ms:
        return _with_rest(exact, fleet, kinds)
    return _with_rest(request.widen(narrow), fleet, kinds)


@dataclass(frozen=True)
class _Request:
    """What was asked of :func:`plan_split`; ``positions`` are where a stage may start or stop."""

    graph: Graph
    objective: Objective
    kinds: list[list[Device]]
    positions: tuple[int, ...]
    stages: int | None
    max_replicas: int
    max_latency_ms: float | None
    min_throughput_per_s: float | None

    def solve(self, wire: Wire) -> Plan:
        """Return the best plan with ``wire`` over every boundary."""
        table = StageTable.of(self.graph, self.positions, wire)
        problem = self._problem(table)
        pace, cost_limit = self._limits()
        found = _search(problem, self.objective, pace, cost_limit)
        if found.route is None and found.is_proven:
            self._explain(problem, table, wire)
        if found.route is None:
            raise self._limit_error(None)
        plan = self._plan(found.route, wire)
        return replace(plan, bound_ms=self._bound_ms(found, plan))

    def widen(self, plan: Plan) -> Plan:
        """Return the plan with float32 over the boundaries where float16 makes it no better.

        Bytes saved never cost anything here, so a plan with float16 everywhere is as good as any.
        """
        wires: list[Wire] = list(plan.wires)
        best = plan
        for index in sorted(range(len(wires)), key=lambda at: plan.stages[at].cost.out_bytes):
            tried: list[Wire] = [*wires]
            tried[index] = "float32"
            wider = Plan.of(plan.graph, plan.placements, wires=tried, objective=plan.objective)
            if (
                all(stage.fits for stage in wider.stages)
                and wider.score_ms <= best.score_ms
                and self._keeps_limits(wider)
            ):
                wires = tried
                best = replace(wider, bound_ms=plan.bound_ms)
        return best

    def _problem(self, table: StageTable) -> Problem:
        """Return what is to be searched.

        Some rows at a time, so that what is worked out on the way stays in the processor's cache.
        """
        nodes = len(self.positions)
        busy, cost = (np.empty((len(self.kinds), nodes, nodes), np.int64) for _ in range(2))
        rows = max(1, _TABLE_CELLS // nodes)
        for first in range(0, nodes, rows):
            starts, stops = slice(first, first + rows), slice(first, None)
            part = table.part(starts, stops)
            for index, (device, allowed) in enumerate(self._allowed(part)):
                busy_ns, latency_ns = part.bottleneck_and_latency_ns(device)
                fits = allowed
                for needed_bytes, available_mib in _needs(part, device):
                    fits &= needed_bytes <= available_mib * MIB
                busy[index, starts, :first] = FORBIDDEN
                cost[index, starts, :first] = FORBIDDEN
                busy[index, starts, stops] = np.where(fits, busy_ns, FORBIDDEN)
                cost[index, starts, stops] = np.where(fits, latency_ns * _TIE + 1, FORBIDDEN)
        return Problem(
            *(busy, cost, self._capacity, self.max_replicas, self.stages, table.work_macs[0]),
            alone=self._alone,
        )

    def _shortage(self, table: StageTable) -> Problem:
        """Return the problem without limits whose cost is the bytes that boards are short of."""
        short = []
        for device, allowed in self._allowed(table):
            over = np.zeros(allowed.shape)
            for needed_bytes, available_mib in _needs(table, device):
                if math.isfinite(available_mib):
                    over += np.maximum(0, needed_bytes - available_mib * MIB)
            short.append(np.where(allowed, np.ceil(over).astype(np.int64), FORBIDDEN))
        excess = np.stack(short)
        return Problem(excess, excess, self._capacity, 1, self.stages)

    def _allowed(self, table: StageTable) -> Iterator[tuple[Device, NDArray[np.bool_]]]:
        """Yield a board of each kind, and the stages that its role lets it run."""
        forward = table.starts[:, None] < table.stops
        pinned = {kind[0].role for kind in self.kinds} - {"any"}
        for kind in self.kinds:
            yield kind[0], forward & _role_mask(kind[0].role, pinned, table)

    @property
    def _alone(self) -> NDArray[np.bool_] | None:
        """Return the stages that keep state, ``(nodes, nodes)``: replicas would each have theirs.

        A board has only some of the requests where there are replicas, so its state would be
        another than that of one board that has all of them.
        """
        if not self.graph.stateful:
            return None
        before = np.searchsorted(sorted(self.graph.stateful), self.positions)
        keeps: NDArray[np.bool_] = before[None, :] > before[:, None]
        return keeps

    @property
    def _capacity(self) -> IntArray:
        return np.array([len(kind) for kind in self.kinds], np.int64)

    def _limits(self) -> tuple[int, int | None]:
        """Return the largest pace and the largest cost."""
        pace = ANY_PACE
        if self.min_throughput_per_s is not None:
            pace = _whole(1000 * _NS_PER_MS / self.min_throughput_per_s)
        cost_limit = None
        if self.max_latency_ms is not None:
            cost_limit = (_whole(self.max_latency_ms * _NS_PER_MS) + 1) * _TIE - 1
        return pace, cost_limit

    def _keeps_limits(self, plan: Plan) -> bool:
        pace, cost_limit = self._limits()
        return plan.bottleneck_ms * _NS_PER_MS <= pace and (
            cost_limit is None or plan.latency_ms * _NS_PER_MS * _TIE <= cost_limit
        )

    def _plan(self, route: Route, wire: Wire) -> Plan:
        free = [iter(kind) for kind in self.kinds]
        placements = [
            (
                tuple(next(free[kind]) for kind in step.kinds),
                self.positions[step.start],
                self.positions[step.stop],
            )
            for step in route
        ]
        wires = (wire,) * (len(route) - 1)
        return Plan.of(self.graph, placements, wires=wires, objective=self.objective)

    def _bound_ms(self, found: Found, plan: Plan) -> float:
        if found.is_proven:
            return plan.score_ms
        bound = found.bound // _TIE if self.objective == "latency" else found.bound
        return max(0, bound) / _NS_PER_MS

    def _explain(self, problem: Problem, table: StageTable, wire: Wire) -> None:
        """Raise the error that says why there is no plan."""
        pace, cost_limit = self._limits()
        if pace < ANY_PACE:
            best = find_least_pace(problem).route
            if best is not None and problem.pace_of(best) > pace:
                raise self._limit_error(self._plan(best, wire))
        if cost_limit is not None:
            best = find_least_cost(problem).route
            if best is not None and (pace == ANY_PACE or problem.cost_of(best) > cost_limit):
                raise self._limit_error(self._plan(best, wire))
            if best is not None:
                raise self._limit_error(None)
        nearest = find_least_cost(self._shortage(table)).route
        if nearest is None:
            raise PlanRequestError(
                f"The boards' roles leave no way to split {self.graph.name}: a board that is "
                "`first` and one that is `last` need a cut between them. Change the roles in the "
                "fleet file."
            )
        raise InfeasiblePlanError(self.graph, self._plan(nearest, wire).stages)

    def _limit_error(self, best: Plan | None) -> LimitError:
        if self.min_throughput_per_s is not None and (
            best is None or best.throughput_per_s < self.min_throughput_per_s
        ):
            return LimitError(self.min_throughput_per_s, best, "throughput")
        return LimitError(self.max_latency_ms or 0, best, "latency")


def _search(problem: Problem, objective: Objective, pace: int, cost_limit: int | None) -> Found:
    limit = FORBIDDEN - 1 if cost_limit is None else cost_limit
    if objective == "latency":
        return find_least_cost(problem, pace=pace, limit=limit)
    found = find_least_pace(problem, cost_limit=cost_limit)
    if found.route is None or found.value > pace:
        return found if found.route is None else Found(None, FORBIDDEN, FORBIDDEN)
    rounds = max(1, min(_TIE_ROUNDS, _TIE_STEPS // problem.busy.size))
    quicker = find_least_cost(
        problem, pace=found.value, known=found.route, effort=_TIE_EFFORT, rounds=rounds
    )
    return replace(found, route=quicker.route)


def _with_rest(plan: Plan, fleet: Fleet, kinds: Sequence[Sequence[Device]]) -> Plan:
    """Add the boards that are left over, and the best plan on one where ``plan`` uses several."""
    used = {device.name for stage in plan.stages for device in stage.devices}
    unused = tuple(device for device in fleet.devices if device.name not in used)
    plan = replace(plan, unused=unused)
    if plan.boards == 1 or any(device.role != "any" for device in fleet.devices):
        return plan
    whole = [
        Plan.of(plan.graph, [((kind[0],), 0, len(plan.graph.operators))], objective=plan.objective)
        for kind in kinds
    ]
    fitting = [single for single in whole if single.stages[0].fits]
    if not fitting:
        return plan
    return replace(plan, single_board_alternative=min(fitting, key=lambda one: one.score_ms))


def _needs(table: StageTable, device: Device) -> tuple[tuple[IntArray, float], ...]:
    """Return the bytes that each stage needs of memory and of storage, and the MiB there are."""
    return (table.ram_bytes, device.ram_mib), (table.storage_bytes, device.storage_mib)


def _role_mask(role: Role, pinned: AbstractSet[Role], table: StageTable) -> NDArray[np.bool_]:
    """Return ``(m, n)``: the stages, of those that reach the end, that a board of ``role`` may run.

    Where some board is pinned to an end of the model, no other board may run the stage there.
    """
    is_first, is_last = table.starts[:, None] == 0, table.stops == table.stops[-1]
    mask = np.ones((len(table.starts), len(table.stops)), bool)
    if role == "first":
        mask &= is_first
    elif "first" in pinned:
        mask &= ~is_first
    if role == "last":
        mask &= is_last
    elif "last" in pinned:
        mask &= ~is_last
    return mask


def _group_equal(devices: Sequence[Device]) -> list[list[Device]]:
    """Return the boards by kind: those of one kind are the same to a plan."""
    kinds: dict[Device, list[Device]] = {}
    for device in devices:
        kinds.setdefault(replace(device, name="", board=None, link_source="estimated"), []).append(
            device
        )
    return list(kinds.values())


def _check_positive(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not 0 < value < math.inf:
            raise PlanRequestError(f"{name} is {value}; expected more than 0.")


def _check_request(
    graph: Graph, fleet: Fleet, stages: int | None, cuts: Sequence[int] | None
) -> int | None:
    """Return how many stages there must be, or ``None`` for any number."""
    if not fleet.devices:
        raise PlanRequestError("The fleet has no boards; expected 1 or more.")
    if cuts is not None:
        check_cuts(graph, cuts)
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


def _whole(nanoseconds: float) -> int:
    """Round down, but not a whole number that a division made a little less."""
    return math.floor(nanoseconds + 1e-3)


def _default_replicas(kinds: int) -> int:
    size = crews = 0
    while size < _MOST_REPLICAS and (size < _LEAST_REPLICAS or crews <= _MOST_CREWS):
        size += 1
        crews += math.comb(kinds + size - 1, size)
    return size if crews <= _MOST_CREWS else max(_LEAST_REPLICAS, size - 1)


def _name_boards(plan: Plan) -> str:
    names = [device.name for stage in plan.stages for device in stage.devices]
    return f"{names[0]} alone" if len(names) == 1 else f"{len(names)} boards"
