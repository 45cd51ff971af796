"""MODEL argument -> a Keras model whose shapes are all fixed, with a batch of 1."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import io
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker_config.errors import EdgePartitionError
from broker_config.manifest import TensorSpec
from edge_partition import keras_setup  # noqa: F401 -- before Keras
from edge_partition.read_labels import read_labels

if TYPE_CHECKING:
    from collections.abc import Callable

    import keras

_MODEL_FILES = (".keras", ".h5", ".hdf5")
_FUNCTION_PATTERN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")

#: Height and width that https://keras.io/api/applications/ documents, by the start of the name
#: in lower case without ``-`` and ``_``; the longest start counts.
_DOCUMENTED_SIZE_PX = {
    "convnext": 224, "densenet": 224, "mobilenet": 224, "resnet": 224, "vgg": 224, "nasnet": 224,
    "nasnetlarge": 331, "inception": 299, "xception": 299,
    "efficientnetb0": 224, "efficientnetb1": 240, "efficientnetb2": 260, "efficientnetb3": 300,
    "efficientnetb4": 380, "efficientnetb5": 456, "efficientnetb6": 528, "efficientnetb7": 600,
    "efficientnetv2b0": 224, "efficientnetv2b1": 240, "efficientnetv2b2": 260,
    "efficientnetv2b3": 300, "efficientnetv2s": 384, "efficientnetv2m": 480,
    "efficientnetv2l": 480,
}  # fmt: skip

_IMAGENET_CLASSES = 1000


class ModelSourceError(EdgePartitionError):
    """The MODEL argument does not lead to a model that can be split.

    Attributes:
        source: The MODEL argument.
    """

    def __init__(self, source: str, reason: str) -> None:
        self.source = source
        super().__init__(f"{source}: {reason}")


class WeightsUnavailableError(ModelSourceError):
    """The weights cannot be had, or do not fit."""


class InputShapeError(ModelSourceError):
    """The model's inputs have no fixed shape, or cannot take the one that was given."""


@dataclass(frozen=True)
class LoadedModel:
    """A Keras model ready to be wrapped and converted.

    Attributes:
        model: Functional or Sequential; every dimension of every input is fixed, the batch at 1.
        name: For people: the application's or function's name, or the file's stem.
        weights: ``imagenet``; ``seeded``; or ``trained``: what came with the model or in a file.
        labels: The classes' names along the output's last axis; may be empty.
    """

    model: keras.Model
    name: str
    weights: str
    labels: tuple[str, ...] = ()


def is_keras_source(source: str) -> bool:
    """Return whether a MODEL argument is Keras's business, rather than a ``.tflite`` file."""
    return not source.lower().endswith(".tflite")


def load_keras_model(
    source: str, *, weights: str | None = None, input_shape: tuple[int, ...] | None = None
) -> LoadedModel:
    """Load the model that a MODEL argument names.

    Args:
        source: A Keras application's name, a ``.keras`` or ``.h5`` file, or
            ``package.module:function``; modules are looked for in the working directory too.
        weights: A weights file (``.weights.h5``, ``.h5``, ``.keras``), or ``seeded`` for weights
            that are the same everywhere and were never trained. By default an application gets
            ImageNet's, anything else keeps its own.
        input_shape: The only input's shape without the batch, such as ``(224, 224, 3)``. By
            default what the model says, or what the application's documentation says.

    Raises:
        ModelSourceError: There is no such model, it cannot be read, or it has no graph.
        WeightsUnavailableError: The weights cannot be read or fetched, or do not fit.
        InputShapeError: A dimension is left open, or ``input_shape`` does not fit.
    """
    labels: tuple[str, ...] = ()
    given = "trained"
    if source.lower().endswith(_MODEL_FILES):
        name = Path(source).stem
        model = _read_file(source)
        labels = read_labels(Path(source))
    elif ":" in source:
        name = source.rpartition(":")[2]
        model = _call_function(source)
    else:
        name = source
        model = _make_application(source, weights=weights, input_shape=input_shape)
        if weights is None:
            given = "imagenet"
            labels = _fetch_imagenet_labels(model)
    _check_graph(source, model)
    model = _fix_shapes(source, model, input_shape)
    if weights == "seeded":
        from edge_partition.seeded_weights import seed_weights  # noqa: PLC0415 -- TensorFlow

        seed_weights(model)
        given = "seeded"
    elif weights is not None:
        _load_weights(source, model, weights)
    return LoadedModel(model, name, given, labels)


def input_specs(model: keras.Model) -> tuple[TensorSpec, ...]:
    """Return the inputs of a loaded model, in Keras's order."""
    return tuple(
        TensorSpec(str(tensor.name), str(tensor.dtype), tuple(tensor.shape))
        for tensor in model.inputs
    )


def _read_file(source: str) -> keras.Model:
    import keras  # noqa: PLC0415 -- seconds, which an error need not take

    # Registers the layer that a wrapped model is saved with.
    from edge_partition import wrap_operations  # noqa: F401, PLC0415

    if not Path(source).is_file():
        raise ModelSourceError(source, "no such file; expected a .keras, .h5 or .tflite file.")
    if source.lower().endswith(".weights.h5"):
        raise ModelSourceError(
            source, "holds weights and no model. Name the model, and give this as --weights."
        )
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            model = keras.saving.load_model(source, compile=False, safe_mode=True)
    except EdgePartitionError:
        raise
    except Exception as error:  # Keras documents no type: HDF5's, zip's and JSON's come through.
        raise ModelSourceError(source, _explain_unreadable(error)) from error
    if not isinstance(model, keras.Model):
        raise ModelSourceError(
            source, f"holds a {type(model).__name__}; expected a Keras model saved with model.save."
        )
    return model


def _explain_unreadable(error: Exception) -> str:
    text = str(error)
    if "safe_mode" in text or "unsafe" in text.lower():
        return (
            "holds Python code (a Lambda layer), which is not run from a file. Build the model "
            "with keras.ops or a registered layer instead, or name the function that builds it "
            "as package.module:function."
        )
    if match := re.search(r"Could not locate (?:class|function) '?([\w.]+)", text):
        return (
            f"needs {match[1]}, which Keras does not know. Name a function that imports it and "
            "loads the file, as package.module:function."
        )
    if "Only input tensors may be passed as positional arguments" in text:
        return (
            "has operations that are no layers, whose constants an .h5 file cannot hold. Save the "
            "model as .keras where it was built, or name the function that builds it as "
            "package.module:function."
        )
    return f"cannot be read as a Keras model ({_first_line(error)}). Save it again with model.save."


def _call_function(source: str) -> keras.Model:
    if not _FUNCTION_PATTERN.fullmatch(source):
        raise ModelSourceError(source, "expected package.module:function, such as my.models:tiny.")
    module_name, _, function_name = source.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    import keras  # noqa: PLC0415

    try:
        function: Any = importlib.import_module(module_name)
        for part in function_name.split("."):
            function = getattr(function, part)
        if not callable(function):
            raise ModelSourceError(
                source, f"is a {type(function).__name__}; expected a function returning a model."
            )
        with contextlib.redirect_stdout(io.StringIO()):
            model = function()
    except EdgePartitionError:
        raise
    except Exception as error:  # The function is the user's: anything may come out of it.
        raise ModelSourceError(
            source, f"failed with {type(error).__name__}: {_first_line(error)}"
        ) from error
    if not isinstance(model, keras.Model):
        raise ModelSourceError(
            source, f"returned a {type(model).__name__}; expected a Keras model."
        )
    return model


def _make_application(
    source: str, *, weights: str | None, input_shape: tuple[int, ...] | None
) -> keras.Model:
    make = _find_application(source)
    if weights is None:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                trained = make(weights="imagenet")
        except Exception as error:
            raise WeightsUnavailableError(
                source,
                f"Keras's ImageNet weights could not be fetched ({_first_line(error)}). Give a "
                "weights file with --weights FILE, or --weights seeded for untrained ones.",
            ) from error
        if input_shape is None:
            return trained
    try:
        model = make(weights=None, input_shape=input_shape)
        if weights is None:
            model.set_weights(trained.get_weights())
    except ValueError as error:
        raise InputShapeError(
            source, f"cannot take --input-shape {_spell(input_shape)}: {_first_line(error)}"
        ) from error
    return model


def _find_application(source: str) -> Callable[..., keras.Model]:
    import keras  # noqa: PLC0415

    known = dict(inspect.getmembers(keras.applications, inspect.isfunction))
    if source in known:
        return known[source]
    if Path(source).exists():
        raise ModelSourceError(source, "expected a .keras, .h5 or .tflite file.")
    lower = {name.lower(): name for name in known}
    nearest = [lower[name] for name in difflib.get_close_matches(source.lower(), lower)]
    hint = f"did you mean {' or '.join(nearest)}?" if nearest else f"it has {', '.join(known)}."
    raise ModelSourceError(
        source,
        f"Keras has no application of this name; {hint} A file ends in .keras, .h5 or .tflite, "
        "a function is package.module:function.",
    )


def _fetch_imagenet_labels(model: keras.Model) -> tuple[str, ...]:
    import keras  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    if model.output_shape[-1] != _IMAGENET_CLASSES:
        return ()
    falling = np.arange(_IMAGENET_CLASSES, 0, -1, dtype=np.float32)[None]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            (classes,) = keras.applications.imagenet_utils.decode_predictions(
                falling, top=_IMAGENET_CLASSES
            )
    except Exception:  # noqa: BLE001 -- names are a courtesy; without a network there are none
        return ()
    return tuple(name for _, name, _ in classes)


def _check_graph(source: str, model: keras.Model) -> None:
    from edge_partition.wrap_operations import is_graph  # noqa: PLC0415 -- TensorFlow

    if not is_graph(model):
        raise ModelSourceError(
            source,
            f"is a subclassed model ({type(model).__name__}), which has no graph to split. Build "
            "it with keras.Model(inputs, outputs) or keras.Sequential.",
        )


def _fix_shapes(
    source: str, model: keras.Model, input_shape: tuple[int, ...] | None
) -> keras.Model:
    """Return ``model``, with its layers and weights, on inputs of fixed shape."""
    import keras  # noqa: PLC0415

    is_sequential = isinstance(model, keras.Sequential)
    if is_sequential and not model.built:
        if input_shape is None:
            raise InputShapeError(
                source, "says nothing of its input's shape. Give --input-shape, such as 28,28,1."
            )
        shapes, dtypes, names = [(1, *input_shape)], [model.input_dtype], ["input"]
    else:
        shapes = [_fix_shape(source, model, tensor, input_shape) for tensor in model.inputs]
        dtypes = [tensor.dtype for tensor in model.inputs]
        names = [tensor._keras_history.operation.name for tensor in model.inputs]  # noqa: SLF001
        if shapes == [tensor.shape for tensor in model.inputs]:
            return model
    inputs = [
        keras.Input(batch_shape=shape, dtype=dtype, name=name)
        for shape, dtype, name in zip(shapes, dtypes, names, strict=True)
    ]
    try:
        if is_sequential:
            return keras.Sequential([inputs[0], *model.layers], name=model.name)
        outputs = model._run_through_graph(  # noqa: SLF001 -- Keras's only walk over a graph
            inputs, call_fn=lambda operation, *args, **kwargs: operation(*args, **kwargs)
        )
        inputs = keras.tree.pack_sequence_as(model.input, inputs)
        return keras.Model(inputs, outputs, name=model.name)
    except Exception as error:  # Each layer has its own way to refuse a shape.
        raise InputShapeError(
            source,
            f"cannot be built on input {', '.join(map(_spell, shapes))}: {_first_line(error)} Give "
            "another --input-shape.",
        ) from error


def _fix_shape(
    source: str, model: keras.Model, tensor: Any, input_shape: tuple[int, ...] | None
) -> tuple[int, ...]:
    shape = tuple(tensor.shape)
    if input_shape is not None:
        if len(model.inputs) > 1:
            raise InputShapeError(
                source,
                f"has {len(model.inputs)} inputs, and --input-shape is for one. Fix their shapes "
                "where the model is built.",
            )
        if len(input_shape) != len(shape) - 1:
            raise InputShapeError(
                source,
                f"has input {_spell(shape[1:])} without the batch; --input-shape "
                f"{_spell(input_shape)} has {len(input_shape)} dimensions.",
            )
        return (1, *input_shape)
    size_px = _documented_size_px(model.name)
    if shape[1:] == (None, None, 3) and size_px is not None:
        return (1, size_px, size_px, 3)
    if None in shape[1:]:
        raise InputShapeError(
            source,
            f"input {tensor.name!r} leaves a dimension open ({_spell(shape[1:])} without the "
            "batch), and a board needs all of them. Give --input-shape, such as 224,224,3.",
        )
    return (1, *shape[1:])


def _documented_size_px(model_name: str) -> int | None:
    key = re.sub(r"[-_]", "", model_name.lower())
    starts = [start for start in _DOCUMENTED_SIZE_PX if key.startswith(start)]
    return _DOCUMENTED_SIZE_PX[max(starts, key=len)] if starts else None


def _load_weights(source: str, model: keras.Model, weights: str) -> None:
    if not Path(weights).is_file():
        raise WeightsUnavailableError(
            source, f"no weights file {weights}. Give a file that is there, or --weights seeded."
        )
    if not weights.lower().endswith(_MODEL_FILES):
        raise WeightsUnavailableError(
            source, f"weights file {weights} has another ending than .weights.h5, .h5 or .keras."
        )
    try:
        model.load_weights(weights)
    except Exception as error:  # Keras documents no type: HDF5's and zip's come through.
        raise WeightsUnavailableError(
            source,
            f"the weights in {weights} cannot be read or do not fit ({_first_line(error)}). Give "
            "weights that were saved from this model.",
        ) from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _spell(shape: tuple[int | None, ...] | None) -> str:
    return ",".join("?" if size is None else str(size) for size in shape or ())
