"""``edge-partition split``: split a model over a fleet, and write the bundle."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_core.program.click_program import json_option
from edge_partition import api
from edge_partition.bundles.bundle import PLAN_PICTURE
from edge_partition.commands import _planning, _show
from edge_partition.commands._options import model_options, plan_limits, plan_options
from edge_partition.facts.describe_ends import ends_document
from edge_partition.model.load_model import AS_GIVEN
from edge_partition.planning.plan_document import plan_document
from edge_partition.tflite.find_state import say_state
from edge_partition.tflite.kept_together import find_kept_together
from edge_partition.tflite.probe_model import probe_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edge_core.contract.manifest import Manifest
    from edge_partition.bundles.bundle import Bundle
    from edge_partition.model.load_model import LoadedTflite
    from edge_partition.planning.plan import Plan
    from edge_partition.planning.plan_split import Objective
    from edge_partition.tflite.kept_together import KeptTogether


@click.command("split")
@model_options
@plan_options
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    default=Path("build"),
    show_default=True,
    help="The folder to write the bundle into. An older bundle in this folder is replaced.",
)
@click.option(
    "--name",
    metavar="NAME",
    help="The deployment's name. Default: a name that is made from the model's name.",
)
@click.option(
    "--state",
    type=click.Choice(["reset", "keep"]),
    default="reset",
    show_default=True,
    help="For a model that keeps state. reset: each request starts from the initial state; keep: "
    "each request starts from the state after the client's previous request. With keep, the boards "
    "serve one client at a time.",
)
@click.option(
    "--sample",
    type=click.Path(exists=True, path_type=Path),
    metavar="FILE",
    help="A file with a real input: a picture, .npy, .npz, .wav or .csv file. The boards test "
    "their stages with this input, and `verify` uses it too. Default: made-up values.",
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
    SavedModel's folder, or a function that returns the model (package.module:function).

    \b
    edge-partition split MobileNetV3Large --fleet fleet.toml -o build
    edge-partition split model.keras --stages 4
    """  # noqa: D301 -- click's mark for a paragraph that keeps its lines
    boards = _planning.choose_boards(fleet, stages, cuts)
    limits = plan_limits(options)
    loaded = _planning.load(model, **options)
    if loaded.quantization == AS_GIVEN:
        # A converted model is known to run. A .tflite file may fail, so try it before boards do.
        probe_model(loaded.name, loaded.tflite.data)
    example = None if sample is None else api.read_sample(loaded, sample)
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
    together = find_kept_together(loaded.tflite)
    if as_json:
        document = _document(loaded, bundle.manifest, together)
        _show.print_json({"bundle": str(output), **document, "plan": plan_document(plan)})
    else:
        _show_split(loaded, plan, bundle, together, keep=state == "keep")


def _document(
    loaded: LoadedTflite, manifest: Manifest, together: Sequence[KeptTogether]
) -> dict[str, Any]:
    """Return the properties of the model and of the manifest, for ``--json``."""
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


def _show_split(
    loaded: LoadedTflite,
    plan: Plan,
    bundle: Bundle,
    together: Sequence[KeptTogether],
    *,
    keep: bool,
) -> None:
    """Print the plan, the model's properties and the bundle's folder.

    ``keep`` tells whether ``--state keep`` was given.
    """
    manifest = bundle.manifest
    _planning.show_plan(plan, [stage.size_bytes for stage in manifest.stages])
    _show.show_facts(manifest, loaded.facts.notes)
    for line in _properties(loaded, manifest, together, keep=keep):
        _show.say(line)
    _show.say(
        f"Wrote {bundle.path}/, the deployment {manifest.deployment} (picture: "
        f"{bundle.path / PLAN_PICTURE}). Next: `edge-partition verify {bundle.path}`, then "
        f"`edge-partition deploy {bundle.path}`."
    )


def _properties(
    loaded: LoadedTflite, manifest: Manifest, together: Sequence[KeptTogether], *, keep: bool
) -> Iterator[str]:
    """Yield a sentence for each property of the model that most models don't have."""
    if loaded.wrapped:
        yield (
            f"{_show.count_of(len(loaded.wrapped), 'operation')} without a Keras layer, each "
            "wrapped into a layer of its own; `edge-partition inspect` shows the constants."
        )
    for item in together:
        yield str(item)
    if manifest.model.state:
        yield say_state(loaded.tflite.graph, manifest.model.state)
    elif keep:
        yield "The model keeps no state, so --state keep changes nothing."
    if loaded.tflite.custom_operators:
        yield f"Custom operators of the file: {', '.join(sorted(loaded.tflite.custom_operators))}."
    if loaded.weights == "seeded":
        yield _show.SEEDED
