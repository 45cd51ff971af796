"""Which of a model's layers are in a stage, as people know them. Pure."""

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
    """Return the layers that operators ``[start, stop)`` compute, each once, in running order.

    The converter fuses operations: a convolution's operator computes the normalisation and the
    activation after it too, and its output's name tells them all, the last one first. An operator
    without such a name is told by its output's.
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
    """Return those of the wrapped operations that operators ``[start, stop)`` compute.

    One whose name the converter kept nowhere is in no stage's.

    Args:
        computed_by: From :func:`operators_of_layers`.
        start: The first operator.
        stop: The position after the last.
        wrapped: The whole model's.
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
    """Return the operators that compute a layer, by each name that :func:`scopes` gives it."""
    found: dict[str, set[int]] = {}
    for op in graph.operators:
        for index in op.outputs:
            for scope in scopes(graph.tensors[index].name):
                found.setdefault(scope, set()).add(op.index)
    return found


def scopes(tensor_name: str) -> Iterator[str]:
    """Yield every name by which ``Graph.position_after`` knows the layers of a tensor."""
    for path in layer_paths(tensor_name):
        parts = path[:-1]
        for start in range(len(parts)):
            for stop in range(start + 1, len(parts) + 1):
                yield "/".join(parts[start:stop])


def _cut(text: str, limit: int) -> str:
    """Return a text's beginning and end, where names of one model differ."""
    if len(text) <= limit:
        return text
    half = (limit - 1) // 2
    return f"{text[: limit - 1 - half]}…{text[-half:]}"
