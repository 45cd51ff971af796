"""``edge-partition demo``: the whole road on this machine, and proof that the answers are equal."""

from __future__ import annotations

import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker_config.errors import EdgePartitionError
from broker_config.tensors import decode_tensors, encode_tensors
from edge_partition.bundle import deployment_name, write_bundle
from edge_partition.commands import _planning, _show
from edge_partition.commands._options import json_option
from edge_partition.commands.deploy import show_loaded
from edge_partition.cost_model import total_work_macs
from edge_partition.deployment import Deployer
from edge_partition.desk_fleet import DeskFleet
from edge_partition.emulate_boards import board_limits
from edge_partition.fleet import load_fleet
from edge_partition.load_inputs import expand_inputs, load_input
from edge_partition.pipeline import Pipeline
from edge_partition.plan_document import plan_document
from edge_partition.run_bundle import random_payloads, whole_interpreter
from edge_partition.stream_report import StreamReport, top_labels

if TYPE_CHECKING:
    from edge_partition.bundle import Bundle
    from edge_partition.fleet import Fleet
    from edge_partition.load_model import LoadedTflite
    from edge_partition.pipeline import Result
    from edge_partition.plan_split import Plan

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
    "--emulate",
    type=click.Path(path_type=Path),
    metavar="FLEET",
    help="The boards, each held to its share of processor, memory and link.",
)
@click.option("--weights", metavar="FILE|seeded", help="As for split.")
@click.option(
    "--count",
    type=click.IntRange(2),
    default=32,
    show_default=True,
    help="Random inputs, where no INPUTS are given for another model than the digits.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Keep the bundle in this folder."
)
@json_option
def command(
    *,
    model: str,
    inputs: tuple[Path, ...],
    fleet: Path,
    emulate: Path | None,
    weights: str | None,
    count: int,
    output: Path | None,
    as_json: bool,
) -> None:
    """Split MODEL for several boards, start them here, and stream INPUTS through them.

    Without arguments: the digits model and its held-out images from the source checkout. Starts
    a broker and an agent a board as processes of their own, on loopback, and ends them.
    """
    is_digits = model == str(_MODEL)
    if is_digits and not _MODEL.exists():
        raise DemoError(
            f"The digits example is not at {_MODEL}; run the demo in a source checkout, or name a "
            "model: `edge-partition demo MODEL`."
        )
    files = expand_inputs(inputs or ([_IMAGES] if is_digits else []))
    boards = load_fleet(emulate or fleet)
    loaded = _planning.load(
        model, weights=weights, input_shape=None, quantization="none", calibration=None
    )
    plan = _planning.make_plan(loaded, boards, objective="throughput", stages=len(boards.devices))
    with tempfile.TemporaryDirectory(prefix="edge-partition-") as scratch:
        bundle = _write(loaded, plan, output or Path(scratch) / "build")
        manifest = bundle.manifest
        if not as_json:
            _planning.show_plan(plan, [stage.size_bytes for stage in manifest.stages])
        payloads = [
            encode_tensors(manifest.inputs, load_input(file, manifest.inputs)) for file in files
        ] or list(random_payloads(manifest.inputs, count))
        expected, invoke_ms = _run_whole(bundle, payloads)
        limits = None
        if emulate is not None:
            host_gmac_s = total_work_macs(loaded.tflite.graph) / invoke_ms / 1e6
            limits, scale = board_limits(boards, host_gmac_s)
            if not as_json:
                _show_emulation(boards, host_gmac_s, scale)
        with DeskFleet(boards, limits=limits, shape_links=emulate is not None) as desk:
            with Deployer(desk.url) as deployer, _show.board_progress() as on_progress:
                stages = deployer.deploy(bundle, on_progress=on_progress)
            if not as_json:
                _show.console().print(f"\nBroker: {desk.broker_description} at {desk.url}")
                show_loaded(stages)
            results, report = _stream(bundle, desk.url, payloads)

    identical = sum(
        encode_tensors(manifest.outputs, result.outputs) == payload
        for result, payload in zip(results, expected, strict=True)
    )
    judged = _judge(files, results, manifest.model.labels)
    accuracy = sum(judged) / len(judged) if judged else None
    if as_json:
        _show.print_json(
            {
                "plan": plan_document(plan),
                "broker": desk.broker_description,
                "emulated": emulate is not None,
                "inputs": len(payloads),
                "identical": identical,
                "accuracy": accuracy,
                **report.document(),
            }
        )
    else:
        _show.show_report(report)
        console = _show.console()
        console.print(
            f"\n[bold]{identical}/{len(payloads)} identical[/bold] to the whole model run on its "
            "own, bit for bit."
        )
        if accuracy is not None:
            console.print(
                f"Accuracy {accuracy:.2%}: {sum(judged)} of {len(judged)} images the model never "
                "saw in training."
            )
    if len(set(expected)) == 1:
        raise DemoError(
            "The whole model gave one and the same answer for every input, so that being equal to "
            "it shows nothing; use a trained model and different inputs."
        )
    if identical != len(payloads):
        raise DemoError(
            f"{len(payloads) - identical} of {len(payloads)} answers differ from the whole "
            "model's; expected none. Please report this model."
        )


def _write(loaded: LoadedTflite, plan: Plan, path: Path) -> Bundle:
    with _show.count_progress("Slicing") as on_stage:
        return write_bundle(
            path,
            loaded.tflite,
            plan,
            name=loaded.name,
            deployment=deployment_name(loaded.name),
            quantization=loaded.quantization,
            weights=loaded.weights,
            labels=loaded.labels,
            wrapped=loaded.wrapped,
            on_stage=on_stage,
        )


def _run_whole(bundle: Bundle, payloads: list[bytes]) -> tuple[list[bytes], float]:
    """Return the whole model's outputs, and the median milliseconds of one inference."""
    whole = whole_interpreter(bundle)
    outputs, times = [], []
    with _show.count_progress("Whole model", len(payloads)) as update:
        for number, payload in enumerate(payloads):
            started = time.perf_counter()
            outputs.append(whole.invoke(payload))
            times.append((time.perf_counter() - started) * 1000)
            update(number + 1)
    return outputs, statistics.median(times)


def _stream(bundle: Bundle, url: str, payloads: list[bytes]) -> tuple[list[Result], StreamReport]:
    manifest = bundle.manifest
    arrays = [decode_tensors(manifest.inputs, payload) for payload in payloads]
    results = []
    with (
        Pipeline(manifest.deployment, url, timeout_s=120) as pipeline,
        _show.count_progress("Over the boards", len(payloads)) as update,
    ):
        started = time.monotonic()
        for result in pipeline.stream(arrays):
            results.append(result)
            update(len(results))
        return results, StreamReport.of(results, time.monotonic() - started)


def _judge(files: list[Path], results: list[Result], labels: tuple[str, ...]) -> list[bool]:
    """Return which answers are right, of those whose true label is known."""
    judged = []
    for file, result in zip(files, results, strict=False):
        truth, answer = _TRUE_LABEL.fullmatch(file.stem), top_labels(result, labels, 1)
        if truth and answer:
            judged.append(truth[1] == answer[0][0])
    return judged


def _show_emulation(boards: Fleet, host_gmac_s: float, scale: float) -> None:
    slower = "" if scale == 1 else f", every board {1 / scale:.1f} times slower than it says"
    _show.console().print(
        f"Emulating {len(boards.devices)} boards within real limits: one processor here does "
        f"{host_gmac_s:.1f} GMAC/s{slower}."
    )
