"""A loaded model -> the document of ``edge-partition inspect``, as JSON values."""

from __future__ import annotations

import ast
import math
from dataclasses import asdict
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from edge_partition.facts.describe_ends import ends_document
from edge_partition.facts.model_facts import input_specs, output_specs
from edge_partition.pictures.stage_layers import operators_of_layers
from edge_partition.tflite.find_state import say_state
from edge_partition.tflite.kept_together import find_kept_together

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_partition.model.load_model import LoadedTflite
    from edge_partition.model.wrap_operations import WrappedOperation
    from edge_partition.tflite.graph import Graph, Operator, Tensor

#: Signs of the operations that are written between two values.
_SIGNS = {
    "Add": "+", "Subtract": "−", "Multiply": "×", "Divide": "÷", "TrueDivide": "÷",  # noqa: RUF001
    "FloorDivide": "//", "Mod": "%", "Power": "**", "Maximum": "max", "Minimum": "min",
}  # fmt: skip
_LARGEST_DENOMINATOR = 64
#: A whole number above this keeps its exponent.
_MOST_SPELLED = 1e15


def describe_model(loaded: LoadedTflite, warnings: Sequence[str] = ()) -> dict[str, Any]:
    """Return all facts about a model before it is planned, as JSON values.

    Keys besides the totals:

    - ``tensors``: activations and stored constants of the operators; other keys refer to a tensor
      by its ``index``.
    - ``operators``: in execution order. ``parameters`` is the number of elements of the constants
      that the operator reads, including small constants such as axes, and ``weight_bytes`` their
      size in the file; the totals count a constant of several operators once. ``cut_...`` describe
      the cut after the operator.
    - ``positions``: one for each position ``0 .. n``, before operator ``position``: the tensors
      that a later stage or the caller still needs, and their size, ``live_bytes``. ``cut_name`` is
      the value of ``edge-partition split --cut`` for a cut there; null where no cut is possible.
    - ``kept_together``: operators ``[start, stop)`` that no cut can separate, and the reason.
    - ``state``: a sentence on the state that the model keeps between requests; empty for a model
      without state.
    - ``inputs``, ``outputs``: also their meaning, if known; ``words`` is the meaning as a text.
      ``labels`` is the number of classes with names; ``detections`` as in a manifest.
    - ``notes``: sentences for people on values that were guessed, chosen or rebuilt.
    - ``warnings``: the argument ``warnings``.
    - ``wrapped_operations``: Keras operations that were no layers; ``operators`` are the operators
      that compute them, empty where the converter dropped the name.

    Args:
        loaded: The model.
        warnings: Sentences for people.
    """
    graph = loaded.tflite.graph
    positions = _positions(graph)
    return {
        "name": loaded.name,
        "quantization": loaded.quantization,
        "weights": loaded.weights,
        **_ends(loaded),
        **_totals(graph),
        "cuts": len(graph.cuts),
        "cuts_with_several_tensors": sum(len(positions[cut]["tensors"]) > 1 for cut in graph.cuts),
        "kept_together": [asdict(kept) for kept in find_kept_together(loaded.tflite)],
        "state": say_state(graph),
        "notes": list(loaded.facts.notes),
        "warnings": list(warnings),
        "operators": [
            _operator(graph, op, after)
            for op, after in zip(graph.operators, positions[1:], strict=True)
        ],
        "positions": positions,
        "tensors": [_tensor(graph.tensors[index]) for index in _named_tensors(graph)],
        "wrapped_operations": _wrapped_operations(loaded),
    }


def _positions(graph: Graph) -> list[dict[str, Any]]:
    cut_names = _cut_names(graph)
    allowed = set(graph.cuts)
    return [
        {
            "position": position,
            "live_bytes": graph.boundary_bytes(position),
            "tensors": [tensor.index for tensor in graph.boundary(position)],
            "cut_allowed": position in allowed,
            "cut_name": cut_names[position - 1] if position in allowed else None,
        }
        for position in range(len(graph.operators) + 1)
    ]


def _totals(graph: Graph) -> dict[str, int]:
    count = len(graph.operators)
    constants = {index for op in graph.operators for index in op.constants}
    return {
        "macs": graph.macs(0, count),
        "weight_bytes": graph.weight_bytes(0, count),
        "parameters": sum(math.prod(graph.tensors[index].shape) for index in constants),
        "peak_activation_bytes": graph.peak_activation_bytes(0, count),
    }


def _wrapped_operations(loaded: LoadedTflite) -> list[dict[str, Any]]:
    computed_by = operators_of_layers(loaded.tflite.graph)
    return [
        {
            "layer": operation.layer_name,
            "operation": operation.operation,
            "constants": list(operation.constants),
            "expression": expression(operation),
            "operators": sorted(computed_by.get(operation.layer_name, ())),
        }
        for operation in loaded.wrapped
    ]


def _ends(loaded: LoadedTflite) -> dict[str, Any]:
    """Return ``inputs`` and ``outputs``, with their meaning."""
    graph, facts = loaded.tflite.graph, loaded.facts
    told = ends_document(
        input_specs(graph, facts), output_specs(graph, facts), len(facts.labels), facts.detections
    )
    for key, indexes in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        told[key] = [
            {**_tensor(graph.tensors[index]), **said}
            for index, said in zip(indexes, told[key], strict=True)
        ]
    return told


def expression(operation: WrappedOperation) -> str:
    """Return a wrapped operation as an expression: ``x + 3``, ``x × 1/6``.

    An operation other than arithmetic with one constant becomes a call:
    ``Clip(x_min=0, x_max=6)``.
    """  # noqa: RUF002 -- the sign that the result has
    kind = operation.operation.rpartition(".")[2]
    if kind in _SIGNS and len(operation.constants) == 1:
        name, _, value = operation.constants[0].partition("=")
        sides = {"x1": (_number(value), "x"), "x2": ("x", _number(value))}
        if name in sides:
            return f" {_SIGNS[kind]} ".join(sides[name])
    return f"{kind}({', '.join(operation.constants)})"


def _number(text: str) -> str:
    """Return a number with few digits; as a fraction if a short fraction is equal."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return text
    if float(value).is_integer() and abs(value) < _MOST_SPELLED:
        return str(int(value))
    fraction = Fraction(value).limit_denominator(_LARGEST_DENOMINATOR)
    spelled = f"{fraction.numerator}/{fraction.denominator}"
    return spelled if float(fraction) == value and len(spelled) < len(text) else text


def _operator(graph: Graph, op: Operator, after: dict[str, Any]) -> dict[str, Any]:
    return {
        "index": op.index,
        "kind": op.kind,
        "layer": op.layer,
        "inputs": list(op.inputs),
        "outputs": list(op.outputs),
        "constants": list(op.constants),
        "output_shapes": [list(graph.tensors[index].shape) for index in op.outputs],
        "output_bytes": sum(graph.tensors[index].size_bytes for index in op.outputs),
        "macs": op.macs,
        "parameters": sum(math.prod(graph.tensors[index].shape) for index in op.constants),
        "weight_bytes": op.weight_bytes,
        "cut_allowed": after["cut_allowed"],
        "cut_tensors": len(after["tensors"]),
        "cut_bytes": after["live_bytes"],
    }


def _tensor(tensor: Tensor) -> dict[str, Any]:
    return {
        "index": tensor.index,
        "name": tensor.name,
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
        "size_bytes": tensor.size_bytes,
    }


def _named_tensors(graph: Graph) -> list[int]:
    named = {*graph.inputs, *graph.outputs}
    for op in graph.operators:
        named.update(op.inputs, op.outputs, op.constants)
    return sorted(named)


def _cut_names(graph: Graph) -> list[str | None]:
    """Return a name for the cut after each operator, which ``Graph.position_after`` takes."""
    return [
        graph.layer_names.name_of(op, (graph.tensors[index].name for index in op.outputs))
        for op in graph.operators
    ]
