"""``edge-partition verify``: parts against the whole, bit for bit."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_core.contract.narrow_floats import FLOAT16_MAX
from edge_core.errors import EdgePartitionError
from edge_partition import api
from edge_partition.commands import _show
from edge_partition.commands._options import json_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_partition.bundles.bundle import Bundle
    from edge_partition.bundles.verify_bundle import Verification


class DifferenceError(EdgePartitionError):
    """The parts give other bits than the whole."""


@click.command("verify")
@click.argument("build", type=click.Path(path_type=Path))
@click.argument("inputs", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--count", type=click.IntRange(2), default=8, show_default=True, help="Made-up inputs to try."
)
@json_option
def command(build: Path, inputs: tuple[Path, ...], count: int, as_json: bool) -> None:
    """Run the whole model and the chain of its parts in BUILD on the same INPUTS.

    Without INPUTS (images, .npy, .npz or folders) the sample that was given at the split and seeded
    made-up ones are used, within what the model takes. Exit status 1 where one bit differs. The
    parts stay loaded from one input to the next; of a model that keeps state the whole starts as
    the manifest says. A bundle split with --wire float16 is compared twice: with nothing rounded,
    bit for bit, and as it travels, which shows what the wire costs. Of inputs whose label stands in
    their file's or folder's name (digit-7.png, cat/01.jpg) the accuracy is shown too.
    """
    bundle = api.read_bundle(build)
    with _show.count_progress("Running every part") as on_input:
        verification = api.verify_bundle(
            bundle, inputs, count=count, on_input=on_input, on_note=_show.warn
        )
    if as_json:
        _show.print_json({**asdict(verification), "exact": verification.exact})
    else:
        _show.console().print(*_lines(bundle, verification), sep="\n")
        if not inputs and bundle.sample() is not None:
            _show.console().print("The first of them is the sample that was given at the split.")
    if not verification.exact:
        largest = verification.max_difference
        where = f"by up to {largest:g}" if largest else "inside the model, at the same answers"
        raise DifferenceError(
            f"The parts in {build} give other bits than the whole, {where}; expected the same "
            "bits. Please report this model."
        )


def _lines(bundle: Bundle, verification: Verification) -> Iterator[str]:
    wire, accuracy, inside = verification.wire, verification.accuracy, verification.inside
    spread = (
        f"outputs of different inputs differ by up to {verification.output_spread:.3g}"
        if inside is None
        else "the outputs are the same for all of them"
    )
    yield (
        f"{verification.identical}/{verification.inputs} identical: whole against "
        f"{len(bundle.manifest.stages)} parts"
        f"{' with nothing rounded between them' * (wire is not None)}, largest difference "
        f"{verification.max_difference:g} ({spread})."
    )
    if inside is not None:
        yield (
            f"So {inside.tensors} tensors inside the model that vary with the input were compared "
            f"too: {inside.identical}/{inside.inputs} identical."
        )
    if verification.state == "reset":
        yield (
            "The model keeps state: the whole was loaded anew for each input, the parts stayed "
            "loaded, and nothing of the input before remained."
            if verification.exact
            else "The model keeps state: the whole was loaded anew for each input, the parts "
            "stayed loaded."
        )
    elif verification.state == "keep":
        yield "The model's state was kept: whole and parts had the inputs in the same order."
    if wire is not None:
        same = "" if wire.same_top is None else f", {wire.same_top:.2%} have the same top class"
        yield (
            f"Sent as float16, {wire.bytes_between:,} bytes a request between the parts instead of "
            f"{wire.float32_bytes_between:,}: largest difference {wire.max_difference:g}{same}."
        )
        if wire.clamped:
            yield (
                f"{wire.clamped:,} values were beyond float16's range and were sent as its "
                f"largest, {FLOAT16_MAX:,.0f}. Cut elsewhere, or split without --wire float16."
            )
    if accuracy is not None:
        yield (
            f"Accuracy on {accuracy.inputs} labelled inputs: whole "
            f"{accuracy.whole_right / accuracy.inputs:.2%}, parts "
            f"{accuracy.parts_right / accuracy.inputs:.2%} ({accuracy.whole_right} and "
            f"{accuracy.parts_right} right)."
        )
