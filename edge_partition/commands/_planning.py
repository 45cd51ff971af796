"""From options to a plan, and a plan shown: what ``plan``, ``split`` and ``demo`` share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from edge_partition import api
from edge_partition.commands import _show
from edge_partition.commands._options import picture_options
from edge_partition.facts.read_labels import read_labels_file
from edge_partition.planning.fleet import Fleet, equal_fleet, load_fleet
from edge_partition.planning.plan_document import plan_source

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edge_partition.model.load_model import LoadedTflite
    from edge_partition.planning.plan_split import Objective, Plan


def load(
    model: str,
    *,
    weights: str | None = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    quantization: str = "none",
    calibration: Path | None = None,
    **options: Any,
) -> LoadedTflite:
    """Load a MODEL argument with its options, showing the steps."""
    if quantization == "int8" and calibration is None and not model.endswith(".tflite"):
        raise click.UsageError(
            "int8 needs sample inputs to set its scales by: --quantize int8 --calibration IMAGES."
        )
    picture = picture_options(options)
    if picture.labels is not None:
        # Conversion takes a minute; a file that can't be read is told before.
        read_labels_file(picture.labels)
    with _show.step_progress() as step:
        return api.load_model(
            model,
            weights=weights,
            input_shapes=input_shapes,
            quantization=quantization,
            calibration=calibration,
            picture=picture,
            on_step=step,
            on_note=_show.warn,
            **options,
        )


def choose_boards(fleet: Path | None, stages: int | None, cuts: tuple[str, ...]) -> Fleet:
    """Return the boards that the options name; without a fleet ``board-0``, ``board-1``, ...

    Called before the model is loaded: wrong options should not cost a minute.
    """
    if cuts and stages is not None and stages != len(cuts) + 1:
        raise click.UsageError(
            f"{len(cuts)} cuts make {len(cuts) + 1} stages, not {stages}; leave --stages out."
        )
    if fleet is None and stages is None and not cuts:
        raise click.UsageError(
            "Say what to split for: --fleet fleet.toml, or --stages N for N equal boards, "
            "or --cut LAYER."
        )
    if fleet is not None:
        return load_fleet(fleet)
    return equal_fleet(len(cuts) + 1 if cuts else stages or 1)


def make_plan(
    model: LoadedTflite,
    boards: Fleet,
    *,
    objective: Objective,
    stages: int | None,
    cuts: tuple[str, ...] = (),
    use_profiles: bool = False,
    **limits: Any,
) -> Plan:
    """Plan as the options say.

    ``use_profiles`` takes measured figures where a board has a profile of the model: for boards of
    a fleet, not for made-up ones that happen to have the same name. ``limits`` are those of
    :func:`~edge_partition.planning.plan_split.plan_split`.
    """
    with _show.step_progress() as step:
        step("Planning")
        return api.plan_model(
            model,
            boards,
            objective=objective,
            stages=stages,
            cuts=cuts,
            use_profiles=use_profiles,
            on_unusable=lambda error: _show.warn(str(error)),
            **limits,
        )


def measured(model: LoadedTflite, boards: Fleet) -> Fleet:
    """Return the boards with what they measured of the model, as far as they did."""
    return api.use_measured_times(model, boards, on_unusable=lambda error: _show.warn(str(error)))


def show_plan(plan: Plan, sizes: list[int] | None = None) -> None:
    """Print a plan as a table; ``sizes`` are the written files' bytes."""
    console = _show.console()
    narrow = plan.wires.count("float16")
    table = _show.table(
        f"{plan.graph_name} over {plan.boards} board{'s' * (plan.boards != 1)}, best "
        f"{plan.objective}{', float16 between them' * (0 < narrow == len(plan.wires))}",
        *("stage", "board", ">operators", ">file MiB", ">RAM MiB", ">of", ">ms", ">messages ms"),
        *(">link ms", ">KiB out", "ms is", "link is"),
    )
    for index, stage in enumerate(plan.stages):
        size_bytes = stage.cost.storage_bytes if sizes is None else sizes[index]
        wire = " f16" if index < len(plan.wires) and plan.wires[index] == "float16" else ""
        for device, cost in zip(stage.devices, stage.costs, strict=True):
            table.add_row(
                str(index),
                device.name,
                f"{stage.start}-{stage.stop - 1}",
                _show.mib(size_bytes),
                _show.mib(cost.ram_bytes),
                f"{device.ram_mib:g}" if math.isfinite(device.ram_mib) else "any",
                f"{cost.invoke_ms:.2f}",
                f"{cost.handling_ms:.2f}",
                f"{cost.link_ms:.2f}",
                _show.kib(cost.out_bytes) + wire,
                cost.invoke_source,
                cost.link_source,
            )
    console.print(table)
    console.print(
        f"Predicted: {plan.throughput_per_s:.1f} requests/s, {plan.latency_ms:.1f} ms a request "
        f"({_SOURCES[plan_source(plan)]}; memory is estimated)."
    )
    console.print(_explain_pace(plan))
    if plan.unused:
        console.print(f"Not used: {_show.name_some(device.name for device in plan.unused)}.")
    alternative = plan.single_board_alternative
    if alternative is not None:
        board = alternative.stages[0].board_names
        line = (
            f"On {board} alone: {alternative.throughput_per_s:.1f} requests/s, "
            f"{alternative.latency_ms:.1f} ms a request."
        )
        if alternative.score_ms < plan.score_ms:
            line += (
                f" Splitting costs something: {board} alone is the faster way to "
                f"{_goal(plan.objective)}."
            )
        console.print(line)


def _explain_pace(plan: Plan) -> str:
    """Return what sets the pace, and how sure it is that no plan is better."""
    stage = plan.stages[plan.slowest_stage]
    cost = stage.cost
    if cost.transfer_ms > cost.busy_ms:
        what = f"the link of {stage.board_names}, {cost.transfer_ms:.1f} ms a request"
    else:
        what = f"the processor of {stage.board_names}, {cost.busy_ms:.1f} ms a request"
    if len(stage.devices) > 1:
        what += f" over {len(stage.devices)} boards that take requests in turn"
    line = f"What sets the pace: {what}."
    if plan.boards == 1 and plan.unused:
        line += f" One board is the best way to {_goal(plan.objective)}: splitting costs something."
    if plan.gap:
        line += f" The search ended before its proof: no plan is more than {plan.gap:.1%} better."
    return line


_SOURCES = {
    "measured": "from measured times and links",
    "estimated": "estimated from each board's speed and link; `edge-partition profile` measures",
}


def _goal(objective: str) -> str:
    return "serve many requests" if objective == "throughput" else "answer one request"
