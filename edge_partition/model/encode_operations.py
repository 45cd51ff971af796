"""Convert operations and their arguments to JSON values and back, to save and load wrapped models.

The JSON values contain the attributes of an operation, not the arguments of its constructor. Keras
records only those constructor arguments that are plain values.
"""

from __future__ import annotations

import base64
import importlib
import inspect
import re
import sys
from typing import TYPE_CHECKING, Any

from edge_partition.model import keras_setup  # noqa: F401 -- before Keras

# isort: split
import keras
import numpy as np

from edge_partition.model.call_template import Hole
from edge_partition.model.source_errors import WrapError

if TYPE_CHECKING:
    from collections.abc import Callable

#: Attributes of an operation that describe its graph or its construction, not its computation.
_BOOKKEEPING = frozenset(
    {"name", "_inbound_nodes", "_outbound_nodes", "_remat_mode", "_auto_config", "_lock"}
    | {"_auto_config_error_args"}
)


def is_array(value: Any) -> bool:
    """Return whether ``value`` is an array, a variable or a tensor."""
    return isinstance(value, np.ndarray | np.generic | keras.Variable) or keras.ops.is_tensor(value)


def settings(operation: keras.Operation) -> dict[str, Any]:
    """Return the attributes that define what an operation computes, by attribute name."""
    return {key: value for key, value in vars(operation).items() if key not in _BOOKKEEPING}


def encode_operation(operation: keras.Operation) -> dict[str, Any]:
    """Return an operation as JSON values."""
    kind = type(operation)
    return {
        "module": kind.__module__,
        "class_name": kind.__qualname__,
        "registered_name": keras.saving.get_registered_name(kind),
        "name": operation.name,
        "state": encode(settings(operation)),
    }


def decode_operation(config: dict[str, Any]) -> keras.Operation:
    """Return the operation from the JSON values of :func:`encode_operation`.

    Raises:
        WrapError: The operation is neither Keras's own nor registered with Keras.
    """
    kind = _find_class(config["module"], config["class_name"], config["registered_name"])
    operation = keras.Operation.__new__(kind)
    keras.Operation.__init__(operation, name=config["name"])
    for key, value in decode(config["state"]).items():
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
            "keras.saving.register_keras_serializable, and import the module before you load the "
            "model."
        )
    return kind


def _is_bare_operation_class(kind: type) -> bool:
    return issubclass(kind, keras.Operation) and not issubclass(kind, keras.layers.Layer)


def encode(value: Any) -> Any:  # noqa: C901, PLR0911 -- one for each type
    """Return ``value`` as JSON values. A type that JSON lacks becomes an object with a ``kind``.

    Raises:
        WrapError: ``value`` contains a function that Keras cannot find when Keras loads the
            model.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [encode(item) for item in value]
    if isinstance(value, tuple):
        return {"kind": "tuple", "items": [encode(item) for item in value]}
    if isinstance(value, dict):
        return {"kind": "dict", "items": [[encode(k), encode(v)] for k, v in value.items()]}
    if isinstance(value, slice):
        return {
            "kind": "slice",
            "items": [encode(x) for x in (value.start, value.stop, value.step)],
        }
    if isinstance(value, Hole):
        return {"kind": "tensor", "index": value.index}
    if value is Ellipsis:
        return {"kind": "ellipsis"}
    if is_array(value):
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
    """Return JSON values that name a function: its name in Keras, or its registered name."""
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
            f"An operation has the function {module}.{name} as an argument, but Keras does not "
            "know this function, so a saved model could not be loaded. Register the function with "
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
            f"An operation has the function {module}.{name} as an argument, and Keras "
            f"{keras.__version__} lacks the function. Save the model again with this version of "
            "Keras."
        )
    return function


def _is_ops_function(module: str, name: str) -> bool:
    return re.fullmatch(
        r"keras\.src\.(ops|activations)\.\w+", module
    ) is not None and not name.startswith("_")


def decode(value: Any) -> Any:  # noqa: C901, PLR0911 -- one for each type
    """Return the original of ``value``, the JSON values that :func:`encode` returned.

    Raises:
        WrapError: ``value`` contains an unknown function or an unknown kind.
    """
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    match value["kind"]:
        case "tuple":
            return tuple(decode(item) for item in value["items"])
        case "dict":
            return {decode(key): decode(item) for key, item in value["items"]}
        case "slice":
            return slice(*(decode(item) for item in value["items"]))
        case "tensor":
            return Hole(value["index"])
        case "ellipsis":
            return Ellipsis
        case "array":
            data = base64.b64decode(value["base64"])
            # TensorFlow also knows the dtypes that numpy lacks, such as bfloat16.
            dtype = keras.src.backend.tensorflow.core.tf.as_dtype(value["dtype"]).as_numpy_dtype
            return np.frombuffer(data, dtype).reshape(value["shape"]).copy()
        case "function":
            return _find_function(value["module"], value["name"])
        case "keras":
            return keras.saving.deserialize_keras_object(value["value"])
    raise WrapError(
        f"The model contains a value of unknown kind {value['kind']!r}, which a newer version of "
        "edge-partition may have saved. Update edge-partition."
    )
