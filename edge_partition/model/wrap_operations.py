"""Every Keras operation that is not a layer becomes a layer with a name of its own.

``hard_sigmoid(x) = relu6(x + 3) * (1 / 6)`` adds two nodes to a model's graph that belong to no
layer: they have no stable name, and the converter gives them names such as ``Add_2``.
:func:`wrap_operations` gives each such node a layer that keeps the call's constants.

Terms: a *node* is one call of an operation in the model's graph; a *template* is a call's arguments
with a :class:`~edge_partition.model.call_template.Hole` for each tensor of the graph.
"""

# ruff: noqa: SLF001 -- Keras has no public way to walk a model's nodes.
from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_partition.model import keras_setup  # noqa: F401 -- before Keras

# isort: split
import keras
import numpy as np
from keras import tree
from keras.src.models.functional import Functional

from edge_partition.model.call_template import Hole, make_template
from edge_partition.model.encode_operations import is_array, settings
from edge_partition.model.layer_names import NodeNames
from edge_partition.model.operation_layer import OperationLayer
from edge_partition.model.source_errors import WrapError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class WrappedOperation:
    """An operation that became a layer.

    Attributes:
        layer_name: The layer's name, preceded by the models that it is nested in, with ``/``.
        operation: The operation's class, such as ``keras.src.ops.numpy.Add``.
        constants: Arguments of the call that are not tensors, such as ``x2=3.0``; an array is
            described by dtype and shape.
    """

    layer_name: str
    operation: str
    constants: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.layer_name}: {self.operation}({', '.join(self.constants)})"


def wrap_operations(model: keras.Model) -> keras.Model:
    """Return a model with the same outputs in which every operation is a layer.

    Nested models are wrapped too, at any depth. Layers, and so weights, are shared with ``model``.
    A model without bare operations is returned unchanged.

    The name of a wrapped operation starts with the name of the layer before it:
    ``expanded_conv_3_squeeze_excite_conv_1__add_1`` follows
    ``expanded_conv_3_squeeze_excite_conv_1``. Layers without weights and without a given name
    (``re_lu_7``) are skipped, because Keras numbers them anew in each model. An operation with a
    given name keeps its name.

    Operations inside a layer are not wrapped, such as those in a ``Lambda``, in a user's layer, or
    in a model inside a wrapper such as ``TimeDistributed``. Their tensors have the name of the
    layer.

    Args:
        model: A Functional or Sequential model.

    Raises:
        WrapError: ``model`` is a subclassed model, which has no graph to read.
    """
    if not is_graph(model):
        raise WrapError(
            f"Model {model.name!r} is a subclassed model ({type(model).__name__}); expected "
            "a Functional or Sequential model. Build the model with "
            "keras.Model(inputs, outputs)."
        )
    return _wrap_model(model, {})


def is_graph(model: keras.Model) -> bool:
    """Return whether ``model`` is Functional or Sequential, and its ``call`` is Keras's own."""
    kind = type(model)
    return (isinstance(model, Functional) and kind.call is Functional.call) or (
        isinstance(model, keras.Sequential) and kind.call is keras.Sequential.call
    )


def wrapped_operations(model: keras.Model) -> tuple[WrappedOperation, ...]:
    """Return the operations that :func:`wrap_operations` turned into layers, in graph order."""
    return tuple(_find_wrapped(model, ""))


def _find_wrapped(model: keras.Model, prefix: str) -> Iterator[WrappedOperation]:
    for layer in model.layers:
        if isinstance(layer, OperationLayer):
            kind = type(layer.operation)
            yield WrappedOperation(
                layer_name=f"{prefix}{layer.name}",
                operation=f"{kind.__module__}.{kind.__qualname__}",
                constants=tuple(_describe_constants(layer)),
            )
        elif _is_nested_graph(layer):
            yield from _find_wrapped(layer, f"{prefix}{layer.name}/")


def _describe_constants(layer: OperationLayer) -> Iterator[str]:
    args, kwargs = layer.arguments
    names = list(inspect.signature(layer.operation.call).parameters)
    for position, value in enumerate(args):
        name = names[position] if position < len(names) else f"argument {position}"
        if not isinstance(value, Hole):
            yield f"{name}={_describe(value)}"
    for name, value in kwargs.items():
        if not isinstance(value, Hole):
            yield f"{name}={_describe(value)}"
    for name, value in settings(layer.operation).items():
        yield f"{name}={_describe(value)}"


def _describe(value: Any) -> str:  # noqa: PLR0911 -- one for each type
    if isinstance(value, Hole):
        return f"tensor {value.index}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_describe, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"[{', '.join(map(_describe, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_describe(item)}' for key, item in value.items())}}}"
    if is_array(value):
        array = np.asarray(value)
        return str(array.item()) if array.ndim == 0 else f"{array.dtype}{list(array.shape)}"
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    return repr(value)


def _wrap_model(model: keras.Model, done: dict[int, keras.Model]) -> keras.Model:
    """Return ``model`` wrapped; ``done`` keeps results for models that occur repeatedly."""
    if id(model) not in done:
        wrap = _wrap_sequential if isinstance(model, keras.Sequential) else _wrap_functional
        done[id(model)] = wrap(model, done)
    return done[id(model)]


def _wrap_sequential(model: keras.Sequential, done: dict[int, keras.Model]) -> keras.Sequential:
    layers = [_replace(layer, done) for layer in model.layers]
    if all(new is old for new, old in zip(layers, model.layers, strict=True)):
        return model
    inputs = [_new_input(tensor) for tensor in model.inputs] if model.built else []
    wrapped = keras.Sequential([*inputs, *layers], name=model.name)
    wrapped.trainable = model.trainable
    return wrapped


def _wrap_functional(model: keras.Model, done: dict[int, keras.Model]) -> keras.Model:
    replacements = {
        id(operation): _replace(operation, done)
        for operation in model.operations
        if isinstance(operation, keras.layers.Layer)
    }
    if len(replacements) == len(model.operations) and all(
        replacements[id(operation)] is operation for operation in model.operations
    ):
        return model
    name_node = NodeNames(model)

    def call(operation: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        if id(operation) in replacements:
            return replacements[id(operation)](*args, **kwargs)
        if isinstance(operation, keras.Function):
            # The operations of a function's graph replace the function.
            return operation._run_through_graph((args, kwargs), call_fn=call)
        arguments, tensors = make_template(args, kwargs)
        layer = OperationLayer(operation, arguments, name=name_node(operation, tensors[0]))
        return layer(*tensors)

    inputs = tree.map_structure(_new_input, model._inputs_struct)
    outputs = model._run_through_graph(inputs, call_fn=call)
    wrapped = keras.Model(inputs, outputs, name=model.name)
    wrapped.trainable = model.trainable
    return wrapped


def _replace(layer: keras.layers.Layer, done: dict[int, keras.Model]) -> keras.layers.Layer:
    return _wrap_model(layer, done) if _is_nested_graph(layer) else layer


def _is_nested_graph(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.Model) and is_graph(layer)


def _new_input(tensor: keras.KerasTensor) -> keras.KerasTensor:
    source = tensor._keras_history.operation
    return keras.Input(
        batch_shape=tensor.shape,
        dtype=tensor.dtype,
        sparse=tensor.sparse,
        name=source.name,
        optional=getattr(source, "optional", False),
    )
