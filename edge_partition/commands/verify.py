"""``edge-partition verify``: parts against the whole, bit for bit."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker_config.errors import EdgePartitionError
from broker_config.narrow_floats import FLOAT16_MAX
from broker_config.tensors import encode_tensors
from edge_partition.bundle import read_bundle
from edge_partition.commands import _show
from edge_partition.commands._options import json_option
from edge_partition.load_inputs import expand_inputs, load_samples
from edge_partition.read_labels import find_class
from edge_partition.run_bundle import verify_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_partition.bundle import Bundle
    from edge_partition.run_bundle import Verification


class DifferenceError(EdgePartitionError):
    """The parts give other bits than the whole."""


@click.command("verify")
@click.argument("build", type=click.Path(path_type=Path))
@click.argument("inputs", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--count", type=click.IntRange(2), default=8, show_default=True, help="Random inputs to try."
)
@json_option
def command(build: Path, inputs: tuple[Path, ...], count: int, as_json: bool) -> None:
    """Run the whole model and the chain of its parts in BUILD on the same INPUTS.

    Without INPUTS (images, .npy, .npz or folders) seeded random ones are used. Exit status 1
    where one bit differs. A bundle split with --wire float16 is compared twice: with nothing
    rounded, bit for bit, and as it travels, which shows what the wire costs. Of inputs whose label
    stands in their file's or folder's name (digit-7.png, cat/01.jpg) the accuracy is shown too.
    """
    bundle = read_bundle(build)
    manifest = bundle.manifest
    payloads, classes = [], []
    for file in expand_inputs(inputs):
        for sample in load_samples(file, manifest.inputs):
            payloads.append(encode_tensors(manifest.inputs, sample))
            classes.append(find_class(file, manifest.model.labels))
    with _show.count_progress("Running every part") as on_input:
        verification = verify_bundle(
            bundle, payloads or None, count=count, classes=classes, on_input=on_input
        )
    if as_json:
        _show.print_json({**asdict(verification), "exact": verification.exact})
    else:
        _show.console().print(*_lines(bundle, verification), sep="\n")
    if not verification.exact:
        raise DifferenceError(
            f"The parts in {build} give other bits than the whole, by up to "
            f"{verification.max_difference:g}; expected the same bits. Please report this model."
        )


def _lines(bundle: Bundle, verification: Verification) -> Iterator[str]:
    wire, accuracy = verification.wire, verification.accuracy
    yield (
        f"{verification.identical}/{verification.inputs} identical: whole against "
        f"{len(bundle.manifest.stages)} parts"
        f"{' with nothing rounded between them' * (wire is not None)}, largest difference "
        f"{verification.max_difference:g} (outputs of different inputs differ by up to "
        f"{verification.output_spread:.3g})."
    )
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
