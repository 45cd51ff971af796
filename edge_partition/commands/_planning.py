"""From options to a plan, and a plan shown: what ``plan``, ``split`` and ``demo`` share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from edge_partition.apply_profiles import apply_profiles
from edge_partition.commands import _show
from edge_partition.fleet import Fleet, equal_fleet, load_fleet
from edge_partition.load_inputs import expand_inputs, load_samples
from edge_partition.load_model import LoadedTflite, load_model
from edge_partition.plan_split import Objective, Plan, plan_split
from edge_partition.profile_store import ProfileStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from edge_partition.fleet import Source


def load(
    model: str,
    *,
    weights: str | None,
    input_shape: tuple[int, ...] | None,
    quantization: str,
    calibration: Path | None,
) -> LoadedTflite:
    """Load a MODEL argument with its options, showing the steps."""
    with _show.step_progress() as step:
        return load_model(
            model,
            weights=weights,
            input_shape=input_shape,
            quantization=quantization,
            calibration=None if calibration is None else _samples(calibration),
            on_step=step,
        )


def _samples(path: Path) -> Callable[[Any], Iterable[list[Any]]]:
    """Return what reads ``path`` as inputs of a Keras model, in its order."""

    def read(model: Any) -> Iterator[list[Any]]:
        from edge_partition.keras_model import input_specs  # noqa: PLC0415 -- TensorFlow

        specs = input_specs(model)
        for file in expand_inputs([path]):
            for arrays in load_samples(file, specs):
                yield [arrays[spec.name] for spec in specs]

    return read


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
) -> Plan:
    """Plan as the options say.

    ``use_profiles`` takes measured figures where a board has a profile of the model: for boards of
    a fleet, not for made-up ones that happen to have the same name.
    """
    graph = model.tflite.graph
    if use_profiles:
        boards = apply_profiles(
            boards,
            graph,
            model.sha256,
            ProfileStore(),
            on_unusable=lambda error: _show.warn(str(error)),
        )
    positions = sorted({graph.position_after(name) for name in cuts}) if cuts else None
    with _show.step_progress() as step:
        step("Planning")
        return plan_split(
            graph,
            boards,
            objective,
            stages=stages,
            cuts=positions,
        )


def plan_document(plan: Plan) -> dict[str, Any]:
    """Return what ``--json`` says of a plan."""
    return {
        "objective": plan.objective,
        "wire": plan.wire,
        "latency_ms": plan.latency_ms,
        "throughput_per_s": plan.throughput_per_s,
        "bottleneck_ms": plan.bottleneck_ms,
        "source": _source(plan),
        "stages": [
            {
                "index": index,
                "device": stage.device.name,
                "operators": [stage.start, stage.stop],
                "invoke_ms": stage.cost.invoke_ms,
                "receive_ms": stage.cost.receive_ms,
                "send_ms": stage.cost.send_ms,
                "ram_bytes": stage.cost.ram_bytes,
                "storage_bytes": stage.cost.storage_bytes,
                "in_bytes": stage.cost.in_bytes,
                "out_bytes": stage.cost.out_bytes,
                "source": stage.cost.invoke_source,
                "link_source": stage.cost.link_source,
                "memory_source": "estimated",
            }
            for index, stage in enumerate(plan.stages)
        ],
    }


def show_plan(plan: Plan, sizes: list[int] | None = None) -> None:
    """Print a plan as a table; ``sizes`` are the written files' bytes."""
    console = _show.console()
    table = _show.table(
        f"{plan.graph_name} over {len(plan.stages)} board{'s' * (len(plan.stages) != 1)}, "
        f"best {plan.objective}{', float16 between them' * (plan.wire == 'float16')}",
        *("stage", "board", ">operators", ">file MiB", ">RAM MiB", ">of", ">ms", ">KiB out"),
        *("ms is", "link is"),
    )
    for index, stage in enumerate(plan.stages):
        size_bytes = stage.cost.storage_bytes if sizes is None else sizes[index]
        table.add_row(
            str(index),
            stage.device.name,
            f"{stage.start}-{stage.stop - 1}",
            _show.mib(size_bytes),
            _show.mib(stage.cost.ram_bytes),
            f"{stage.device.ram_mib:g}" if math.isfinite(stage.device.ram_mib) else "any",
            f"{stage.cost.invoke_ms:.2f}",
            _show.kib(stage.cost.out_bytes),
            stage.cost.invoke_source,
            stage.cost.link_source,
        )
    console.print(table)
    console.print(
        f"Predicted: {plan.throughput_per_s:.1f} requests/s, {plan.latency_ms:.1f} ms a request "
        f"({_SOURCES[_source(plan)]}; memory is estimated)."
    )
    alternative = plan.single_board_alternative
    if alternative is not None:
        board = alternative.stages[0].device.name
        line = (
            f"On {board} alone: {alternative.throughput_per_s:.1f} requests/s, "
            f"{alternative.latency_ms:.1f} ms a request."
        )
        if _is_better(alternative, plan):
            line += (
                f" Splitting costs something: {board} alone is the faster way to "
                f"{_goal(plan.objective)}."
            )
        console.print(line)


_SOURCES = {
    "measured": "from measured times and links",
    "estimated": "estimated from each board's speed and link; `edge-partition profile` measures",
}


def _source(plan: Plan) -> Source:
    """Return ``measured`` where no time of the plan is an estimate."""
    sources = {
        source
        for stage in plan.stages
        for source in (stage.cost.invoke_source, stage.cost.link_source)
    }
    return "measured" if sources == {"measured"} else "estimated"


def _goal(objective: str) -> str:
    return "serve many requests" if objective == "throughput" else "answer one request"


def _is_better(first: Plan, second: Plan) -> bool:
    if second.objective == "throughput":
        return first.bottleneck_ms < second.bottleneck_ms
    return first.latency_ms < second.latency_ms
