"""Find the names of the layers and of the wrapped operations that a stage computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_core.contract.manifest import (
    MAX_CONSTANT_CHARACTERS,
    MAX_CONSTANTS,
    MAX_LAYER_CHARACTERS,
    WrappedLayer,
)
from edge_partition.tflite.graph import layer_label, layer_paths

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from edge_partition.model.wrap_operations import WrappedOperation
    from edge_partition.tflite.graph import Graph


def layer_names(graph: Graph, start: int, stop: int) -> tuple[str, ...]:
    """Return the names of the layers that operators ``[start, stop)`` compute, in execution order.

    Each name is in the result once. The converter fuses operations: the operator of a convolution
    also computes the normalization and the activation after the convolution. The name of the
    operator's output lists all fused operations in reverse order. If an operator has no layer's
    name, the result has the name of the operator's output.
    """
    names: dict[str, None] = {}
    for op in graph.operators[start:stop]:
        chief = (op.layer,) if op.layer else ()
        fused = [
            layer_label("/".join(path))
            for index in op.outputs
            for path in reversed(layer_paths(graph.tensors[index].name))
            if path[-1]
        ]
        names.update(dict.fromkeys((*chief, *fused)))
    return tuple(dict.fromkeys(_cut(name, MAX_LAYER_CHARACTERS) for name in names))


def wrapped_layers(
    computed_by: Mapping[str, set[int]], start: int, stop: int, wrapped: Iterable[WrappedOperation]
) -> tuple[WrappedLayer, ...]:
    """Return the wrapped operations that operators ``[start, stop)`` compute.

    A wrapped operation is a Keras operation that edge-partition wrapped in a layer, so that the
    operation has a name. If the converter dropped the name, no stage lists the operation.

    Args:
        computed_by: Return value of :func:`operators_of_layers`.
        start: Index of the first operator.
        stop: Index of the last operator, plus 1.
        wrapped: The wrapped operations of the whole model.
    """
    stage = range(start, stop)
    return tuple(
        WrappedLayer(
            _cut(operation.layer_name, MAX_LAYER_CHARACTERS),
            _cut(operation.operation, MAX_LAYER_CHARACTERS),
            tuple(
                _cut(constant, MAX_CONSTANT_CHARACTERS)
                for constant in operation.constants[:MAX_CONSTANTS]
            ),
        )
        for operation in wrapped
        if any(index in stage for index in computed_by.get(operation.layer_name, ()))
    )


def operators_of_layers(graph: Graph) -> dict[str, set[int]]:
    """Return the indexes of the operators that compute each layer, by layer name.

    A layer inside other layers has several names (:func:`scopes`). The result has all names.
    """
    found: dict[str, set[int]] = {}
    for op in graph.operators:
        for index in op.outputs:
            for scope in scopes(graph.tensors[index].name):
                found.setdefault(scope, set()).add(op.index)
    return found


def scopes(tensor_name: str) -> Iterator[str]:
    """Yield the names of all layers in a tensor's name. ``Graph.position_after`` accepts them.

    For the tensor ``block/conv/Relu``, the names are ``block``, ``block/conv`` and ``conv``.
    """
    for path in layer_paths(tensor_name):
        parts = path[:-1]
        for start in range(len(parts)):
            for stop in range(start + 1, len(parts) + 1):
                yield "/".join(parts[start:stop])


def _cut(text: str, limit: int) -> str:
    """Shorten a text to ``limit`` characters, with ``…`` in the middle.

    The end of the text is kept, because the names of a model's layers often differ only at the end.
    """
    if len(text) <= limit:
        return text
    half = (limit - 1) // 2
    return f"{text[: limit - 1 - half]}…{text[-half:]}"
