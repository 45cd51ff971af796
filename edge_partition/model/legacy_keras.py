"""Read models of Keras 2: of TensorFlow's own Keras up to 2.15, and of the package ``tf-keras``.

Keras 3 refuses most files of Keras 2, or computes different results. The package ``tf-keras`` is
the maintained version of Keras 2.
"""

# ruff: noqa: SLF001 -- Keras has no public way to walk a model's layers.
from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import math
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

from edge_core.contract.manifest import TensorSpec
from edge_partition.model import keras_setup  # noqa: F401 -- before TensorFlow
from edge_partition.model.find_reason import find_reason
from edge_partition.model.settle_shapes import format_shape, settle_shapes
from edge_partition.model.source_errors import InputShapeError, ModelSourceError
from edge_partition.model.traced_model import TracedModel, check_traceable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from edge_partition.model.wrap_operations import WrappedOperation

#: Advice for a user whose file needs Keras 2.
KERAS2_ADVICE = (
    "Install Keras 2 with `pip install tf-keras` (with tensorflow-cpu: `pip install --no-deps "
    "tf-keras`). Or load the model where it was made, save it as a SavedModel with "
    "model.export(FOLDER), and give the folder."
)

_OTHER_FLOATS = frozenset({"float16", "bfloat16", "float64"})
_OPERATION_LAYERS = frozenset({"TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer"})


def keras_version(path: str) -> str:
    """Return the version of Keras that wrote a model file; ``""`` if the version is unknown."""
    if not zipfile.is_zipfile(path):
        return _read_entry(path, "", "keras_version")
    try:
        return str(json.loads(_read_entry(path, "metadata.json", "")).get("keras_version", ""))
    except ValueError:
        return ""


def changed_function(path: str) -> str:
    """Return the function in a Keras 2 file that Keras 3 computes differently; ``""`` if none.

    ``hard_sigmoid`` is ``clip(x / 5 + 1 / 2, 0, 1)`` in Keras 2, and ``relu6(x + 3) / 6`` in Keras
    3.
    """
    config = _read_entry(path, "config.json", "model_config")
    return "hard_sigmoid" if '"hard_sigmoid"' in config else ""


def _read_entry(path: str, entry: str, attribute: str) -> str:
    """Return an entry of a ``.keras`` file, or an attribute of an HDF5 file; ``""`` if absent."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return archive.read(entry).decode(errors="replace")
        h5py = importlib.import_module("h5py")  # a dependency of Keras
        with h5py.File(path, "r") as file:
            value = file.attrs.get(attribute, "")
            return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return ""


def is_keras2_version(version: str) -> bool:
    """Return whether ``version``, such as ``2.15.0``, is a version of Keras 2 or earlier."""
    return version.split(".", maxsplit=1)[0] in {"0", "1", "2"}


def is_installed() -> bool:
    """Return whether Keras 2 can be imported."""
    return importlib.util.find_spec("tf_keras") is not None


def is_keras2_model(model: Any) -> bool:
    """Return whether ``model`` is a Keras 2 model."""
    return any(
        kind.__module__.startswith("tf_keras.") and kind.__name__ == "Model"
        for kind in type(model).__mro__
    )


def read_keras2_file(path: str) -> Any:
    """Return the Keras 2 model in a file, without compiling the model.

    Raises:
        ImportError: ``tf_keras`` is not installed.
        Exception: Any error of ``tf_keras``.
    """
    tf_keras = importlib.import_module("tf_keras")
    return tf_keras.models.load_model(path, compile=False)


def trace_keras2(
    source: str, model: Any, input_shapes: Mapping[str, Sequence[int]] | None = None
) -> tuple[TracedModel, tuple[str, ...]]:
    """Return a Keras 2 model as a traced float32 model with fixed shapes and a batch of 1.

    Args:
        source: The MODEL argument, for error messages.
        model: A Functional or Sequential model.
        input_shapes: Shapes without the batch, as
            :func:`~edge_partition.model.settle_shapes.settle_shapes` takes them.

    Returns:
        The traced model, and the dtypes and policies that were replaced by float32.

    Raises:
        ModelSourceError: The model is subclassed and was never called, or cannot be rebuilt in
            float32.
        InputShapeError: A dimension remains open, or a shape does not fit.
    """
    model = _build(source, model, input_shapes)
    model, changed = _make_float32(source, model)
    names = list(model.input_names)
    # A renamed input layer and its tensor may have different names.
    shapes = settle_shapes(
        source,
        {name: tuple(x.shape[1:]) for name, x in zip(names, model.inputs, strict=True)},
        input_shapes,
    )
    specs = tuple(
        TensorSpec(name, x.dtype.name, (1, *shapes[name]))
        for name, x in zip(names, model.inputs, strict=True)
    )
    structure = model.input if not isinstance(model.input, dict) else None

    def call(tensors: list[Any]) -> list[Any]:
        import tensorflow as tf  # noqa: PLC0415

        if structure is None:
            inputs: Any = dict(zip(names, tensors, strict=True))
        else:
            inputs = tf.nest.pack_sequence_as(structure, tensors)
        return list(tf.nest.flatten(model(inputs, training=False)))

    traced = TracedModel(
        name=model.name,
        inputs=specs,
        outputs=tuple(model.outputs),
        output_names=tuple(model.output_names),
        function=call,
        keras2=model,
    )
    check_traceable(source, traced)
    return traced, changed


def keras2_operations(model: Any) -> tuple[WrappedOperation, ...]:
    """Return the operations of a Keras 2 model that Keras 2 itself turned into layers."""
    return tuple(_find_operations(model, ""))


def seed_keras2(model: Any, seed: int = 0) -> None:
    """Replace all float weights of a Keras 2 model with random values from a seed.

    The values are the same in every run. The values of kernels keep the variance of activations
    near 1 (He et al., "Delving Deep into Rectifiers", 2015). Scales and variances get values near
    1. All other weights get values near 0.
    """
    import numpy as np  # noqa: PLC0415

    values = []
    for place, weight in enumerate(model.weights):
        name, shape = weight.name.rpartition("/")[2], tuple(weight.shape)
        key = zlib.crc32(f"{seed}/{place}/{name}/{shape}".encode())
        drawn = np.random.Generator(np.random.PCG64(key)).standard_normal(shape)
        if not weight.dtype.is_floating:
            values.append(weight.numpy())
        elif any(word in name for word in ("gamma", "scale", "variance")):
            values.append(1 + 0.1 * np.clip(drawn, -3, 3))
        elif len(shape) > 1:
            fan_in = math.prod(shape if "depthwise" in name else shape[:-1])
            fan_in //= shape[-2] * shape[-1] if "depthwise" in name else 1
            values.append(drawn * math.sqrt(2 / max(fan_in, 1)))
        else:
            values.append(0.1 * drawn)
    model.set_weights(values)


def _find_operations(model: Any, prefix: str) -> Iterator[WrappedOperation]:
    from edge_partition.model.wrap_operations import WrappedOperation  # noqa: PLC0415 -- TensorFlow

    for layer in model.layers:
        kind = type(layer).__name__
        if kind in _OPERATION_LAYERS and layer._inbound_nodes:
            symbol = getattr(layer, "symbol", None) or "__operators__.getitem"
            node = layer._inbound_nodes[0]
            yield WrappedOperation(
                layer_name=f"{prefix}{layer.name}",
                operation=f"tf.{symbol}",
                constants=tuple(_describe_constants(layer, node)),
            )
        elif hasattr(layer, "layers") and is_keras2_model(layer):
            yield from _find_operations(layer, f"{prefix}{layer.name}/")


def _describe_constants(layer: Any, node: Any) -> Iterator[str]:
    try:
        names = list(inspect.signature(layer.function).parameters)
    except (AttributeError, TypeError, ValueError):
        names = []
    for position, value in enumerate(node.call_args):
        if not _is_symbolic(value):
            name = names[position] if position < len(names) else f"argument {position}"
            yield f"{name}={value!r}"
    for name, value in node.call_kwargs.items():
        if not _is_symbolic(value) and not (name == "name" and value is None):
            yield f"{name}={value!r}"


def _is_symbolic(value: Any) -> bool:
    return type(value).__name__ == "KerasTensor"


def _build(source: str, model: Any, input_shapes: Mapping[str, Sequence[int]] | None) -> Any:
    """Return ``model``. A Sequential model without an input is first built for a given shape.

    Raises:
        ModelSourceError: The model is subclassed.
        InputShapeError: The input shape is missing or does not fit.
    """
    if model.inputs:
        return model
    if type(model).__name__ != "Sequential":
        raise ModelSourceError(
            source,
            f"is a subclassed model of Keras 2 ({type(model).__name__}), which has no graph to "
            "split. Save the model as a SavedModel with model.export(FOLDER), and give the folder.",
        )
    given = next(iter((input_shapes or {}).values()), None)
    if not given:
        raise InputShapeError(
            source,
            "is a Sequential model without an input shape. Give the shape without the batch, such "
            "as --input-shape 28,28,1.",
        )
    try:
        model.build((None, *given))
    except Exception as error:  # Layers raise different errors for a wrong shape.
        raise InputShapeError(
            source,
            f"cannot be built for input {format_shape(given)}: {find_reason(error)}. Give another "
            "--input-shape.",
        ) from error
    return model


def _make_float32(source: str, model: Any) -> tuple[Any, tuple[str, ...]]:
    """Return ``model`` in float32, and the dtypes and policies that were replaced by float32."""
    policies = {layer.dtype_policy.name for layer in model._flatten_layers(include_self=False)}
    variables = {weight.dtype.base_dtype.name for weight in model.weights}
    changed = {name for name in policies if name.removeprefix("mixed_") in _OTHER_FLOATS}
    changed |= variables & _OTHER_FLOATS
    if not changed:
        return model, ()
    tf_keras = importlib.import_module("tf_keras")
    if not variables & _OTHER_FLOATS:
        # All weights are float32 already, so the model has only mixed policies.
        for layer in model._flatten_layers():
            layer._set_dtype_policy("float32")
        return model, tuple(sorted(changed))
    try:
        rebuilt = tf_keras.models.clone_model(model, clone_function=_clone_in_float32)
        rebuilt.set_weights([weight.astype("float32") for weight in model.get_weights()])
    except Exception as error:  # A user's layer may raise any error.
        raise ModelSourceError(
            source,
            f"computes in {', '.join(sorted(changed))}, but boards compute in float32, and the "
            f"model cannot be rebuilt in float32 ({find_reason(error)}). Build the model with the "
            "policy float32.",
        ) from error
    return rebuilt, tuple(sorted(changed))


def _clone_in_float32(layer: Any) -> Any:
    return type(layer).from_config(_replace_dtypes(layer.get_config()))


def _replace_dtypes(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: "float32" if "dtype" in key and item in list(_OTHER_FLOATS) else
            _replace_dtypes(item)
            for key, item in value.items()
        }  # fmt: skip
    if isinstance(value, list):
        return [_replace_dtypes(item) for item in value]
    return value
