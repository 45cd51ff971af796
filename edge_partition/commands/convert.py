"""``edge-partition convert``: Keras model -> one .tflite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_core.write_file import write_file
from edge_partition.commands import _planning, _show
from edge_partition.commands._options import json_option, model_options


@click.command("convert")
@model_options
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="The .tflite file."
)
@json_option
def command(model: str, output: Path, as_json: bool, **options: Any) -> None:
    """Convert a Keras MODEL to one .tflite file, its constants wrapped and named."""
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
        for note in loaded.facts.notes:
            _show.console().print(note, markup=False)
        _show.console().print(
            f"Wrote {output}: {document['operators']} operators, "
            f"{_show.mib(len(loaded.tflite.data))} MiB, {loaded.quantization} quantization, "
            f"{len(loaded.wrapped)} operations wrapped."
        )
