"""Replace each Keras operation that is not a layer with a layer that has a name of its own.

For example, ``hard_sigmoid(x) = relu6(x + 3) * (1 / 6)`` adds two nodes to a model's graph that
belong to no layer. Such nodes have no stable names: the converter gives them names such as
``Add_2``. :func:`wrap_operations` replaces each such node with a layer that contains the constants
of the call.

A *node* is one call of an operation in the model's graph. A *template* contains the arguments of a
call, with a :class:`~edge_partition.model.call_template.Hole` in place of each tensor.
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
        layer_name: The layer's name. In a nested model, the path of the layer, such as
            ``encoder/conv_1__add_1``.
        operation: The operation's class, such as ``keras.src.ops.numpy.Add``.
        constants: Arguments of the call that are not tensors, such as ``x2=3.0``. An array is
            described by its dtype and shape.
    """

    layer_name: str
    operation: str
    constants: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.layer_name}: {self.operation}({', '.join(self.constants)})"


def wrap_operations(model: keras.Model) -> keras.Model:
    """Return a model with the same outputs, in which every operation is a layer.

    Nested models are wrapped too, at any depth. The new model uses the layers and the weights of
    ``model``. If every operation is a layer already, ``model`` is returned.

    The name of a wrapped operation begins with the name of the layer before the operation. For
    example, ``expanded_conv_3_squeeze_excite_conv_1__add_1`` comes after the layer
    ``expanded_conv_3_squeeze_excite_conv_1``. A layer that has no weights and only a default name,
    such as ``re_lu_7``, is skipped in favour of an earlier layer, because the number in a default
    name differs from model to model. An operation to which the user gave a name keeps this name.

    Operations inside a layer are not wrapped. Examples are the operations in a ``Lambda``, in a
    user's layer, or in a model inside a wrapper such as ``TimeDistributed``. The tensors of such
    operations are named after the layer that contains the operations.

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
    """Return whether ``model`` is Functional or Sequential and does not override ``call``."""
    kind = type(model)
    return (isinstance(model, Functional) and kind.call is Functional.call) or (
        isinstance(model, keras.Sequential) and kind.call is keras.Sequential.call
    )


def wrapped_operations(model: keras.Model) -> tuple[WrappedOperation, ...]:
    """Return the operations that :func:`wrap_operations` turned into layers, in graph order.

    Args:
        model: The model that :func:`wrap_operations` returned.
    """
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
    """Return ``model`` with wrapped operations.

    Args:
        model: A Functional or Sequential model.
        done: The results of earlier calls, by the ``id`` of the model. A nested model that occurs
            several times is wrapped only once.
    """
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
            # A keras.Function is replaced by the operations of its graph.
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
