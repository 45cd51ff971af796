"""``edge-partition demo``: run every step on this machine, and check the boards' answers.

The answers of the boards must equal the whole model's answers, bit for bit.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_core.contract.tensors import decode_tensors, encode_tensors
from edge_core.mqtt.broker_address import BrokerAddress
from edge_core.program.click_program import json_option
from edge_partition import api
from edge_partition.bundles.run_bundle import made_up_payloads, whole_interpreter
from edge_partition.client.pipeline import Pipeline
from edge_partition.client.stream_report import StreamReport
from edge_partition.commands import _planning, _show
from edge_partition.commands._demo_answers import Comparison, DemoError, Reference, check, compare
from edge_partition.commands._demo_forecast import explain_difference, planned_s
from edge_partition.commands._run_output import show_report
from edge_partition.commands.deploy import show_loaded
from edge_partition.emulation.desk_fleet import DeskFleet
from edge_partition.emulation.limit_board import BoardLimiter
from edge_partition.emulation.measure_emulated import EmulatedBoards, measure_emulated
from edge_partition.inputs.load_inputs import expand_inputs
from edge_partition.inputs.named_requests import named_requests
from edge_partition.planning.fleet import load_fleet
from edge_partition.planning.plan_document import plan_document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_partition.bundles.bundle import Bundle
    from edge_partition.client.result import Result
    from edge_partition.model.load_model import LoadedTflite
    from edge_partition.planning.fleet import Fleet
    from edge_partition.planning.plan import Plan

_EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
_MODEL = _EXAMPLES / "digits" / "digits.keras"
_IMAGES = _EXAMPLES / "digits" / "images"
_FLEET = _EXAMPLES / "three-boards.toml"
#: Longest wait for an answer, in seconds. Emulated boards are slow.
_TIMEOUT_S = 120


@click.command("demo")
@click.argument("model", metavar="[MODEL]", default=str(_MODEL))
@click.argument("inputs", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--fleet",
    type=click.Path(path_type=Path),
    metavar="FILE",
    default=_FLEET,
    help="A fleet.toml file, which describes the boards. Default: three unequal boards.",
)
@click.option(
    "--emulate",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A fleet.toml file, used instead of --fleet. The demo limits each of its boards to the "
    "speed, memory and link in the file.",
)
@click.option(
    "--weights",
    metavar="FILE|seeded",
    help="A file with the weights, or 'seeded' for made-up weights, as for `split`.",
)
@click.option(
    "--count",
    type=click.IntRange(2),
    metavar="N",
    default=32,
    show_default=True,
    help="The number of made-up inputs, if a MODEL is given without INPUTS.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder in which the bundle is kept. Default: the bundle is deleted at the end.",
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
    """Split MODEL for several boards, start the boards here, and stream INPUTS through them.

    MODEL is a name, file or folder as for `edge-partition split`.

    Without arguments, the command uses the digits model of the source checkout, and images that the
    training of this model did not use. The command starts a broker and one agent for each board,
    and ends all of them at the end. Only this machine can reach the broker.
    """
    files = _find_inputs(model, inputs)
    boards = load_fleet(emulate or fleet)
    if emulate is not None:
        # Fails here, before the model is loaded, if this machine can't emulate boards.
        BoardLimiter().close()
    loaded = _planning.load(model, weights=weights)
    emulated = None if emulate is None else _emulate(boards, loaded)
    if emulated is not None and not as_json:
        _show_emulation(emulated)
    boards = boards if emulated is None else emulated.fleet
    plan = _planning.make_plan(loaded, boards, objective="throughput", stages=len(boards.devices))
    with tempfile.TemporaryDirectory(prefix="edge-partition-") as scratch:
        bundle = _write(loaded, plan, output or Path(scratch) / "build")
        if not as_json:
            _show_bundle(bundle, plan, loaded.facts.notes if files else ())
        reference = _run_whole_model(bundle, files, count)
        limits = None if emulated is None else emulated.limits
        with DeskFleet(boards, limits=limits, shape_links=emulated is not None) as desk:
            _deploy(bundle, desk, as_json=as_json)
            results, report = _stream(bundle, desk, reference.payloads)
    comparison = compare(reference, results, bundle.manifest)
    predicted_s = planned_s(plan, comparison.inputs)
    reason = explain_difference(plan, report, processors=len(os.sched_getaffinity(0)))
    if as_json:
        _show.print_json(
            {
                "plan": plan_document(plan),
                "broker": desk.broker_description,
                "emulated": emulated is not None,
                "planned_s": predicted_s,
                "reason": reason,
                "inputs": comparison.inputs,
                "identical": comparison.identical,
                "accuracy": comparison.accuracy,
                **report.document(),
            }
        )
    else:
        show_report(report, predicted_per_s=comparison.inputs / predicted_s, reason=reason)
        _show_comparison(comparison)
    check(reference, comparison)


def _find_inputs(model: str, inputs: tuple[Path, ...]) -> list[Path]:
    """Return the input files. For the digits model, the default is its example images."""
    is_digits = model == str(_MODEL)
    if is_digits and not _MODEL.exists():
        raise DemoError(
            f"The digits example is not at {_MODEL}; run the demo in a source checkout, or name a "
            "model: `edge-partition demo MODEL`."
        )
    return expand_inputs(inputs or ([_IMAGES] if is_digits else []))


def _emulate(boards: Fleet, loaded: LoadedTflite) -> EmulatedBoards:
    with _show.board_progress("Measuring on") as on_progress:
        return measure_emulated(boards, loaded.tflite, on_progress=on_progress)


def _write(loaded: LoadedTflite, plan: Plan, path: Path) -> Bundle:
    with _show.count_progress("Slicing") as on_stage:
        return api.split_model(loaded, plan, path, on_stage=on_stage)


def _run_whole_model(bundle: Bundle, files: Sequence[Path], count: int) -> Reference:
    """Run the whole model on the inputs in ``files``, or on ``count`` made-up inputs."""
    specs = bundle.manifest.inputs
    requests = list(named_requests(files, specs, on_note=_show.warn))
    payloads = [encode_tensors(specs, request.inputs) for request in requests]
    payloads = payloads or made_up_payloads(bundle, count)
    outputs = _invoke(bundle, payloads)
    # One input does not show whether the outputs depend on the input.
    others = [] if len(payloads) > 1 else _invoke(bundle, made_up_payloads(bundle, 2))
    is_constant = len({*outputs, *others}) == 1
    return Reference(tuple(requests), tuple(payloads), tuple(outputs), is_constant)


def _invoke(bundle: Bundle, payloads: Sequence[bytes]) -> list[bytes]:
    whole = whole_interpreter(bundle)
    outputs = []
    with _show.count_progress("Whole model", len(payloads)) as update:
        for number, payload in enumerate(payloads):
            outputs.append(whole.invoke(payload))
            update(number + 1)
    return outputs


def _address(desk: DeskFleet) -> BrokerAddress:
    # The environment is ignored, because an account in the environment is for another broker.
    return BrokerAddress.parse(desk.url, environ={})


def _deploy(bundle: Bundle, desk: DeskFleet, *, as_json: bool) -> None:
    with _show.board_progress() as on_progress:
        stages = api.deploy_bundle(bundle, _address(desk), on_progress=on_progress)
    if not as_json:
        _show.say(f"The boards are connected by {desk.broker_description} at {desk.url}.")
        show_loaded(stages)


def _stream(
    bundle: Bundle, desk: DeskFleet, payloads: Sequence[bytes]
) -> tuple[list[Result], StreamReport]:
    manifest = bundle.manifest
    arrays = [decode_tensors(manifest.inputs, payload) for payload in payloads]
    results = []
    with (
        Pipeline(manifest.deployment, _address(desk), timeout_s=_TIMEOUT_S) as pipeline,
        _show.count_progress("Over the boards", len(payloads)) as update,
    ):
        started = time.monotonic()
        for result in pipeline.stream(arrays):
            results.append(result)
            update(len(results))
        return results, StreamReport.of(results, time.monotonic() - started)


def _show_bundle(bundle: Bundle, plan: Plan, notes: Sequence[str]) -> None:
    sizes = [stage.size_bytes for stage in bundle.manifest.stages]
    _planning.show_plan(plan, sizes, with_prediction=False)
    _show.show_facts(bundle.manifest, notes)


def _show_comparison(comparison: Comparison) -> None:
    _show.say(
        f"{comparison.identical}/{comparison.inputs} identical to the whole model's outputs, bit "
        "for bit.",
        bold=True,
    )
    if comparison.accuracy is not None:
        _show.say(
            f"Accuracy {comparison.accuracy:.2%}: {sum(comparison.judged)} right answers for "
            f"{len(comparison.judged)} images that the training did not use."
        )


def _show_emulation(emulated: EmulatedBoards) -> None:
    scale = emulated.scale
    slower = (
        ""
        if scale == 1
        else f" Every board runs {1 / scale:.1f} times slower than the fleet file says."
    )
    _show.say(
        f"The kernel limits the processor time and memory of "
        f"{_show.count_of(len(emulated.fleet.devices), 'emulated board')}. One processor of this "
        f"machine runs this model at {emulated.host_gmac_s:.1f} GMAC/s.{slower} The plan uses the "
        "times of the parts on this machine, scaled to each board's share of a processor."
    )
