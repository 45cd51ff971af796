"""``edge-partition plan``: the best split, shown and not written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_partition.commands import _planning, _show
from edge_partition.commands._options import json_option, model_options, plan_options
from edge_partition.draw import draw_plan
from edge_partition.write_file import write_file

if TYPE_CHECKING:
    from edge_partition.graph import Wire
    from edge_partition.plan_split import Objective


@click.command("plan")
@model_options
@plan_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Also draw it: a .svg file.")
@json_option
def command(
    *,
    model: str,
    fleet: Path | None,
    objective: Objective,
    stages: int | None,
    cuts: tuple[str, ...],
    wire: Wire,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Show the best split of MODEL without writing it."""
    boards = _planning.choose_boards(fleet, stages, cuts)
    loaded = _planning.load(model, **options).on_wire(wire)
    plan = _planning.make_plan(
        loaded,
        boards,
        objective=objective,
        stages=stages,
        cuts=cuts,
        use_profiles=fleet is not None,
    )
    if output is not None:
        write_file(output, draw_plan(plan, loaded.tflite.graph).encode())
    if as_json:
        _show.print_json(_planning.plan_document(plan))
    else:
        _planning.show_plan(plan)
