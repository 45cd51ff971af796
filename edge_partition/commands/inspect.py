"""``edge-partition inspect``: a model's operators and its wrapped constants."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_partition.bundle import read_bundle
from edge_partition.commands import _planning, _show
from edge_partition.commands._options import json_option, model_options

if TYPE_CHECKING:
    from edge_partition.load_model import LoadedTflite


@click.command("inspect")
@model_options
@json_option
def command(model: str, as_json: bool, **options: Any) -> None:
    """Show MODEL's operators, what crosses each cut, and its wrapped constants.

    A bundle's folder shows the whole model in it.
    """
    if Path(model).is_dir():
        model = str(read_bundle(Path(model)).whole_file)
    loaded = _planning.load(model, **options)
    document = _describe(loaded)
    if as_json:
        _show.print_json(document)
        return
    console = _show.console()
    operators = _show.table(
        f"{loaded.name}: {len(document['operators'])} operators",
        *(">#", "operator", "layer", "output", ">MMAC", ">weights KiB"),
        *(">tensors", ">KiB across the cut after it"),
    )
    for operator in document["operators"]:
        operators.add_row(
            str(operator["index"]),
            operator["kind"],
            operator["layer"],
            " ".join("x".join(map(str, shape)) for shape in operator["output_shapes"]),
            f"{operator['macs'] / 1e6:.2f}",
            _show.kib(operator["weight_bytes"]),
            str(operator["cut_tensors"]),
            _show.kib(operator["cut_bytes"]),
        )
    console.print(operators)
    if loaded.wrapped:
        wrapped = _show.table(
            f"{len(loaded.wrapped)} operations that are no Keras layers, wrapped",
            *("layer", "operation", "constants"),
        )
        for operation in document["wrapped_operations"]:
            wrapped.add_row(
                operation["layer"], operation["operation"], ", ".join(operation["constants"])
            )
        console.print(wrapped)
    console.print(
        f"{document['macs'] / 1e6:.1f} million multiply-accumulates, "
        f"{_show.mib(document['weight_bytes'])} MiB of weights, {document['cuts']} possible cuts, "
        f"{document['cuts_with_several_tensors']} of them crossed by more than one tensor."
    )


def _describe(loaded: LoadedTflite) -> dict[str, Any]:
    graph = loaded.tflite.graph
    count = len(graph.operators)
    crossings = [graph.boundary(position) for position in graph.cuts]
    return {
        "name": loaded.name,
        "quantization": loaded.quantization,
        "weights": loaded.weights,
        "inputs": [_tensor(graph.tensors[index]) for index in graph.inputs],
        "outputs": [_tensor(graph.tensors[index]) for index in graph.outputs],
        "macs": graph.macs(0, count),
        "weight_bytes": graph.weight_bytes(0, count),
        "cuts": len(crossings),
        "cuts_with_several_tensors": sum(len(tensors) > 1 for tensors in crossings),
        "operators": [
            {
                "index": operator.index,
                "kind": operator.kind,
                "layer": operator.layer,
                "output_shapes": [list(graph.tensors[index].shape) for index in operator.outputs],
                "macs": operator.macs,
                "weight_bytes": operator.weight_bytes,
                "cut_allowed": operator.index + 1 in set(graph.cuts),
                "cut_tensors": len(graph.boundary(operator.index + 1)),
                "cut_bytes": graph.boundary_bytes(operator.index + 1),
            }
            for operator in graph.operators
        ],
        "wrapped_operations": [
            {
                "layer": operation.layer_name,
                "operation": operation.operation,
                "constants": list(operation.constants),
            }
            for operation in loaded.wrapped
        ],
    }


def _tensor(tensor: Any) -> dict[str, Any]:
    return {"name": tensor.name, "dtype": tensor.dtype, "shape": list(tensor.shape)}
