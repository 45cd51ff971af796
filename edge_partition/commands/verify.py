"""``edge-partition verify``: compare the parts with the whole model, bit for bit."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_core.contract.narrow_floats import FLOAT16_MAX
from edge_core.errors import EdgePartitionError
from edge_core.program.click_program import json_option
from edge_partition import api
from edge_partition.commands import _show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_partition.bundles.bundle import Bundle
    from edge_partition.bundles.verify_bundle import Verification


class DifferenceError(EdgePartitionError):
    """The parts differ from the whole model in at least one bit."""


@click.command("verify")
@click.argument("build", type=click.Path(path_type=Path))
@click.argument("inputs", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--count",
    type=click.IntRange(2),
    metavar="N",
    default=8,
    show_default=True,
    help="The number of made-up inputs that are used if no INPUTS are given.",
)
@json_option
def command(build: Path, inputs: tuple[Path, ...], count: int, as_json: bool) -> None:
    """Run the whole model and the chain of its parts in BUILD on the same INPUTS.

    The exit status is 1 if at least one bit differs. INPUTS are pictures, .npy, .npz, .wav or .csv
    files, or folders of such files. Without INPUTS, the sample of `split --sample` and made-up
    inputs are used.

    If the name of a file or of its folder contains the true label (digit-7.png, cat/01.jpg), the
    accuracy is shown too. A bundle that was split with --wire float16 is compared twice: without
    rounding, bit for bit, and with rounding, to show how much the outputs change. The parts stay
    loaded between inputs, as on boards. For a model that keeps state, the manifest says whether the
    whole model's state is reset for each input.
    """
    bundle = api.read_bundle(build)
    with _show.count_progress("Running every part") as on_input:
        verification = api.verify_bundle(
            bundle, inputs, count=count, on_input=on_input, on_note=_show.warn
        )
    if as_json:
        _show.print_json({**asdict(verification), "exact": verification.exact})
    else:
        verdict, *rest = _lines(bundle, verification)
        _show.say(verdict, bold=True)
        for line in rest:
            _show.say(line)
        if not inputs and bundle.sample() is not None:
            _show.say("The first input is the sample of `split --sample`.")
    if not verification.exact:
        largest = verification.max_difference
        where = f"by up to {largest:g}" if largest else "inside the model, but not in its outputs"
        raise DifferenceError(
            f"The parts in {build} differ from the whole model {where}; expected the same bits. "
            "This is a bug in edge-partition: report it with the model."
        )


def _lines(bundle: Bundle, verification: Verification) -> Iterator[str]:
    wire, accuracy, inside = verification.wire, verification.accuracy, verification.inside
    spread = (
        f"the outputs of different inputs differ by up to {verification.output_spread:.3g}"
        if inside is None
        else "the outputs are equal for all inputs"
    )
    yield (
        f"{verification.identical}/{verification.inputs} identical: the whole model and its "
        f"{_show.count_of(len(bundle.manifest.stages), 'part')}"
        f"{' without rounding between them' * (wire is not None)}, largest difference "
        f"{verification.max_difference:g} ({spread})."
    )
    if inside is not None:
        yield (
            f"Because the outputs are equal, {inside.tensors} tensors inside the model that vary "
            f"with the input were compared too: {inside.identical}/{inside.inputs} identical."
        )
    if verification.state == "reset":
        yield (
            "The model keeps state: the whole model was loaded anew for each input. The parts "
            "stayed loaded, and kept no state of an earlier input."
            if verification.exact
            else "The model keeps state: the whole model was loaded anew for each input, while the "
            "parts stayed loaded."
        )
    elif verification.state == "keep":
        yield (
            "The model's state was kept between inputs: the whole model and the parts got the "
            "inputs in the same order."
        )
    if wire is not None:
        same = (
            ""
            if wire.same_top is None
            else f"; {wire.same_top:.2%} of the inputs have the same best class"
        )
        yield (
            f"With float16 between the parts, {wire.bytes_between:,} bytes per request instead of "
            f"{wire.float32_bytes_between:,}: largest difference {wire.max_difference:g}{same}."
        )
        if wire.clamped:
            yield (
                f"{wire.clamped:,} values were outside float16's range and were sent as float16's "
                f"largest value, {FLOAT16_MAX:,.0f}. Cut the model elsewhere, or split without "
                "--wire float16."
            )
    if accuracy is not None:
        yield (
            f"Accuracy on {accuracy.inputs} labelled inputs: whole model "
            f"{accuracy.whole_right / accuracy.inputs:.2%}, parts "
            f"{accuracy.parts_right / accuracy.inputs:.2%} ({accuracy.whole_right} and "
            f"{accuracy.parts_right} right)."
        )
