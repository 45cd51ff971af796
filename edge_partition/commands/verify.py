"""``edge-partition verify``: parts against the whole, bit for bit."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from broker_config.errors import EdgePartitionError
from broker_config.tensors import encode_tensors
from edge_partition.bundle import read_bundle
from edge_partition.commands import _show
from edge_partition.commands._options import json_option
from edge_partition.load_inputs import expand_inputs, load_input
from edge_partition.run_bundle import verify_bundle


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
    where one bit differs.
    """
    bundle = read_bundle(build)
    specs = bundle.manifest.inputs
    payloads = (
        [encode_tensors(specs, load_input(file, specs)) for file in expand_inputs(inputs)]
        if inputs
        else None
    )
    with _show.count_progress("Running every part") as on_input:
        verification = verify_bundle(bundle, payloads, count=count, on_input=on_input)
    if as_json:
        _show.print_json({**asdict(verification), "exact": verification.exact})
    else:
        _show.console().print(
            f"{verification.identical}/{verification.inputs} identical: whole against "
            f"{len(bundle.manifest.stages)} parts, largest difference "
            f"{verification.max_difference:g} (outputs of different inputs differ by up to "
            f"{verification.output_spread:.3g})."
        )
    if not verification.exact:
        raise DifferenceError(
            f"The parts in {build} give other bits than the whole, by up to "
            f"{verification.max_difference:g}; expected the same bits. Please report this model."
        )
