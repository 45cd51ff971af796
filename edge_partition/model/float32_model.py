"""Change a model in half or double precision to float32.

On most boards, TFLite's builtin operators do not support float16, bfloat16 or float64 activations.
Policies such as ``mixed_float16`` are useful only for training on a GPU.
"""

# ruff: noqa: SLF001 -- Keras has no public way to change a variable's or a tensor's dtype.
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edge_partition.model import keras_setup  # noqa: F401 -- before Keras

# isort: split
import keras
import numpy as np
from keras import layers, tree

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Float dtypes that the operators on boards do not support.
_OTHER_FLOATS = frozenset({"float16", "bfloat16", "float64"})


def make_float32(model: keras.Model) -> tuple[str, ...]:
    """Change ``model`` in place to float32 weights and float32 activations.

    Layers, variables, constants, casts and symbolic tensors are changed, also in nested models.

    Returns:
        Names of the dtypes and policies that were replaced, such as ``mixed_float16``, sorted;
        empty if the model was already in float32.
    """
    found: set[str] = set()
    for layer in model._flatten_layers():
        found |= _change_policy(layer)
        for variable in (*layer._trainable_variables, *layer._non_trainable_variables):
            found |= _change_variable(variable)
        if graph := _graph_of(layer):
            found |= _change_graph(graph)
    if found:
        for layer in model._flatten_layers():
            if isinstance(layer, layers.Normalization):
                _recompute_statistics(layer)
    return tuple(sorted(found))


def _change_policy(layer: keras.layers.Layer) -> set[str]:
    if isinstance(layer, layers.InputLayer):
        # The dtype of an input layer is the dtype of its tensor, not of its policy.
        if layer._dtype not in _OTHER_FLOATS:
            return set()
        found, layer._dtype = {layer._dtype}, "float32"
        return found
    if not {layer.compute_dtype, layer.variable_dtype} & _OTHER_FLOATS:
        return set()
    found = {layer.dtype_policy.name}
    layer.dtype_policy = keras.DTypePolicy("float32")
    # The policy of a model is not reported: only the model's layers compute.
    return set() if isinstance(layer, keras.Model) else found


def _change_variable(variable: keras.Variable) -> set[str]:
    dtype = keras.backend.standardize_dtype(variable._dtype)
    if dtype not in _OTHER_FLOATS:
        return set()
    value = keras.ops.convert_to_numpy(variable.value).astype(np.float32)
    variable._dtype = "float32"
    variable._initialize(value)
    return {dtype}


def _graph_of(layer: keras.layers.Layer) -> keras.Function | None:
    if isinstance(layer, keras.Sequential):
        layer = layer._functional
    return layer if isinstance(layer, keras.Function) else None


def _change_graph(graph: keras.Function) -> set[str]:
    """Change a graph's tensors, constants and operations to float32; return the replaced dtypes.

    The function does not change the graph's layers: :func:`_change_policy` changes the policy of
    each layer.
    """
    found: set[str] = set()
    for node in (node for nodes in graph._nodes_by_depth.values() for node in nodes):
        operation = node.operation
        if isinstance(operation, keras.Function) and not isinstance(operation, keras.Model):
            found |= _change_graph(operation)
        elif not isinstance(operation, keras.layers.Layer):
            found |= _change_operation(operation)
        found |= _change_arguments(node)
        # A nested graph casts its arguments to the dtypes of its own input tensors.
        for tensor in node.outputs:
            found |= _change_tensor(tensor)
    return found


def _change_tensor(tensor: keras.KerasTensor) -> set[str]:
    if tensor.dtype not in _OTHER_FLOATS:
        return set()
    found, tensor._dtype = {tensor.dtype}, "float32"
    return found


def _change_operation(operation: keras.Operation) -> set[str]:
    """Change the dtype attributes of an operation, such as ``Cast``; return the replaced dtypes."""
    found = set()
    for key, value in vars(operation).items():
        if "dtype" in key and isinstance(value, str) and value in _OTHER_FLOATS:
            setattr(operation, key, "float32")
            found.add(value)
    return found


def _change_arguments(node: Any) -> set[str]:
    """Change the constants in a call's arguments to float32; return the replaced dtypes."""
    found = {dtype for value in tree.flatten(_arguments(node)) for dtype in _dtype_of(value)}
    if found:
        arguments = node.arguments
        args, kwargs = tree.map_structure(_to_float32, _arguments(node))
        arguments.args, arguments.kwargs = args, kwargs
        arguments._flat_arguments = tree.flatten((args, kwargs))
    return found


def _arguments(node: Any) -> tuple[Any, Any]:
    return node.arguments.args, node.arguments.kwargs


def _dtype_of(value: Any) -> Iterator[str]:
    """Yield the dtype of ``value`` if float32 must replace the dtype; otherwise yield nothing.

    ``value`` may be a constant, or the name of a dtype, such as ``float16``.
    """
    if isinstance(value, keras.KerasTensor):
        return
    if isinstance(value, str):
        if value in _OTHER_FLOATS:
            yield value
    elif isinstance(value, np.ndarray | np.generic) or keras.ops.is_tensor(value):
        dtype = keras.backend.standardize_dtype(value.dtype)
        if dtype in _OTHER_FLOATS:
            yield dtype


def _to_float32(value: Any) -> Any:
    if not any(_dtype_of(value)):
        return value
    if isinstance(value, str):
        return "float32"
    return np.asarray(keras.ops.convert_to_numpy(value)).astype(np.float32)


def _recompute_statistics(layer: layers.Normalization) -> None:
    """Recompute the layer's mean and variance, which the layer still stores in the old dtype."""
    if layer.input_mean is None:
        layer.finalize_state()
    elif layer.built:
        layer.build(layer._build_shapes_dict["input_shape"])
