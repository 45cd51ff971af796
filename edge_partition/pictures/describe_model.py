"""Describe a loaded model as JSON values: the document of ``edge-partition inspect``."""

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

#: By the name of a Keras operation, the sign that a formula has between the two values.
_SIGNS = {
    "Add": "+", "Subtract": "−", "Multiply": "×", "Divide": "÷", "TrueDivide": "÷",  # noqa: RUF001
    "FloorDivide": "//", "Mod": "%", "Power": "**", "Maximum": "max", "Minimum": "min",
}  # fmt: skip
#: Largest denominator of a constant that a formula shows as a fraction.
_LARGEST_DENOMINATOR = 64
#: Whole numbers of this size or more keep the notation of the constant, such as ``1e+20``.
_MOST_SPELLED = 1e15


def describe_model(loaded: LoadedTflite, warnings: Sequence[str] = ()) -> dict[str, Any]:
    """Return the facts about a model that are known without a plan, as JSON values.

    Besides the model's totals, the result has these keys:

    - ``tensors``: activations of the model and stored constants of its operators. Other keys refer
      to a tensor by its ``index``.
    - ``operators``: in execution order. ``parameters`` is the number of elements of the constants
      that the operator reads, including small constants such as axes. ``weight_bytes`` is the size
      of these constants in the file. If several operators read the same constant, the model's
      totals count the constant once. The keys ``cut_allowed``, ``cut_tensors`` and ``cut_bytes``
      describe the cut after the operator.
    - ``positions``: one item for each position from 0 to the number of operators. Position ``p`` is
      before operator ``p``. ``tensors`` are the tensors that cross the position: they exist before
      the position, and a later operator or the caller needs them. ``live_bytes`` is the total size
      of these tensors. ``cut_name`` is the value of ``edge-partition split --cut`` for a cut at the
      position. ``cut_name`` is null if no cut is possible at the position, or if no name finds it.
    - ``kept_together``: ranges of operators ``[start, stop)`` that no cut can separate, each with
      the reason.
    - ``state``: a sentence about the state that the model keeps between requests. It is empty for a
      model without state.
    - ``inputs``, ``outputs``: each tensor with its meaning, if the meaning is known. ``words`` is
      the meaning as text. ``labels`` is the number of classes with names. ``detections`` is the
      layout of detected boxes, as in a manifest.
    - ``notes``: sentences about values that were guessed, chosen or rebuilt.
    - ``warnings``: the argument ``warnings``.
    - ``wrapped_operations``: Keras operations that edge-partition wrapped in layers. ``operators``
      are the indexes of the operators that compute the operation. The list ``operators`` is empty
      if the converter dropped the layer's name.

    Args:
        loaded: The model.
        warnings: Sentences for the key ``warnings``.
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
    """Return the values of ``inputs`` and ``outputs``: each tensor with its meaning, if known."""
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
    """Return a wrapped operation as a formula, such as ``x + 3`` or ``x × 1/6``.

    Arithmetic with one constant becomes a formula with the operation's sign. Other operations
    become a call, such as ``Clip(x_min=0, x_max=6)``.
    """  # noqa: RUF002 -- the sign that the result has
    kind = operation.operation.rpartition(".")[2]
    if kind in _SIGNS and len(operation.constants) == 1:
        name, _, value = operation.constants[0].partition("=")
        sides = {"x1": (_number(value), "x"), "x2": ("x", _number(value))}
        if name in sides:
            return f" {_SIGNS[kind]} ".join(sides[name])
    return f"{kind}({', '.join(operation.constants)})"


def _number(text: str) -> str:
    """Return a shorter text for an equal number, such as ``3`` for ``3.0``, or ``1/6``.

    If there is none, or ``text`` is not a number, ``text`` is returned unchanged.
    """
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
    """Return the value of ``--cut`` that cuts after each operator; None if there is none."""
    return [
        graph.layer_names.name_of(op, (graph.tensors[index].name for index in op.outputs))
        for op in graph.operators
    ]
