"""Every Keras operation that is not a layer becomes a layer with a name of its own.

``hard_sigmoid(x) = relu6(x + 3) * (1 / 6)`` puts two nodes into a model's graph that no layer
owns: they have no name a person could find again, and come out of the converter as an anonymous
``Add_2``. :func:`wrap_operations` gives each such node a layer that keeps the call's constants.

Terms: a *node* is one call of an operation in the model's graph; a *template* is a call's arguments
with a :class:`_Hole` wherever a tensor of the graph stood.
"""

# ruff: noqa: SLF001 -- Keras has no public way to walk a model's nodes.
from __future__ import annotations

import base64
import importlib
import inspect
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from edge_core.errors import EdgePartitionError
from edge_partition.model import keras_setup  # noqa: F401 -- before Keras

# isort: split
import keras
import numpy as np
from keras import tree
from keras.src.models.functional import Functional

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PACKAGE = "edge_partition"

#: What an operation knows of the graph it stands in and of its own making, not of what it computes.
_BOOKKEEPING = frozenset(
    {"name", "_inbound_nodes", "_outbound_nodes", "_remat_mode", "_auto_config", "_lock"}
    | {"_auto_config_error_args"}
)


class WrapError(EdgePartitionError):
    """An operation cannot be made a layer, or a wrapped one cannot be saved or loaded."""


@dataclass(frozen=True)
class WrappedOperation:
    """An operation that became a layer.

    Attributes:
        layer_name: The layer's name, after the names of the models it is nested in and ``/``.
        operation: The operation's class, such as ``keras.src.ops.numpy.Add``.
        constants: The call's arguments that are not tensors, such as ``x2=3.0``; arrays as dtype
            and shape.
    """

    layer_name: str
    operation: str
    constants: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.layer_name}: {self.operation}({', '.join(self.constants)})"


@dataclass(frozen=True)
class _Hole:
    """Stands for tensor number ``index`` of a call, counted from the left."""

    index: int


@keras.saving.register_keras_serializable(package=_PACKAGE)
class OperationLayer(keras.layers.Layer):  # type: ignore[misc]
    """A layer that makes one call of an operation.

    The layer is called with the call's tensors alone, in the order in which the template has holes
    for them, and returns what the operation returns, structure included.

    Args:
        operation: The operation; the layer has its own dtype rules switched off, so the
            operation's hold.
        arguments: The call's template, ``(args, kwargs)``.
        name: The layer's name.
    """

    def __init__(
        self, operation: keras.Operation, arguments: tuple[tuple[Any, ...], dict[str, Any]],
        *, name: str, **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(name=name, autocast=False, **options)
        self.supports_masking = True
        self.operation = operation
        # Keras replaces lists and dicts in a layer's attributes by tracking ones; a function's
        # variables it leaves alone.
        self._get_arguments = lambda: arguments
        self.built = True

    @property
    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The call's template, ``(args, kwargs)``."""
        return self._get_arguments()  # type: ignore[no-untyped-call]

    def call(self, *tensors: Any) -> Any:
        """Return the operation's result for ``tensors``."""
        args, kwargs = self._fill(tensors)
        result = self.operation(*args, **kwargs)
        # Ndim returns a number, which the next layer would not take for a tensor.
        return tree.map_structure(
            lambda leaf: keras.ops.convert_to_tensor(leaf) if type(leaf) in (int, float) else leaf,
            result,
        )

    def compute_output_spec(self, *tensors: Any) -> Any:
        """Return the operation's own inference of shape and dtype."""
        args, kwargs = self._fill(tensors)
        return self.operation.compute_output_spec(*args, **kwargs)

    def compute_mask(self, *_: Any, **__: Any) -> None:
        """Return no mask: an operation passes none on."""
        return

    def _fill(self, tensors: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        def fill(leaf: Any) -> Any:
            return tensors[leaf.index] if isinstance(leaf, _Hole) else leaf

        return cast("tuple[tuple[Any, ...], dict[str, Any]]", _map_leaves(fill, self.arguments))

    def get_build_config(self) -> None:
        """Return nothing: there is nothing to build."""
        return

    def get_config(self) -> dict[str, Any]:
        """Return the operation and the template as JSON values."""
        config = super().get_config()
        config.pop("autocast", None)
        return {
            **config,
            "operation": _encode_operation(self.operation),
            "arguments": _encode(self.arguments),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> OperationLayer:
        """Return the layer of :meth:`get_config`'s values.

        Raises:
            WrapError: The operation is neither one of Keras's nor registered with Keras.
        """
        options = dict(config)
        return cls(
            _decode_operation(options.pop("operation")),
            _decode(options.pop("arguments")),
            **options,
        )


def wrap_operations(model: keras.Model) -> keras.Model:
    """Return a model with the same outputs in which every operation is a layer.

    Nested models are wrapped too, at any depth. Layers, and so weights, are shared with ``model``.
    A model without bare operations is returned as it is.

    A wrapped operation is named for the layer before it: ``expanded_conv_3_squeeze_excite_conv_1``
    gives ``expanded_conv_3_squeeze_excite_conv_1__add_1``. Layers without weights that nobody named
    (``re_lu_7``) are passed over, since Keras numbers those anew each time it builds a model. An
    operation that was named on purpose keeps its name.

    What a layer computes inside itself stays its own: operations in a ``Lambda``, in a layer of
    one's own, or in a model that a wrapper such as ``TimeDistributed`` holds are part of that
    layer, and their tensors are named for it.

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
    """Return whether ``model`` is a graph of operations and no more: Functional or Sequential."""
    kind = type(model)
    return (isinstance(model, Functional) and kind.call is Functional.call) or (
        isinstance(model, keras.Sequential) and kind.call is keras.Sequential.call
    )


def wrapped_operations(model: keras.Model) -> tuple[WrappedOperation, ...]:
    """Return the operations that :func:`wrap_operations` made layers of, in the graph's order."""
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
        if not isinstance(value, _Hole):
            yield f"{name}={_describe(value)}"
    for name, value in kwargs.items():
        if not isinstance(value, _Hole):
            yield f"{name}={_describe(value)}"
    for name, value in _settings(layer.operation).items():
        yield f"{name}={_describe(value)}"


def _describe(value: Any) -> str:  # noqa: PLR0911 -- one a type
    if isinstance(value, _Hole):
        return f"tensor {value.index}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_describe, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"[{', '.join(map(_describe, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_describe(item)}' for key, item in value.items())}}}"
    if _is_array(value):
        array = np.asarray(value)
        return str(array.item()) if array.ndim == 0 else f"{array.dtype}{list(array.shape)}"
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    return repr(value)


def _wrap_model(model: keras.Model, done: dict[int, keras.Model]) -> keras.Model:
    """Wrap ``model``; ``done`` holds each nested model's result, so that sharing lasts."""
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
    name_node = _NodeNames(model)

    def call(operation: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        if id(operation) in replacements:
            return replacements[id(operation)](*args, **kwargs)
        if isinstance(operation, keras.Function):
            # A function is a graph in itself: its operations take its place.
            return operation._run_through_graph((args, kwargs), call_fn=call)
        arguments, tensors = _make_template(args, kwargs)
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


def _make_template(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[tuple[Any, ...], dict[str, Any]], list[keras.KerasTensor]]:
    tensors: list[keras.KerasTensor] = []

    def dig(leaf: Any) -> Any:
        if not isinstance(leaf, keras.KerasTensor):
            return leaf
        tensors.append(leaf)
        return _Hole(len(tensors) - 1)

    return _map_leaves(dig, (args, kwargs)), tensors


def _map_leaves(function: Callable[[Any], Any], value: Any) -> Any:
    """Map over tuples, lists, dicts and slices; anything else is a leaf."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_map_leaves(function, item) for item in value))
    if isinstance(value, tuple | list):
        items = [_map_leaves(function, item) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, dict):
        return {key: _map_leaves(function, item) for key, item in value.items()}
    if isinstance(value, slice):
        return slice(*(_map_leaves(function, x) for x in (value.start, value.stop, value.step)))
    return function(value)


class _NodeNames:
    """Names for a model's nodes, each given once."""

    def __init__(self, model: keras.Model) -> None:
        self._taken = {
            operation.name for operation in model.operations if not _is_unnamed(operation)
        }
        self._taken |= {layer.name for layer in model.layers}
        self._roots: dict[str, str] = {}

    def __call__(self, operation: keras.Operation, tensor: keras.KerasTensor) -> str:
        """Return a name for a call of ``operation`` whose first tensor is ``tensor``."""
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
        """Return the name of the layer that ``tensor`` comes from, of an earlier one if better."""
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
    """Return whether Keras made up the name: the class's and a number."""
    stem = _snake_case(type(operation).__name__)
    return re.fullmatch(rf"{re.escape(stem)}(_\d+)?", operation.name) is not None


def _snake_case(name: str) -> str:
    """Spell a class name as Keras does when it makes up a layer's: ``ReLU`` gives ``re_lu``."""
    words = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic | keras.Variable) or keras.ops.is_tensor(value)


def _settings(operation: keras.Operation) -> dict[str, Any]:
    """Return what makes ``operation`` differ from another of its class, except its name."""
    return {key: value for key, value in vars(operation).items() if key not in _BOOKKEEPING}


# An operation is saved by its state, not by its constructor's arguments: Keras keeps those only
# where they are plain values, while the state is there for every class.


def _encode_operation(operation: keras.Operation) -> dict[str, Any]:
    kind = type(operation)
    return {
        "module": kind.__module__,
        "class_name": kind.__qualname__,
        "registered_name": keras.saving.get_registered_name(kind),
        "name": operation.name,
        "state": _encode(_settings(operation)),
    }


def _decode_operation(config: dict[str, Any]) -> keras.Operation:
    kind = _find_class(config["module"], config["class_name"], config["registered_name"])
    operation = keras.Operation.__new__(kind)
    keras.Operation.__init__(operation, name=config["name"])
    for key, value in _decode(config["state"]).items():
        setattr(operation, key, value)
    return operation


def _find_class(module: str, class_name: str, registered_name: str) -> type[keras.Operation]:
    kind = keras.saving.get_registered_object(registered_name)
    # A file must not choose which modules get imported.
    if kind is None and module.split(".", maxsplit=1)[0] == "keras":
        kind = getattr(importlib.import_module(module), class_name, None)
    if not (isinstance(kind, type) and _is_bare_operation_class(kind)):
        raise WrapError(
            f"The model has an operation {module}.{class_name}, which Keras "
            f"{keras.__version__} does not know. Register the operation in its module with "
            "keras.saving.register_keras_serializable, and import this module first."
        )
    return kind


def _is_bare_operation_class(kind: type) -> bool:
    return issubclass(kind, keras.Operation) and not issubclass(kind, keras.layers.Layer)


def _encode(value: Any) -> Any:  # noqa: C901, PLR0911 -- one a type
    """Return ``value`` as JSON values; ``{"kind": ...}`` tells what JSON has no word for."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [_encode(item) for item in value]
    if isinstance(value, tuple):
        return {"kind": "tuple", "items": [_encode(item) for item in value]}
    if isinstance(value, dict):
        return {"kind": "dict", "items": [[_encode(k), _encode(v)] for k, v in value.items()]}
    if isinstance(value, slice):
        return {
            "kind": "slice",
            "items": [_encode(x) for x in (value.start, value.stop, value.step)],
        }
    if isinstance(value, _Hole):
        return {"kind": "tensor", "index": value.index}
    if value is Ellipsis:
        return {"kind": "ellipsis"}
    if _is_array(value):
        array = keras.ops.convert_to_numpy(value)
        return {
            "kind": "array",
            "dtype": array.dtype.name,
            "shape": list(array.shape),
            "base64": base64.b64encode(np.ascontiguousarray(array).tobytes()).decode(),
        }
    if isinstance(value, np.dtype):
        return value.name
    if inspect.isfunction(value):
        return _encode_function(value)
    return {"kind": "keras", "value": keras.saving.serialize_keras_object(value)}


def _encode_function(function: Callable[..., Any]) -> dict[str, Any]:
    """Return a function of Keras by its name, the user's own by the name it is registered as."""
    module, name = function.__module__, function.__qualname__
    if _is_ops_function(module, name) and getattr(sys.modules[module], name, None) is function:
        return {"kind": "function", "module": module, "name": name}
    value = keras.saving.serialize_keras_object(function)
    registered = keras.saving.get_registered_name(function)
    if (
        isinstance(value, dict)
        and value["class_name"] == "function"
        and registered == function.__name__
    ):
        raise WrapError(
            f"An operation takes the function {module}.{name}, which Keras cannot find when it "
            "loads the model. Register the function with "
            "keras.saving.register_keras_serializable."
        )
    return {"kind": "keras", "value": value}


def _find_function(module: str, name: str) -> Callable[..., Any]:
    function = None
    # A file must not choose which modules get imported.
    if _is_ops_function(module, name):
        function = getattr(importlib.import_module(module), name, None)
    if not inspect.isfunction(function):
        raise WrapError(
            f"An operation of the model takes the function {module}.{name}, which Keras "
            f"{keras.__version__} does not have. Save the model again with this version of Keras."
        )
    return function


def _is_ops_function(module: str, name: str) -> bool:
    return re.fullmatch(
        r"keras\.src\.(ops|activations)\.\w+", module
    ) is not None and not name.startswith("_")


def _decode(value: Any) -> Any:  # noqa: C901, PLR0911 -- one a type
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    match value["kind"]:
        case "tuple":
            return tuple(_decode(item) for item in value["items"])
        case "dict":
            return {_decode(key): _decode(item) for key, item in value["items"]}
        case "slice":
            return slice(*(_decode(item) for item in value["items"]))
        case "tensor":
            return _Hole(value["index"])
        case "ellipsis":
            return Ellipsis
        case "array":
            data = base64.b64decode(value["base64"])
            # TensorFlow names the dtypes that numpy lacks, such as bfloat16.
            dtype = keras.src.backend.tensorflow.core.tf.as_dtype(value["dtype"]).as_numpy_dtype
            return np.frombuffer(data, dtype).reshape(value["shape"]).copy()
        case "function":
            return _find_function(value["module"], value["name"])
        case "keras":
            return keras.saving.deserialize_keras_object(value["value"])
    raise WrapError(
        f"The model has an argument of unknown kind {value['kind']!r}; update edge-partition."
    )
