"""The sentences and table rows that show a plan. The functions are pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edge_partition.commands._show import count_of, kib, mib, name_some
from edge_partition.planning.plan import board_limits, group_stages
from edge_partition.planning.plan_document import plan_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edge_partition.planning.cost_model import StageCost
    from edge_partition.planning.plan import Plan

PLAN_COLUMNS = (
    "stage",
    "board",
    ">operators",
    ">file\nMiB",
    ">RAM\nMiB",
    ">RAM\nlimit",
    ">compute\nms",
    ">messages\nms",
    ">network\nms",
    ">sends\nKiB",
)
_KINDS = (
    ("compute", "invoke_source"),
    ("messages", "handling_source"),
    ("network", "link_source"),
)
_GOALS = {
    "throughput": ("lowers the throughput", "has the higher throughput"),
    "latency": ("raises the latency", "has the lower latency"),
    "energy": ("takes more energy", "takes less energy"),
}
_ENERGY_COLUMN = ">energy\nJ"


def plan_verdict(plan: Plan) -> str:
    """Return the sentence with the predicted throughput, latency and, if known, energy."""
    return f"{plan.graph_name} {_aim(plan)}: {_figures(plan)} (predicted)."


def plan_head(plan: Plan) -> str:
    """Return the sentence with the plan's number of boards, without predicted figures."""
    return f"{plan.graph_name} {_aim(plan)}."


def plan_columns(plan: Plan) -> tuple[str, ...]:
    """Return the table's headers. A plan that minimizes energy also has a column for energy."""
    return (*PLAN_COLUMNS, _ENERGY_COLUMN) if plan.objective == "energy" else PLAN_COLUMNS


def plan_reasons(plan: Plan) -> Iterator[str]:
    """Yield sentences on the slowest part, the unused boards, and the best plan on one board."""
    worse, better = _GOALS[plan.objective]
    yield f"The slowest part: {_slowest_part(plan)}."
    if plan.gap:
        yield (
            "The search did not prove that this plan is the best. No plan is better by more than "
            f"{plan.gap:.1%}."
        )
    yield from _shared_boards(plan)
    if plan.unused:
        yield f"Not used: {name_some(device.name for device in plan.unused)}."
        if plan.boards == 1:
            yield f"One board is best here: a split over more boards {worse}."
    alone = plan.single_board_alternative
    if alone is not None:
        board = alone.stages[0].board_names
        yield (f"For comparison, {board} alone: {_figures(alone)}.")
        if alone.score < plan.score:
            yield f"{board} alone {better}."


def _shared_boards(plan: Plan) -> Iterator[str]:
    """Yield a sentence for each board, or replica set, that serves several stages."""
    for stages in group_stages(plan.stages):
        if len(stages) > 1:
            numbers = ", ".join(str(plan.stages.index(stage)) for stage in stages)
            needs = (
                f"{mib(needed_bytes)} of {mib(available_bytes)} MiB on {device.name}"
                if math.isfinite(available_bytes)
                else f"{mib(needed_bytes)} MiB on {device.name}"
                for device, limit, needed_bytes, available_bytes in board_limits(stages)
                if limit == "RAM"
            )
            period_ms = plan.period_ms(plan.stages.index(stages[0]))
            yield (
                f"Stages {numbers} share {stages[0].board_names}: together they take "
                f"{period_ms:.1f} ms per request at full load. Their memory: {'; '.join(needs)}."
            )


def plan_rows(plan: Plan, sizes: Sequence[int] | None) -> list[list[str]]:
    """Return the table's rows, one for each board of each stage.

    :func:`plan_columns` gives the columns.

    Args:
        plan: The plan.
        sizes: The size of each stage's file in bytes; None: the table shows the plan's estimate.
    """
    return [
        [
            str(index),
            device.name,
            f"{stage.start}-{stage.stop - 1}",
            mib(stage.cost.storage_bytes if sizes is None else sizes[index]),
            mib(cost.ram_bytes),
            f"{device.ram_mib:g}" if math.isfinite(device.ram_mib) else "none",
            f"{cost.invoke_ms:.2f}",
            f"{cost.handling_ms:.2f}",
            f"{cost.link_ms:.2f}",
            kib(cost.out_bytes),
            *([f"{cost.energy_j:.3f}"] if plan.objective == "energy" else []),
        ]
        for index, stage in enumerate(plan.stages)
        for device, cost in zip(stage.devices, stage.costs, strict=True)
    ]


def plan_sources(plan: Plan) -> Iterator[str]:
    """Yield sentences on what the columns mean, and where the times come from."""
    yield (
        "The times are those of one request. Compute: the inference. Messages: processor time to "
        "receive and send. Network: time on the link to the broker."
    )
    yield _sources(plan)
    if plan.energy_j is not None:
        yield (
            "Energy: the board's power above its idle power, times the time for which a request "
            "occupies the board's processors. The fleet file or the board's preset has the power."
        )
    narrow = [index for index, wire in enumerate(plan.wires) if wire == "float16"]
    if narrow and len(narrow) == len(plan.wires):
        yield "Activations travel as float16 between all stages."
    elif narrow:
        yield f"Activations travel as float16 after stage {', '.join(map(str, narrow))}."


def _aim(plan: Plan) -> str:
    boards = len({device.name for stage in plan.stages for device in stage.devices})
    best = "least energy" if plan.objective == "energy" else f"best {plan.objective}"
    return f"over {count_of(boards, 'board')}, {best}"


def _figures(plan: Plan) -> str:
    energy = "" if plan.energy_j is None else f" and {plan.energy_j:.3g} J"
    return (
        f"{plan.throughput_per_s:.1f} requests/s, {plan.latency_ms:.1f} ms{energy} for one request"
    )


def _sources(plan: Plan) -> str:
    memory = "memory is estimated"
    if plan_source(plan) == "measured":
        return f"All times are measured; {memory}."
    measured = []
    for kind, field in _KINDS:
        boards = [
            device.name
            for stage in plan.stages
            for device, cost in zip(stage.devices, stage.costs, strict=True)
            if getattr(cost, field) == "measured"
        ]
        if boards:
            measured.append(f"{kind} on {name_some(boards)}")
    estimate = (
        "estimated from each board's speed and link (`edge-partition profile` measures the times)"
    )
    if not measured:
        return f"All times are {estimate}; {memory} too."
    return f"Measured: {'; '.join(measured)}. The other times are {estimate}; {memory} too."


def _slowest_part(plan: Plan) -> str:
    stage = plan.stages[plan.slowest_stage]
    cost: StageCost = stage.cost
    if len(stage.devices) > 1:
        return f"{stage.board_names} together, a request every {stage.bottleneck_ms:.1f} ms"
    if cost.transfer_ms > cost.busy_ms:
        return f"the link of {stage.board_names}, {cost.transfer_ms:.1f} ms per request"
    return f"the processor of {stage.board_names}, {cost.busy_ms:.1f} ms per request"
