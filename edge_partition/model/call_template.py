"""Templates of calls: the arguments of a call, with a hole in place of each tensor.

To make the call again, a layer fills the holes of the template with new tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_partition.model import keras_setup  # noqa: F401 -- before Keras

# isort: split
import keras

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Hole:
    """A placeholder for one tensor among the arguments of a call.

    Attributes:
        index: Number of the tensor among the call's tensors, counted from 0, from left to right.
    """

    index: int


def make_template(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[tuple[Any, ...], dict[str, Any]], list[keras.KerasTensor]]:
    """Return the template ``(args, kwargs)`` of a call, and the tensors that the holes replace."""
    tensors: list[keras.KerasTensor] = []

    def replace(leaf: Any) -> Any:
        if not isinstance(leaf, keras.KerasTensor):
            return leaf
        tensors.append(leaf)
        return Hole(len(tensors) - 1)

    return map_leaves(replace, (args, kwargs)), tensors


def map_leaves(function: Callable[[Any], Any], value: Any) -> Any:
    """Return nested tuples, lists, dicts and slices with ``function`` applied to each leaf."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_leaves(function, item) for item in value))
    if isinstance(value, tuple | list):
        items = [map_leaves(function, item) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, dict):
        return {key: map_leaves(function, item) for key, item in value.items()}
    if isinstance(value, slice):
        return slice(*(map_leaves(function, x) for x in (value.start, value.stop, value.step)))
    return function(value)
