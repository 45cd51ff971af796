"""``edge-partition plan``: show the best split, without writing a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_core.program.click_program import json_option
from edge_core.write_file import write_file
from edge_partition.commands import _planning, _show
from edge_partition.commands._options import model_options, plan_limits, plan_options
from edge_partition.pictures.draw_pareto import draw_pareto
from edge_partition.pictures.draw_plan import draw_plan
from edge_partition.planning.compare_plans import compare_plans
from edge_partition.planning.plan_document import plan_document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_partition.model.load_model import LoadedTflite
    from edge_partition.planning.compare_plans import Choice
    from edge_partition.planning.fleet import Fleet
    from edge_partition.planning.plan import Plan
    from edge_partition.planning.plan_split import Objective

#: Most boards named in a row of the table. The row has the number of the other boards.
_NAMED = 4
_COLUMNS = (">boards", ">stages", ">requests/s", ">latency\nms", "unbeaten", "boards used")


@click.command("plan")
@model_options
@plan_options
@click.option(
    "--pareto",
    is_flag=True,
    help="Show many plans instead of one: for each number of boards, the plan with the lowest "
    "latency and the plan with the highest throughput. If all boards may be used, also show the "
    "compromises between lowest latency and highest throughput.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also draw the plan into this .svg file.",
)
@json_option
def command(
    *,
    model: str,
    fleet: Path | None,
    objective: Objective,
    stages: int | None,
    cuts: tuple[str, ...],
    pareto: bool,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Show the best split of MODEL without writing a bundle.

    MODEL is a name, file or folder as for `edge-partition split`.
    """
    if pareto and (cuts or (fleet is not None and stages is not None)):
        raise click.UsageError(
            "--pareto chooses the cuts and the number of stages itself; leave out --cut, and leave "
            "out --stages if --fleet is given"
        )
    boards = _planning.choose_boards(fleet, stages, cuts)
    limits = plan_limits(options)
    loaded = _planning.load(model, **options)
    if pareto:
        choices = _compare(loaded, boards, use_profiles=fleet is not None, **limits)
        _write_and_show_all(choices, output, as_json=as_json)
        return
    plan = _planning.make_plan(
        loaded,
        boards,
        objective=objective,
        stages=stages,
        cuts=cuts,
        use_profiles=fleet is not None,
        **limits,
    )
    if output is not None:
        write_file(output, draw_plan(plan).encode())
    if as_json:
        _show.print_json(plan_document(plan))
    else:
        _planning.show_plan(plan)


def _compare(
    model: LoadedTflite, boards: Fleet, *, use_profiles: bool, **limits: Any
) -> tuple[Choice, ...]:
    if use_profiles:
        boards = _planning.measured(model, boards)
    with _show.step_progress() as step:
        return compare_plans(model.tflite.graph, boards, on_plan=step, **limits)


def _write_and_show_all(choices: Sequence[Choice], output: Path | None, *, as_json: bool) -> None:
    if output is not None:
        write_file(output, draw_pareto(choices).encode())
    if as_json:
        plans = [
            {
                "boards": choice.plan.boards,
                "is_on_front": choice.is_on_front,
                **plan_document(choice.plan),
            }
            for choice in choices
        ]
        _show.print_json({"model": choices[0].plan.graph_name, "plans": plans})
        return
    quickest = min(choices, key=lambda choice: choice.plan.latency_ms).plan
    busiest = max(choices, key=lambda choice: choice.plan.throughput_per_s).plan
    _show.say(f"Lowest latency: {_achieves(quickest)}.", bold=True)
    _show.say(f"Highest throughput: {_achieves(busiest)}.", bold=True)
    title = f"{choices[0].plan.graph_name}: latency against throughput"
    _show.show_table(title, _COLUMNS, [_row(choice) for choice in choices])
    _show.say(
        "Unbeaten: every other plan in the table has a higher latency, a lower throughput, or the "
        "same figures. For each number of boards, the table has the plans with the lowest latency "
        "and with the highest throughput, with one stage per board. Plans with fewer stages than "
        "boards have replicas. These are the best plans for the whole fleet."
    )


def _achieves(plan: Plan) -> str:
    return (
        f"{plan.latency_ms:.1f} ms for one request, {plan.throughput_per_s:.1f} requests/s on "
        f"{_show.count_of(plan.boards, 'board')}"
    )


def _row(choice: Choice) -> list[str]:
    plan = choice.plan
    return [
        str(plan.boards),
        str(len(plan.stages)),
        f"{plan.throughput_per_s:.2f}",
        f"{plan.latency_ms:.1f}",
        "yes" if choice.is_on_front else "",
        _show.name_some((device.name for stage in plan.stages for device in stage.devices), _NAMED),
    ]
