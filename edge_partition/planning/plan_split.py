"""Find the best plan: where to cut a model, which boards run each stage, and which dtype they send.

A plan is a sequence of stages. Each stage is a range of operators on one board, or on several
boards that share the requests (replicas). A stage that keeps state has no replicas. There are three
objectives:

``throughput``
    Minimize the period: the time between two results. The period of a stage on one board is the
    longer of the processor's time and the link's time (:mod:`edge_partition.planning.cost_model`).
    The client divides the requests among the replicas in proportion to their speed, so their rates
    add up (:mod:`edge_partition.planning.shared_period`). The slowest stage determines the plan's
    period. Among the plans with the least period, a short search selects a plan with a low latency.
``latency``
    Minimize the latency of one request in an idle system. The latency is the sum over the stages of
    the time to receive the inputs, to compute, and to send the outputs. If a stage has replicas,
    the latency of the slowest replica counts. The reason is that only edge-partition's client
    prefers the fastest replica of an idle system. Another MQTT client may send its request to any
    replica. Among plans with equal latency, the plan with the fewest stages is best.
``energy``
    Minimize the energy of one request without the boards' idle power
    (:mod:`edge_partition.planning.cost_model`). The energy is the sum over the stages. Replicas
    never lower the energy, so a plan has replicas only if the request demands a throughput. Among
    plans with equal energy, the plan with the fewest stages is best.

A board, or a replica set, may serve several stages that are not neighbours
(:mod:`edge_partition.planning.search.shared_boards`). The board's busy time, memory and storage are
the sums over these stages, but the agent's own memory counts once. Such plans can be better if the
model has few cuts, or if a fast board lacks memory for the middle of the model. A board with a role
has only one stage. If the request gives the number of stages, each stage has one board of its own.

The plan is proven optimal for few boards and cuts: up to 6 different boards and 22 cuts, if the
search ends within its work limit. For more boards or cuts, the plan is at least as good as every
plan with few replicas and one stage on each board. In both cases, :attr:`Plan.bound` is a lower
bound on the score of all plans. The plan is optimal if the bound is equal to the plan's score.
Each module in :mod:`edge_partition.planning.search` says what its search guarantees.

A request may demand a throughput. It may limit the latency, unless the objective is ``energy``. The
plan may use a part of the fleet, or a single board. Times are whole nanoseconds and energies are
whole microjoules. :func:`evaluate` computes the score of any plan without a search, for comparison.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
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
from edge_partition.planning.search.board_sets import replica_set_counts
from edge_partition.planning.search.fastest_route import find_fastest
from edge_partition.planning.search.least_cost import ANY_PERIOD, find_least_cost
from edge_partition.planning.search.period_bound import cost_to_end
from edge_partition.planning.search.problem import FORBIDDEN, Problem, SearchResult
from edge_partition.planning.search.shared_boards import Supply, share_boards
from edge_partition.planning.stage_memory import AGENT_RAM_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
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

#: The dtype in which float32 activations are sent between stages. With ``auto``, a boundary has
#: float16 if this makes the plan better, else float32.
WireChoice: TypeAlias = Literal["float32", "float16", "auto"]

#: Largest number of replica sets in the exact search. The search limits the replicas of a stage to
#: the largest number of boards that gives at most this number of sets.
_MAX_REPLICA_SETS = 255
#: Least and largest value of this limit on the replicas of a stage.
_LEAST_REPLICAS, _MOST_REPLICAS = 2, 16
#: The cost of a stage is its latency in nanoseconds, or its energy in microjoules, times this
#: factor, plus 1. So the cheapest plan has the least latency or energy, and among equal plans the
#: fewest stages.
_COST_WEIGHT = 1 << 12
#: Limits of the search for a low latency among the plans with the least period: number of labels,
#: number of subgradient steps, and number of table cells in all subgradient steps together.
_TIE_WORK_LIMIT, _TIE_ROUNDS, _TIE_CELLS = 40_000, 12, 4_000_000
_NS_PER_MS = 1_000_000
_UJ_PER_J = 1_000_000
#: Number of cells of a stage table that one array operation computes.
_TABLE_CELLS = 1 << 15


class LimitError(EdgePartitionError):
    """No plan meets the request's limit on the latency or on the throughput.

    Attributes:
        asked: The limit: a latency in milliseconds, or a throughput in results per second.
        best: The plan with the lowest latency if ``asked`` is a latency, or with the highest
            throughput if ``asked`` is a throughput. ``None`` if the search ended without a plan.
    """

    def __init__(self, asked: float, best: Plan | None, what: str) -> None:
        self.asked = asked
        self.best = best
        if best is None:
            reached = "the search ended without a plan. Relax the limit, or use fewer boards"
        elif what == "latency":
            reached = (
                f"the lowest latency is {best.latency_ms:.3g} ms, on "
                f"{_name_boards(best)}. Raise the limit, or add a faster board"
            )
        else:
            reached = (
                f"the highest throughput is {best.throughput_per_s:.3g} requests/s, on "
                f"{_name_boards(best)}. Lower the limit, or add a board"
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
    shared_boards: bool = True,
    max_latency_ms: float | None = None,
    min_throughput_per_s: float | None = None,
) -> Plan:
    """Return the best plan for the objective.

    Args:
        graph: The model.
        fleet: The available boards.
        objective: ``throughput``, ``latency`` or ``energy``; see the module's docstring.
        stages: Required number of stages, each on one board. ``None`` for any number.
        cuts: Positions where the model is cut, ascending. Position ``i`` is before operator ``i``.
            With given cuts, each stage is on one board. ``None``: the search chooses the cuts.
        wire: The dtype in which float32 activations are sent between stages.
        max_replicas: Largest number of boards that serve one stage; ``None`` without a limit.
            Without a limit, the search is exact for up to 8 different or 16 equal boards. With more
            boards, the plan is the better result of two searches: an exact search with small
            replica sets, and a local search with replica sets of any size. In both cases,
            :attr:`Plan.bound` holds for replica sets of any size.
        shared_boards: Whether a board may serve several stages. If so, :attr:`Plan.bound` holds for
            plans with such boards too. With many boards or cuts, the search then seldom proves the
            plan optimal.
        max_latency_ms: Largest allowed latency of one request in an idle system, in milliseconds.
            ``None`` for any latency. It must be ``None`` for objective ``energy``.
        min_throughput_per_s: Lowest allowed throughput, in results per second. ``None`` for any
            throughput.

    Raises:
        PlanRequestError: The model's cuts, the number of boards or the boards' roles do not allow
            such a plan. Or a number is not finite or not above 0. Or the objective is ``energy``,
            and a board's power is not known or ``max_latency_ms`` is given.
        InfeasiblePlanError: No plan fits the boards' memory and storage.
        LimitError: No plan that fits the boards keeps to ``max_latency_ms`` and
            ``min_throughput_per_s``.
    """
    _check_positive(
        max_replicas=max_replicas,
        max_latency_ms=max_latency_ms,
        min_throughput_per_s=min_throughput_per_s,
    )
    if objective == "energy":
        _check_energy(fleet, max_latency_ms)
    kinds = _group_equal(fleet.devices)
    request = _Request(
        graph=graph,
        objective=objective,
        kinds=kinds,
        positions=(0, *(graph.cuts if cuts is None else cuts), len(graph.operators)),
        stages=_check_request(graph, fleet, stages, cuts),
        max_replicas=max_replicas,
        shares_boards=shared_boards,
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
    if exact is not None and exact.score <= narrow.score:
        return _with_rest(exact, fleet, kinds)
    return _with_rest(request.widen(narrow), fleet, kinds)


@dataclass(frozen=True)
class _Request:
    """The checked arguments of :func:`plan_split`.

    Attributes:
        kinds: The boards of the fleet, grouped by kind. Boards of a kind are interchangeable.
        positions: The positions where a stage may start or stop, ascending. Position ``i`` is
            before operator ``i``.
    """

    graph: Graph
    objective: Objective
    kinds: list[list[Device]]
    positions: tuple[int, ...]
    stages: int | None
    max_replicas: int | None
    shares_boards: bool
    max_latency_ms: float | None
    min_throughput_per_s: float | None

    def solve(self, wire: Wire) -> Plan:
        """Return the best plan whose boundaries all have the dtype ``wire``."""
        table = StageTable.of(self.graph, self.positions, wire)
        unlimited = self._problem(table)
        problem, more = self._limit_replicas(unlimited)
        period, cost_limit = self._limits()
        find = partial(self._find, problem, more, table)
        found = find(self.objective, period=period, cost_limit=cost_limit)
        if found.route is None and found.is_proven:
            self._explain(find, table, wire)
        if found.route is None:
            raise self._limit_error(None)
        plan = self._plan(found.route, wire)
        return replace(plan, bound=self._bound(found, plan))

    def _find(
        self,
        problem: Problem,
        unlimited: Problem | None,
        table: StageTable,
        objective: Objective,
        *,
        period: int = ANY_PERIOD,
        cost_limit: int | None = None,
    ) -> SearchResult:
        """Return the best route (the stages and the kinds of their boards) for ``objective``.

        Args:
            problem: The problem for the exact searches. It may have a limit on replicas.
            unlimited: The same problem without a limit on replicas. ``None`` if ``problem`` has no
                such limit.
            table: Work, memory and message sizes of all stages.
            objective: The objective.
            period: Longest allowed period, in nanoseconds.
            cost_limit: Largest allowed cost, in the unit of :data:`_COST_WEIGHT`. ``None`` for any
                cost.
        """
        find_fast = partial(self._find, problem, unlimited, table, "throughput")
        found = _search(problem, unlimited, objective, period, cost_limit)
        whole = unlimited or problem
        if self.shares_boards and self.stages is None:
            found = share_boards(
                whole,
                self._supply(table),
                found,
                by_cost=objective != "throughput",
                period=period,
                cost_limit=FORBIDDEN - 1 if cost_limit is None else cost_limit,
            )
        if found.route is None and objective != "throughput" and period != ANY_PERIOD:
            # The searches for the least period also try larger replica sets.
            fastest = find_fast(cost_limit=cost_limit)
            if fastest.route is not None and fastest.value <= period:
                least = int(cost_to_end(whole.cost, np.ones(whole.kinds))[0])
                return SearchResult(fastest.route, whole.cost_of(fastest.route), least)
        return found

    def widen(self, plan: Plan) -> Plan:
        """Return ``plan`` with float32 on each boundary where float16 does not improve the plan.

        In the cost model, smaller payloads never make a plan worse. So no choice of dtypes gives a
        better plan than the best plan with float16 on all boundaries.

        Args:
            plan: The best plan with float16 on all boundaries.
        """
        wires: list[Wire] = list(plan.wires)
        best = plan
        for index in sorted(range(len(wires)), key=lambda at: plan.stages[at].cost.out_bytes):
            tried: list[Wire] = [*wires]
            tried[index] = "float32"
            wider = Plan.of(plan.graph, plan.placements, wires=tried, objective=plan.objective)
            if wider.fits and wider.score <= best.score and self._meets_limits(wider):
                wires = tried
                best = replace(wider, bound=plan.bound)
        return best

    def _problem(self, table: StageTable) -> Problem:
        """Return the problem that the searches solve: busy times, costs and boards.

        The tables are computed in blocks of rows, so intermediate arrays fit the processor's cache.
        """
        nodes = len(self.positions)
        busy, cost = (np.empty((len(self.kinds), nodes, nodes), np.int64) for _ in range(2))
        rows = max(1, _TABLE_CELLS // nodes)
        for first in range(0, nodes, rows):
            starts, stops = slice(first, first + rows), slice(first, None)
            part = table.part(starts, stops)
            for index, (device, allowed) in enumerate(self._allowed(part)):
                busy_ns, added = part.bottleneck_and_latency_ns(device)
                if self.objective == "energy":
                    added = part.energy_uj(device)
                fits = allowed
                for needed_bytes, available_mib in _needs(part, device):
                    fits &= needed_bytes <= available_mib * MIB
                busy[index, starts, :first] = FORBIDDEN
                cost[index, starts, :first] = FORBIDDEN
                busy[index, starts, stops] = np.where(fits, np.maximum(busy_ns, 1), FORBIDDEN)
                cost[index, starts, stops] = np.where(fits, added * _COST_WEIGHT + 1, FORBIDDEN)
        return Problem(
            *(busy, cost, self._capacity, self.max_replicas or int(self._capacity.sum())),
            *(self.stages, table.work_macs[0]),
            no_replicas=self._no_replicas,
        )

    def _limit_replicas(self, problem: Problem) -> tuple[Problem, Problem | None]:
        """Limit the number of replicas of a stage, because the exact search needs a limit.

        Returns:
            Two items: the problem with a limit on replicas, and ``problem`` itself. If no limit is
            necessary, the two items are ``problem`` and ``None``.
        """
        if self.max_replicas is not None or self.stages is not None:
            return problem, None
        most = _exact_replicas(self._capacity)
        if most >= problem.max_replicas:
            return problem, None
        return replace(problem, max_replicas=most), problem

    def _shortage(self, table: StageTable) -> Problem:
        """Return a problem in which a board may lack memory or storage for its stage.

        The cost of a stage is the number of bytes of memory and storage that the board lacks. So
        the cheapest plan needs the smallest change of the fleet. The limits by role still hold.
        """
        short = []
        for device, allowed in self._allowed(table):
            over = np.zeros(allowed.shape)
            for needed_bytes, available_mib in _needs(table, device):
                if math.isfinite(available_mib):
                    over += np.maximum(0, needed_bytes - available_mib * MIB)
            short.append(np.where(allowed, np.ceil(over).astype(np.int64), FORBIDDEN))
        excess = np.stack(short)
        return Problem(excess, excess, self._capacity, 1, self.stages)

    def _supply(self, table: StageTable) -> Supply:
        """Return the memory and storage that stages need and that boards have, in bytes.

        The agent's own memory is subtracted from the needed memory and from the boards' memory.
        """
        devices = [kind[0] for kind in self.kinds]
        ram = np.array([device.ram_mib for device in devices]) * MIB - AGENT_RAM_BYTES
        storage = np.array([device.storage_mib for device in devices]) * MIB
        needed = np.stack([table.ram_bytes - AGENT_RAM_BYTES, table.storage_bytes])
        return Supply(needed.astype(float), np.stack([ram, storage]))

    def _allowed(self, table: StageTable) -> Iterator[tuple[Device, NDArray[np.bool_]]]:
        """Yield a board of each kind, and whether its role allows it to run each stage.

        The second item of a pair is an array by start and stop.
        """
        forward = table.starts[:, None] < table.stops
        pinned = {kind[0].role for kind in self.kinds} - {"any"}
        for kind in self.kinds:
            yield kind[0], forward & _role_mask(kind[0].role, pinned, table)

    @property
    def _no_replicas(self) -> NDArray[np.bool_] | None:
        """Whether a stage must have exactly one board because it keeps state, by start and stop.

        Each of several replicas would get only a part of the requests. So its state would differ
        from the state of a board that gets all requests. ``None`` if no stage keeps state.
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
        """Return the longest allowed period, in nanoseconds, and the largest allowed cost.

        The cost is in the unit of :data:`_COST_WEIGHT`. It is ``None`` for any cost.
        """
        period = ANY_PERIOD
        if self.min_throughput_per_s is not None:
            period = _whole(1000 * _NS_PER_MS / self.min_throughput_per_s)
        cost_limit = None
        if self.max_latency_ms is not None:
            cost_limit = (_whole(self.max_latency_ms * _NS_PER_MS) + 1) * _COST_WEIGHT - 1
        return period, cost_limit

    def _meets_limits(self, plan: Plan) -> bool:
        period, cost_limit = self._limits()
        return plan.bottleneck_ms * _NS_PER_MS <= period and (
            cost_limit is None or plan.latency_ms * _NS_PER_MS * _COST_WEIGHT <= cost_limit
        )

    def _plan(self, route: Route, wire: Wire) -> Plan:
        free = [iter(kind) for kind in self.kinds]
        placements: list[tuple[tuple[Device, ...], int, int]] = []
        for step in route:
            if step.shares is None:
                devices = tuple(next(free[kind]) for kind in step.kinds)
            else:
                devices = placements[step.shares][0]
            placements.append((devices, self.positions[step.start], self.positions[step.stop]))
        wires = (wire,) * (len(route) - 1)
        return Plan.of(self.graph, placements, wires=wires, objective=self.objective)

    def _bound(self, found: SearchResult, plan: Plan) -> float:
        if found.is_proven:
            return plan.score
        bound = found.bound if self.objective == "throughput" else found.bound // _COST_WEIGHT
        return max(0, bound) / (_UJ_PER_J if self.objective == "energy" else _NS_PER_MS)

    def _explain(
        self, find: Callable[[Objective], SearchResult], table: StageTable, wire: Wire
    ) -> None:
        """Raise the error that says why no plan exists.

        Args:
            find: A function that returns the best route for an objective and ignores the limits of
                the request.
            table: Work, memory and message sizes of all stages.
            wire: The dtype in which float32 activations are sent over all boundaries.
        """
        period, cost_limit = self._limits()
        if period < ANY_PERIOD:
            best = find("throughput")
            if best.route is not None and best.value > period:
                raise self._limit_error(self._plan(best.route, wire))
        if cost_limit is not None:
            best = find("latency")
            if best.route is not None and (period == ANY_PERIOD or best.value > cost_limit):
                raise self._limit_error(self._plan(best.route, wire))
            if best.route is not None:
                raise self._limit_error(None)
        nearest = find_least_cost(self._shortage(table)).route
        if nearest is None:
            raise PlanRequestError(
                f"{self.graph.name} cannot be split with the boards' roles: the first stage goes "
                "to a board with role `first`, the last stage to a board with role `last`, and "
                "every stage between them to a board with role `any`. Change the roles in the "
                "fleet file, or ask for fewer stages."
            )
        raise InfeasiblePlanError(self.graph, self._plan(nearest, wire).stages)

    def _limit_error(self, best: Plan | None) -> LimitError:
        if self.min_throughput_per_s is not None and (
            best is None or best.throughput_per_s < self.min_throughput_per_s
        ):
            return LimitError(self.min_throughput_per_s, best, "throughput")
        return LimitError(self.max_latency_ms or 0, best, "latency")


def _search(
    problem: Problem,
    unlimited: Problem | None,
    objective: Objective,
    period: int,
    cost_limit: int | None,
) -> SearchResult:
    """Return the best route in which each board serves only one stage.

    The arguments are those of :meth:`_Request._find`.
    """
    if objective != "throughput":
        return _search_cost(problem, unlimited, period, cost_limit)
    found = find_fastest(problem, unlimited, cost_limit)
    if found.route is None or found.value > period:
        return found if found.route is None else SearchResult(None, FORBIDDEN, FORBIDDEN)
    if max(len(step.kinds) for step in found.route) > problem.max_replicas:
        return found
    rounds = max(1, min(_TIE_ROUNDS, _TIE_CELLS // problem.busy.size))
    quicker = find_least_cost(
        problem, period=found.value, known=found.route, work_limit=_TIE_WORK_LIMIT, rounds=rounds
    )
    return replace(found, route=quicker.route)


def _search_cost(
    problem: Problem, unlimited: Problem | None, period: int, cost_limit: int | None
) -> SearchResult:
    limit = FORBIDDEN - 1 if cost_limit is None else cost_limit
    found = find_least_cost(problem, period=period, cost_limit=limit)
    if unlimited is None or period == ANY_PERIOD:
        # Without a limit on the period, replicas do not lower the cost.
        return found
    return find_least_cost(
        unlimited,
        period=period,
        known=found.route,
        cost_limit=limit,
        work_limit=_TIE_WORK_LIMIT,
        rounds=_TIE_ROUNDS,
    )


def _with_rest(plan: Plan, fleet: Fleet, kinds: Sequence[Sequence[Device]]) -> Plan:
    """Return ``plan`` with values for ``unused`` and ``single_board_alternative``."""
    used = {device.name for stage in plan.stages for device in stage.devices}
    unused = tuple(device for device in fleet.devices if device.name not in used)
    plan = replace(plan, unused=unused)
    if plan.boards == 1 or any(device.role != "any" for device in fleet.devices):
        return plan
    whole = [
        Plan.of(plan.graph, [((kind[0],), 0, len(plan.graph.operators))], objective=plan.objective)
        for kind in kinds
    ]
    fitting = [single for single in whole if single.fits]
    if not fitting:
        return plan
    return replace(plan, single_board_alternative=min(fitting, key=lambda one: one.score))


def _needs(table: StageTable, device: Device) -> tuple[tuple[IntArray, float], ...]:
    """Return two pairs, for memory and for storage: needed bytes by stage, and available MiB."""
    return (table.ram_bytes, device.ram_mib), (table.storage_bytes, device.storage_mib)


def _role_mask(role: Role, pinned: AbstractSet[Role], table: StageTable) -> NDArray[np.bool_]:
    """Return whether a board with ``role`` may run each stage of ``table``, by start and stop.

    Args:
        role: The board's role.
        pinned: The roles in the fleet, without ``any``. If it contains ``first``, only a board with
            role ``first`` may run the first stage. The same holds for ``last``.
        table: The stages.
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
    """Return the boards in groups (kinds). The boards of a kind are interchangeable in a plan."""
    kinds: dict[Device, list[Device]] = {}
    for device in devices:
        kinds.setdefault(replace(device, name="", board=None, link_source="estimated"), []).append(
            device
        )
    return list(kinds.values())


def _check_positive(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not 0 < value < math.inf:
            raise PlanRequestError(f"{name} is {value}; expected a finite number above 0.")


def _check_energy(fleet: Fleet, max_latency_ms: float | None) -> None:
    if max_latency_ms is not None:
        raise PlanRequestError(
            "A plan for the least energy cannot limit the latency. Leave the limit out, or choose "
            "objective latency."
        )
    unknown = [device.name for device in fleet.devices if device.watts_above_idle is None]
    if unknown:
        raise PlanRequestError(
            f"The power of {unknown[0]} is not known; expected active_watts and idle_watts, or a "
            "board preset, for each board in the fleet file."
        )


def _check_request(
    graph: Graph, fleet: Fleet, stages: int | None, cuts: Sequence[int] | None
) -> int | None:
    """Check the arguments of :func:`plan_split`.

    Returns:
        The required number of stages, or ``None`` for any number.

    Raises:
        PlanRequestError: The model cannot be cut as requested, or the fleet has too few boards.
    """
    if not fleet.devices:
        raise PlanRequestError("The fleet has no boards; expected 1 or more.")
    if cuts is not None:
        check_cuts(graph, cuts)
        if stages is not None and stages != len(cuts) + 1:
            raise PlanRequestError(
                f"{len(cuts)} cuts make {len(cuts) + 1} stages, not {stages}. Leave out the "
                "cuts or the number of stages."
            )
        stages = len(cuts) + 1
    if stages is None:
        return None
    if stages < 1:
        raise PlanRequestError(f"{stages} stages were asked for; expected 1 or more.")
    if stages > len(graph.cuts) + 1:
        raise PlanRequestError(
            f"{graph.name} can be cut into at most {len(graph.cuts) + 1} stages; {stages} stages "
            "were asked for. Ask for fewer stages."
        )
    if stages > len(fleet.devices):
        raise PlanRequestError(
            f"{stages} stages need {stages} boards; the fleet has {len(fleet.devices)}. Add "
            "boards or ask for fewer stages."
        )
    return stages


def _whole(nanoseconds: float) -> int:
    """Return the time rounded down to whole nanoseconds.

    Before rounding, 0.001 ns is added, because a quotient may have a rounding error. So 2.9999999
    becomes 3.
    """
    return math.floor(nanoseconds + 1e-3)


def _exact_replicas(capacity: IntArray) -> int:
    """Return the largest number of boards on one stage in the exact search.

    It is the largest number for which there are at most :data:`_MAX_REPLICA_SETS` replica sets. If
    this number is below :data:`_LEAST_REPLICAS`, the result is :data:`_LEAST_REPLICAS`. The result
    is never above the number of boards.
    """
    total = int(capacity.sum())
    counts = replica_set_counts(capacity, min(total, _MOST_REPLICAS))
    return min(total, max(_LEAST_REPLICAS, int(np.flatnonzero(counts <= _MAX_REPLICA_SETS)[-1])))


def _name_boards(plan: Plan) -> str:
    names = [device.name for stage in plan.stages for device in stage.devices]
    return f"{names[0]} alone" if len(names) == 1 else f"{len(names)} boards"
