"""Compute plans to choose from, for several numbers of boards and several throughputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_partition.planning.plan_split import InfeasiblePlanError, LimitError, plan_split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from edge_partition.planning.fleet import Fleet
    from edge_partition.planning.plan import Plan
    from edge_partition.tflite.graph import Graph

#: Largest number of board counts that are tried. In a larger fleet, each count is about the same
#: factor larger than the count before.
_MOST_COUNTS = 12
#: Number of searches between the plan with the lowest latency and the plan with the highest
#: throughput. Each search demands the same factor more throughput than the search before.
_STEPS_BETWEEN = 6


@dataclass(frozen=True)
class Choice:
    """A plan, and whether another plan dominates it.

    Attributes:
        plan: The plan.
        is_on_front: Whether no other compared plan dominates the plan. A plan dominates another if
            it is at least as good in latency and in throughput, and better in one of them. With
            equal latency and throughput, the plan with fewer boards dominates.
    """

    plan: Plan
    is_on_front: bool


def compare_plans(
    graph: Graph,
    fleet: Fleet,
    *,
    on_plan: Callable[[str], None] = lambda _what: None,
    **limits: Any,
) -> tuple[Choice, ...]:
    """Return plans to choose from, sorted by number of boards, then by latency.

    The plans are the results of these searches:

    - For several numbers of boards, with one stage on each board: the plan with the highest
      throughput, and the plan with the lowest latency.
    - For the whole fleet, with replicas and any number of stages: the plan with the highest
      throughput, and the plan with the lowest latency.
    - For the whole fleet and several throughputs between those of these two plans: the plan with
      the lowest latency that reaches the throughput.

    Args:
        graph: The model.
        fleet: The boards.
        on_plan: Called before each search, with a sentence about the search.
        limits: Keyword arguments of :func:`~edge_partition.planning.plan_split.plan_split`.

    Raises:
        EdgePartitionError: No plan fits the boards, or no plan is within the limits.
    """
    on_plan("Planning over all boards")
    quickest = plan_split(graph, fleet, "latency", **limits)
    busiest = plan_split(graph, fleet, "throughput", **limits)
    plans = [quickest, busiest]
    for step in range(1, _STEPS_BETWEEN + 1):
        on_plan(f"Planning between low latency and high throughput, {step} of {_STEPS_BETWEEN}")
        factor = (busiest.throughput_per_s / quickest.throughput_per_s) ** (step / _STEPS_BETWEEN)
        floor = min(quickest.throughput_per_s * factor, busiest.throughput_per_s)
        try:
            plans.append(
                plan_split(graph, fleet, "latency", **{**limits, "min_throughput_per_s": floor})
            )
        except LimitError:
            break
    for count in _counts(min(len(fleet.devices), len(graph.cuts) + 1)):
        on_plan(f"Planning over {count} board{'s' * (count > 1)}")
        try:
            plans += [
                plan_split(graph, fleet, "throughput", stages=count, **limits),
                plan_split(graph, fleet, "latency", stages=count, **limits),
            ]
        except (InfeasiblePlanError, LimitError):
            continue
    return _sort_out(plans)


def _counts(most: int) -> list[int]:
    if most <= _MOST_COUNTS:
        return list(range(1, most + 1))
    return sorted({round(count) for count in np.geomspace(1, most, _MOST_COUNTS).tolist()})


def _sort_out(plans: Iterable[Plan]) -> tuple[Choice, ...]:
    """Return the plans, sorted by number of boards, then latency, then throughput.

    If these three figures are equal for several plans, the result has only one of the plans.
    """
    distinct: dict[tuple[int, float, float], Plan] = {}
    for plan in plans:
        distinct.setdefault((plan.boards, plan.latency_ms, plan.throughput_per_s), plan)
    kept = [distinct[key] for key in sorted(distinct)]
    return tuple(Choice(plan, not any(_beats(other, plan) for other in kept)) for plan in kept)


def _beats(one: Plan, other: Plan) -> bool:
    """Return whether ``one`` dominates ``other``; see :class:`Choice`."""
    if one.latency_ms > other.latency_ms or one.bottleneck_ms > other.bottleneck_ms:
        return False
    if (one.latency_ms, one.bottleneck_ms) == (other.latency_ms, other.bottleneck_ms):
        return one.boards < other.boards
    return True
