"""Unroll recurrent layers for the int8 conversion.

TFLite's int8 calibration crashes with a segmentation fault on a ``WHILE`` loop (TensorFlow 2.21).
An unrolled layer has no loop. The steps share the weights, and the layer's results do not change.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Largest number of steps of a loop that is unrolled. Each step of an LSTM becomes about 19
#: operators, whose conversion takes 30 ms.
_MAX_STEPS = 512


@contextlib.contextmanager
def unrolled(model: Any) -> Iterator[None]:
    """Within the block, unroll the recurrent layers of ``model`` that have few steps.

    Args:
        model: A Keras 3 or Keras 2 (``tf_keras``) model.
    """
    changed: list[tuple[Any, str, Any]] = []
    try:
        for layer in _short_loops(model):
            # Keras 2 has a second implementation of recurrent layers for GPUs, with a loop.
            for attribute, value in (("unroll", True), ("_could_use_gpu_kernel", False)):
                if hasattr(layer, attribute):
                    changed.append((layer, attribute, getattr(layer, attribute)))
                    setattr(layer, attribute, value)
        yield
    finally:
        for layer, attribute, value in changed:
            setattr(layer, attribute, value)


def _short_loops(model: Any) -> list[Any]:
    """Return the recurrent layers with few steps, including those in a ``Bidirectional`` layer."""
    found = {}
    for layer in model._flatten_layers():  # noqa: SLF001
        steps = [] if hasattr(layer, "layers") else _steps(layer)
        if steps and all(isinstance(x, int) and x <= _MAX_STEPS for x in steps):
            for inner in layer._flatten_layers():  # noqa: SLF001
                if getattr(inner, "unroll", None) is False:
                    found[id(inner)] = inner
    return list(found.values())


def _steps(layer: Any) -> list[int | None]:
    """Return the number of steps in a layer's input sequence, for each call of the layer."""
    nodes = getattr(layer, "_inbound_nodes", ())
    firsts = [tensors[0] for tensors in map(_tensors, nodes) if tensors]
    return [tensor.shape[1] for tensor in firsts if len(tensor.shape) > 1]


def _tensors(node: Any) -> list[Any]:
    """Return the input tensors of a layer's call."""
    if hasattr(node, "keras_inputs"):  # Keras 2
        return list(node.keras_inputs)
    return list(node.input_tensors)
