"""Name each node of a model's graph after the layer that comes before the node.

A node is one call of an operation.
"""

# ruff: noqa: SLF001 -- Keras has no public way to walk a model's nodes.
from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


class NodeNames:
    """Gives each node of a model a unique name. A node is one call of an operation.

    Args:
        model: The model. No node gets the name of a layer of this model.
    """

    def __init__(self, model: keras.Model) -> None:
        self._taken = {
            operation.name for operation in model.operations if not _is_unnamed(operation)
        }
        self._taken |= {layer.name for layer in model.layers}
        self._roots: dict[str, str] = {}

    def __call__(self, operation: keras.Operation, tensor: keras.KerasTensor) -> str:
        """Return a name for a node that calls ``operation`` with ``tensor`` as first tensor."""
        if not _is_unnamed(operation) and operation.name not in self._roots:
            self._roots[operation.name] = operation.name
            return str(operation.name)
        root = self._root(tensor)
        kind = _snake_case(type(operation).__name__)
        number = 1
        while (name := f"{root}__{kind}_{number}") in self._taken:
            number += 1
        self._taken.add(name)
        self._roots[name] = root
        return name

    def _root(self, tensor: keras.KerasTensor) -> str:
        """Return the name of the layer that computes ``tensor``.

        If this layer has no weights and only a default name, the name of an earlier layer is
        returned.
        """
        producer = source = tensor._keras_history.operation
        node_index = tensor._keras_history.node_index
        while True:
            if source.name in self._roots:
                return self._roots[source.name]
            inputs = source._inbound_nodes[node_index].input_tensors
            if not _is_unnamed(source):
                return str(source.name) if inputs or source is producer else str(producer.name)
            if source.weights or len(inputs) != 1:
                return str(producer.name)
            source, node_index, _ = inputs[0]._keras_history


def _is_unnamed(operation: keras.Operation) -> bool:
    """Return whether an operation has Keras's default name: the class's name and a number."""
    stem = _snake_case(type(operation).__name__)
    return re.fullmatch(rf"{re.escape(stem)}(_\d+)?", operation.name) is not None


def _snake_case(name: str) -> str:
    """Return a class name as Keras writes it in a layer's default name: ``re_lu`` for ``ReLU``."""
    words = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()
