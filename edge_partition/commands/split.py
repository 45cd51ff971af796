"""``edge-partition split``: model and fleet -> bundle."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_partition import api
from edge_partition.bundles.bundle import PLAN_PICTURE
from edge_partition.commands import _planning, _show
from edge_partition.commands._options import json_option, model_options, plan_limits, plan_options
from edge_partition.facts.describe_ends import ends_document
from edge_partition.model.load_model import AS_GIVEN
from edge_partition.planning.plan_document import plan_document
from edge_partition.tflite.find_state import say_state
from edge_partition.tflite.kept_together import find_kept_together
from edge_partition.tflite.probe_model import probe_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_core.contract.manifest import Manifest
    from edge_partition.model.load_model import LoadedTflite
    from edge_partition.planning.plan_split import Objective
    from edge_partition.tflite.kept_together import KeptTogether


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
@click.option(
    "--state",
    type=click.Choice(["reset", "keep"]),
    default="reset",
    show_default=True,
    help="What becomes of the state of a model that keeps some: each request starts from the "
    "initial state, or goes on from the client's request before, one client at a time.",
)
@click.option(
    "--sample",
    type=click.Path(exists=True, path_type=Path),
    help="A file with an input (picture, .npy, .npz, ...) that the boards try their parts on and "
    "`verify` takes too, instead of made-up values alone.",
)
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
    state: str,
    sample: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Split MODEL over boards and write the bundle.

    MODEL is a Keras application's name (MobileNetV3Large), a .keras, .h5 or .tflite file, a
    SavedModel's folder, or package.module:function.

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
    example = None if sample is None else api.read_sample(loaded, sample)
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
        bundle = api.split_model(
            loaded, plan, output, deployment=name, state=state, sample=example, on_stage=on_stage
        )
    manifest = bundle.manifest
    if as_json:
        _show.print_json(
            {
                "bundle": str(output),
                **_document(loaded, manifest, together),
                "plan": plan_document(plan),
            }
        )
        return
    _planning.show_plan(plan, [stage.size_bytes for stage in manifest.stages])
    _show.show_facts(manifest, loaded.facts.notes)
    _show_operators(loaded, manifest, together, keep=state == "keep")
    _show.console().print(
        f"Wrote {output}/, the deployment {manifest.deployment} (picture: "
        f"{output / PLAN_PICTURE}). Next: `edge-partition verify {output}`, then `edge-partition "
        f"deploy {output}`."
    )


def _document(
    loaded: LoadedTflite, manifest: Manifest, together: Sequence[KeptTogether]
) -> dict[str, Any]:
    """Return what ``--json`` has of the model and its manifest."""
    model = manifest.model
    return {
        "deployment": manifest.deployment,
        "generation": manifest.generation,
        "model": model.name,
        "weights": model.weights,
        "quantization": model.quantization,
        "wrapped_operations": len(loaded.wrapped),
        "custom_operators": sorted(loaded.tflite.custom_operators),
        "kept_together": [asdict(item) for item in together],
        **ends_document(manifest.inputs, manifest.outputs, len(model.labels), model.detections),
        "notes": list(loaded.facts.notes),
        "state": model.state,
    }


def _show_operators(
    loaded: LoadedTflite, manifest: Manifest, together: Sequence[KeptTogether], *, keep: bool
) -> None:
    """Print what is peculiar in the model; ``keep`` is whether a person wants state kept."""
    console = _show.console()
    if loaded.wrapped:
        count = len(loaded.wrapped)
        what = (
            "operation that is no Keras layer was"
            if count == 1
            else ("operations that are no Keras layers were")
        )
        console.print(f"{count} {what} wrapped; `edge-partition inspect` shows the constants.")
    for item in together:
        console.print(str(item), markup=False)
    if manifest.model.state:
        console.print(say_state(loaded.tflite.graph, manifest.model.state), markup=False)
    elif keep:
        console.print("The model keeps no state, so --state keep changes nothing.")
    if loaded.tflite.custom_operators:
        console.print(
            f"Custom operators, as the file has them: "
            f"{', '.join(sorted(loaded.tflite.custom_operators))}.",
            markup=False,
        )
    if loaded.weights == "seeded":
        console.print("The weights are seeded, not trained: labels and scores mean nothing.")
