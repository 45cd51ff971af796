"""``edge-partition demo``: the whole road on this machine, and proof that the answers are equal."""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path

import click

from broker_config.errors import EdgePartitionError
from broker_config.tensors import encode_tensors
from edge_partition.bundle import deployment_name, write_bundle
from edge_partition.commands import _planning, _show
from edge_partition.commands._options import json_option
from edge_partition.commands.deploy import show_loaded
from edge_partition.deployment import Deployer
from edge_partition.desk_fleet import DeskFleet
from edge_partition.fleet import load_fleet
from edge_partition.load_inputs import expand_inputs, load_input
from edge_partition.pipeline import Pipeline
from edge_partition.run_bundle import whole_interpreter
from edge_partition.stream_report import StreamReport, top_labels

_EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
_MODEL = _EXAMPLES / "digits" / "digits.keras"
_IMAGES = _EXAMPLES / "digits" / "images"
_FLEET = _EXAMPLES / "three-boards.toml"
#: ``digit-7-0042.png``: the true label stands in the name.
_TRUE_LABEL = re.compile(r"digit-(.+)-\d+")


class DemoError(EdgePartitionError):
    """The demonstration did not show what it set out to show."""


@click.command("demo")
@click.argument("model", default=str(_MODEL))
@click.argument("inputs", nargs=-1, type=click.Path(path_type=Path))
@click.option("--fleet", type=click.Path(path_type=Path), default=_FLEET, help="The boards.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Keep the bundle in this folder."
)
@json_option
def command(
    *, model: str, inputs: tuple[Path, ...], fleet: Path, output: Path | None, as_json: bool
) -> None:
    """Split MODEL for three boards, start them here, and stream INPUTS through them.

    Without arguments: the digits model and its held-out images from the source checkout. Starts
    a broker and an agent a board as processes of their own, on loopback, and ends them.
    """
    if not Path(model).exists() and model == str(_MODEL):
        raise DemoError(
            f"The digits example is not at {_MODEL}; run the demo in a source checkout, or name a "
            "model and inputs: `edge-partition demo MODEL IMAGES`."
        )
    files = expand_inputs(inputs or [_IMAGES])
    boards = load_fleet(fleet)
    loaded = _planning.load(
        model, weights=None, input_shape=None, quantization="none", calibration=None
    )
    plan = _planning.make_plan(loaded, boards, objective="throughput", stages=len(boards.devices))
    with tempfile.TemporaryDirectory(prefix="edge-partition-") as scratch:
        with _planning.slicing_progress() as on_stage:
            bundle = write_bundle(
                output or Path(scratch) / "build",
                loaded.tflite,
                plan,
                name=loaded.name,
                deployment=deployment_name(loaded.name),
                quantization=loaded.quantization,
                weights=loaded.weights,
                labels=loaded.labels,
                on_stage=on_stage,
            )
        manifest = bundle.manifest
        console = _show.console()
        if not as_json:
            _planning.show_plan(plan, [stage.size_bytes for stage in manifest.stages])

        arrays = [load_input(file, manifest.inputs) for file in files]
        whole = whole_interpreter(bundle)
        with _show.count_progress("Whole model", len(files)) as update:
            expected = []
            for number, array in enumerate(arrays):
                expected.append(whole.invoke(encode_tensors(manifest.inputs, array)))
                update(number + 1)
        del whole

        with DeskFleet(boards) as desk:
            with Deployer(desk.url) as deployer, _show.board_progress() as on_progress:
                stages = deployer.deploy(bundle, on_progress=on_progress)
            if not as_json:
                console.print(f"\nBroker: {desk.broker_description} at {desk.url}")
                show_loaded(stages)
            with (
                Pipeline(manifest.deployment, desk.url) as pipeline,
                _show.count_progress("Over the boards", len(files)) as update,
            ):
                results = []
                started = time.monotonic()
                for result in pipeline.stream(arrays):
                    results.append(result)
                    update(len(results))
                report = StreamReport.of(results, time.monotonic() - started)

    identical = sum(
        encode_tensors(manifest.outputs, result.outputs) == payload
        for result, payload in zip(results, expected, strict=True)
    )
    varied = len(set(expected)) > 1
    truths = [_TRUE_LABEL.fullmatch(file.stem) for file in files]
    answers = [top_labels(result, manifest.model.labels, 1) for result in results]
    judged = [
        truth[1] == answer[0][0]
        for truth, answer in zip(truths, answers, strict=True)
        if truth and answer
    ]
    accuracy = sum(judged) / len(judged) if judged else None
    if as_json:
        _show.print_json(
            {
                "plan": _planning.plan_document(plan),
                "broker": desk.broker_description,
                "inputs": len(files),
                "identical": identical,
                "accuracy": accuracy,
                **report.document(),
            }
        )
    else:
        _show.show_report(report)
        console.print(
            f"\n[bold]{identical}/{len(files)} identical[/bold] to the whole model run on its own, "
            "bit for bit."
        )
        if accuracy is not None:
            console.print(
                f"Accuracy {accuracy:.2%}: {sum(judged)} of {len(judged)} images the model never "
                "saw in training."
            )
    if not varied:
        raise DemoError(
            "The whole model gave one and the same answer for every input, so that being equal to "
            "it shows nothing; use a trained model and different inputs."
        )
    if identical != len(files):
        raise DemoError(
            f"{len(files) - identical} of {len(files)} answers differ from the whole model's; "
            "expected none. Please report this model."
        )
