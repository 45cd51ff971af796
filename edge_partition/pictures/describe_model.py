"""A loaded model -> the document that ``inspect`` prints, as JSON values."""

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

#: Operations that people write as a sign between two values.
_SIGNS = {
    "Add": "+", "Subtract": "−", "Multiply": "×", "Divide": "÷", "TrueDivide": "÷",  # noqa: RUF001
    "FloorDivide": "//", "Mod": "%", "Power": "**", "Maximum": "max", "Minimum": "min",
}  # fmt: skip
_LARGEST_DENOMINATOR = 64
#: Above, a float is told by its exponent.
_MOST_SPELLED = 1e15


def describe_model(loaded: LoadedTflite, warnings: Sequence[str] = ()) -> dict[str, Any]:
    """Return everything that is known of a model before it is planned, as JSON values.

    Keys, beside the totals:

    - ``tensors``: activations and stored constants that operators name; elsewhere a tensor is
      meant by its ``index``.
    - ``operators``: in execution order. ``parameters`` are the elements, ``weight_bytes`` the bytes
      in the file of the constants that it reads, small ones such as axes among them; constants
      that several operators read count once in the totals. ``cut_...`` speak of the cut after it.
    - ``positions``: one a position ``0 .. n``, before operator ``position``: the tensors that a
      later stage or the caller still needs and their bytes, ``live_bytes``. ``cut_name`` is what
      ``edge-partition split --cut`` takes to cut there; null where that is not possible.
    - ``kept_together``: operators ``[start, stop)`` that no cut can part, and why.
    - ``state``: a sentence on the state that the model keeps between requests; empty: none.
    - ``inputs``, ``outputs``: also what they take and mean, as far as that is known; ``words`` says
      it for people. ``labels`` counts the classes that have names; ``detections`` as in a manifest.
    - ``notes``: sentences for people: what was guessed, chosen or rebuilt.
    - ``warnings``: sentences for people, as given.
    - ``wrapped_operations``: Keras operations that were no layers; ``operators`` are those that
      compute them, none where the converter kept no trace of the name.
    """
    graph = loaded.tflite.graph
    count = len(graph.operators)
    cut_names = _cut_names(graph)
    allowed = set(graph.cuts)
    positions: list[dict[str, Any]] = [
        {
            "position": position,
            "live_bytes": graph.boundary_bytes(position),
            "tensors": [tensor.index for tensor in graph.boundary(position)],
            "cut_allowed": position in allowed,
            "cut_name": cut_names[position - 1] if position in allowed else None,
        }
        for position in range(count + 1)
    ]
    computed_by = operators_of_layers(graph)
    return {
        "name": loaded.name,
        "quantization": loaded.quantization,
        "weights": loaded.weights,
        **_ends(loaded),
        "macs": graph.macs(0, count),
        "weight_bytes": graph.weight_bytes(0, count),
        "parameters": sum(
            math.prod(graph.tensors[index].shape)
            for index in {index for op in graph.operators for index in op.constants}
        ),
        "peak_activation_bytes": graph.peak_activation_bytes(0, count),
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
        "wrapped_operations": [
            {
                "layer": operation.layer_name,
                "operation": operation.operation,
                "constants": list(operation.constants),
                "expression": expression(operation),
                "operators": sorted(computed_by.get(operation.layer_name, ())),
            }
            for operation in loaded.wrapped
        ],
    }


def _ends(loaded: LoadedTflite) -> dict[str, Any]:
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
    """Return a wrapped operation as a person would write it: ``x + 3``, ``x × 1/6``.

    Other operations than arithmetic with one constant are written as a call:
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
    """Return a number without needless digits, as a fraction where it is exactly one."""
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
    """Return for each operator a name that ``Graph.position_after`` takes for the cut after it."""
    return [
        graph.layer_names.name_of(op, (graph.tensors[index].name for index in op.outputs))
        for op in graph.operators
    ]
