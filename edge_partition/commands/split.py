"""``edge-partition split``: model and fleet -> bundle."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_partition.bundle import PLAN_PICTURE, deployment_name, write_bundle
from edge_partition.commands import _planning, _show
from edge_partition.commands._options import json_option, model_options, plan_limits, plan_options
from edge_partition.kept_together import find_kept_together
from edge_partition.load_model import AS_GIVEN
from edge_partition.plan_document import plan_document
from edge_partition.probe_model import probe_model

if TYPE_CHECKING:
    from edge_partition.plan_split import Objective


@click.command("split")
@model_options
@plan_options
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("build"),
    show_default=True,
    help="The bundle's folder; a bundle there is replaced.",
)
@click.option("--name", help="The deployment's name; by default made from the model's.")
@json_option
def command(
    *,
    model: str,
    fleet: Path | None,
    objective: Objective,
    stages: int | None,
    cuts: tuple[str, ...],
    output: Path,
    name: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Split MODEL over boards and write the bundle.

    MODEL is a Keras application's name (MobileNetV3Large), a .keras, .h5 or .tflite file, or
    package.module:function.

    \b
    edge-partition split MobileNetV3Large --fleet fleet.toml -o build
    edge-partition split model.keras --stages 4
    """  # noqa: D301 -- click's mark for a paragraph that keeps its lines
    boards = _planning.choose_boards(fleet, stages, cuts)
    limits = plan_limits(options)
    loaded = _planning.load(model, **options)
    if loaded.quantization == AS_GIVEN:
        # Somebody else's file: what the runtime refuses should not be found out on a board.
        probe_model(loaded.name, loaded.tflite.data)
    together = find_kept_together(loaded.tflite)
    plan = _planning.make_plan(
        loaded,
        boards,
        objective=objective,
        stages=stages,
        cuts=cuts,
        use_profiles=fleet is not None,
        **limits,
    )
    with _show.count_progress("Slicing") as on_stage:
        bundle = write_bundle(
            output,
            loaded.tflite,
            plan,
            name=loaded.name,
            deployment=name or deployment_name(loaded.name),
            quantization=loaded.quantization,
            weights=loaded.weights,
            labels=loaded.labels,
            wrapped=loaded.wrapped,
            on_stage=on_stage,
        )
    manifest = bundle.manifest
    if as_json:
        _show.print_json(
            {
                "bundle": str(output),
                "deployment": manifest.deployment,
                "generation": manifest.generation,
                "model": manifest.model.name,
                "weights": manifest.model.weights,
                "quantization": manifest.model.quantization,
                "wrapped_operations": len(loaded.wrapped),
                "custom_operators": sorted(loaded.tflite.custom_operators),
                "kept_together": [asdict(item) for item in together],
                "plan": plan_document(plan),
            }
        )
        return
    _planning.show_plan(plan, [stage.size_bytes for stage in manifest.stages])
    console = _show.console()
    if loaded.wrapped:
        console.print(
            f"{len(loaded.wrapped)} operations that are no Keras layers were wrapped; "
            "`edge-partition inspect` shows them with their constants."
        )
    for item in together:
        console.print(str(item), markup=False)
    if loaded.tflite.custom_operators:
        console.print(
            f"Custom operators, as the file has them: "
            f"{', '.join(sorted(loaded.tflite.custom_operators))}.",
            markup=False,
        )
    if loaded.weights == "seeded":
        console.print("The weights are seeded, not trained: labels and scores mean nothing.")
    console.print(
        f"Wrote {output}/ (picture: {output / PLAN_PICTURE}). Next: `edge-partition verify "
        f"{output}`, then `edge-partition deploy {output}`."
    )
