"""``edge-partition demo``: the whole road on this machine, and proof that the answers are equal."""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_core.contract.tensors import decode_tensors, encode_tensors
from edge_core.errors import EdgePartitionError
from edge_core.program.click_program import json_option
from edge_partition import api
from edge_partition.answers.answers import describe_answer
from edge_partition.bundles.run_bundle import made_up_payloads, whole_interpreter
from edge_partition.client.pipeline import Pipeline
from edge_partition.client.stream_report import StreamReport
from edge_partition.commands import _planning, _show
from edge_partition.commands.deploy import show_loaded
from edge_partition.emulation.desk_fleet import DeskFleet
from edge_partition.emulation.limit_board import BoardLimiter
from edge_partition.emulation.measure_emulated import measure_emulated
from edge_partition.inputs.load_inputs import expand_inputs
from edge_partition.inputs.named_requests import named_requests
from edge_partition.planning.fleet import load_fleet
from edge_partition.planning.plan_document import plan_document

if TYPE_CHECKING:
    from edge_core.contract.manifest import Manifest
    from edge_partition.bundles.bundle import Bundle
    from edge_partition.client.result import Result
    from edge_partition.emulation.measure_emulated import EmulatedBoards
    from edge_partition.inputs.named_requests import NamedRequest
    from edge_partition.model.load_model import LoadedTflite
    from edge_partition.planning.plan_split import Plan

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
    if emulate is not None:
        # Where this machine can't, nobody waits for the model first.
        BoardLimiter().close()
    loaded = _planning.load(model, weights=weights)
    limits = None
    if emulate is not None:
        with _show.board_progress("Measuring on") as on_progress:
            emulated = measure_emulated(boards, loaded.tflite, on_progress=on_progress)
        boards, limits = emulated.fleet, emulated.limits
        if not as_json:
            _show_emulation(emulated)
    plan = _planning.make_plan(loaded, boards, objective="throughput", stages=len(boards.devices))
    with tempfile.TemporaryDirectory(prefix="edge-partition-") as scratch:
        bundle = _write(loaded, plan, output or Path(scratch) / "build")
        manifest = bundle.manifest
        if not as_json:
            _planning.show_plan(plan, [stage.size_bytes for stage in manifest.stages])
            _show.show_facts(manifest, loaded.facts.notes if files else ())
        requests = list(named_requests(files, manifest.inputs, on_note=_show.warn))
        payloads = [encode_tensors(manifest.inputs, request.inputs) for request in requests]
        payloads = payloads or made_up_payloads(bundle, count)
        expected = _run_whole(bundle, payloads)
        # Of one input nobody knows whether another would be answered otherwise.
        others = [] if len(payloads) > 1 else _run_whole(bundle, made_up_payloads(bundle, 2))
        answers_alike = len({*expected, *others}) == 1
        with DeskFleet(boards, limits=limits, shape_links=emulate is not None) as desk:
            with _show.board_progress() as on_progress:
                stages = api.deploy_bundle(bundle, desk.url, on_progress=on_progress)
            if not as_json:
                _show.console().print(f"\nBroker: {desk.broker_description} at {desk.url}")
                show_loaded(stages)
            results, report = _stream(bundle, desk.url, payloads)

    planned_s = None if emulate is None else _planned_s(plan, len(payloads))
    identical = sum(
        encode_tensors(manifest.outputs, result.outputs) == payload
        for result, payload in zip(results, expected, strict=True)
    )
    judged = _judge(requests, results, manifest)
    accuracy = sum(judged) / len(judged) if judged else None
    if as_json:
        _show.print_json(
            {
                "plan": plan_document(plan),
                "broker": desk.broker_description,
                "emulated": emulate is not None,
                "planned_s": planned_s,
                "inputs": len(payloads),
                "identical": identical,
                "accuracy": accuracy,
                **report.document(),
            }
        )
    else:
        _show.show_report(report)
        _show_comparison(planned_s, identical, judged, len(payloads))
    if answers_alike:
        raise DemoError(
            "The whole model gave one and the same answer for every input, so that being equal to "
            "it shows nothing; use a trained model and different inputs."
        )
    if identical != len(payloads):
        raise DemoError(
            f"{len(payloads) - identical} of {len(payloads)} answers differ from the whole "
            "model's; expected none. Please report this model."
        )


def _planned_s(plan: Plan, requests: int) -> float:
    """Return the seconds of a stream by the plan: the first result, and the others' pace."""
    return (plan.latency_ms + (requests - 1) * plan.bottleneck_ms) / 1000


def _show_comparison(
    planned_s: float | None, identical: int, judged: list[bool], requests: int
) -> None:
    console = _show.console()
    if planned_s is not None:
        console.print(f"By the plan: {planned_s:.2f} s, {requests / planned_s:.1f} requests/s.")
    console.print(
        f"\n[bold]{identical}/{requests} identical[/bold] to the whole model run on its own, bit "
        "for bit."
    )
    if judged:
        console.print(
            f"Accuracy {sum(judged) / len(judged):.2%}: {sum(judged)} of {len(judged)} images the "
            "model never saw in training."
        )


def _write(loaded: LoadedTflite, plan: Plan, path: Path) -> Bundle:
    with _show.count_progress("Slicing") as on_stage:
        return api.split_model(loaded, plan, path, on_stage=on_stage)


def _run_whole(bundle: Bundle, payloads: list[bytes]) -> list[bytes]:
    """Return the whole model's outputs."""
    whole = whole_interpreter(bundle)
    outputs = []
    with _show.count_progress("Whole model", len(payloads)) as update:
        for number, payload in enumerate(payloads):
            outputs.append(whole.invoke(payload))
            update(number + 1)
    return outputs


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


def _judge(requests: list[NamedRequest], results: list[Result], manifest: Manifest) -> list[bool]:
    """Return which answers are right, of those whose true label is known."""
    judged = []
    for request, result in zip(requests, results, strict=False):
        for sample, outputs in request.split(result.outputs, manifest.inputs):
            truth = _TRUE_LABEL.fullmatch(sample.file.stem)
            best = describe_answer(manifest, outputs, top=1).labels
            if truth and best and truth[1] in manifest.model.labels:
                judged.append(truth[1] == best[0].label)
    return judged


def _show_emulation(emulated: EmulatedBoards) -> None:
    count, scale = len(emulated.fleet.devices), emulated.scale
    slower = "" if scale == 1 else f", every board {1 / scale:.1f} times slower than it says"
    _show.console().print(
        f"Emulating {count} board{'s' * (count != 1)} within real limits: one processor here does "
        f"{emulated.host_gmac_s:.1f} GMAC/s of this model{slower}. The plan's times are what its "
        "parts took here, by each board's share."
    )
