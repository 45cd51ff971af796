"""``edge-partition convert``: convert a Keras model to one .tflite file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_core.program.click_program import json_option
from edge_core.write_file import write_file
from edge_partition.commands import _planning, _show
from edge_partition.commands._options import model_options


@click.command("convert")
@model_options
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    required=True,
    help="The .tflite file to write.",
)
@json_option
def command(model: str, output: Path, as_json: bool, **options: Any) -> None:
    """Convert a Keras MODEL to one .tflite file.

    MODEL is a name, file or folder as for `edge-partition split`. Operations that are no Keras
    layers become named layers that keep their constants.
    """
    loaded = _planning.load(model, **options)
    write_file(output, loaded.tflite.data)
    document = {
        "file": str(output),
        "sha256": loaded.tflite.sha256,
        "size_bytes": len(loaded.tflite.data),
        "operators": len(loaded.tflite.graph.operators),
        "wrapped_operations": len(loaded.wrapped),
        "quantization": loaded.quantization,
        "weights": loaded.weights,
        "notes": list(loaded.facts.notes),
    }
    if as_json:
        _show.print_json(document)
    else:
        _show.say(
            f"Wrote {output}: {document['operators']} operators, "
            f"{_show.mib(len(loaded.tflite.data))} MiB, quantization {loaded.quantization}, "
            f"{_show.count_of(len(loaded.wrapped), 'operation')} wrapped.",
            bold=True,
        )
        for note in loaded.facts.notes:
            _show.say(note)
