"""Build the Keras application of a given name, with its ImageNet weights and class names."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import io
from pathlib import Path
from typing import TYPE_CHECKING

from edge_partition.model import keras_setup  # noqa: F401 -- before Keras
from edge_partition.model.find_reason import find_reason
from edge_partition.model.reader import ReadModel
from edge_partition.model.settle_shapes import format_shape
from edge_partition.model.source_errors import (
    InputShapeError,
    ModelSourceError,
    WeightsUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import keras

    from edge_partition.model.reader import ModelRequest

_IMAGENET_CLASSES = 1000


def read_application(request: ModelRequest) -> ReadModel:
    """Build the Keras application that the MODEL argument names.

    If the user gives no weights, the application gets its ImageNet weights and class names.

    Raises:
        ModelSourceError: Keras has no application of this name.
        WeightsUnavailableError: The ImageNet weights cannot be downloaded.
        InputShapeError: The application does not accept the given shape.
    """
    weights = request.weights
    shape = _only_shape(request.input_shapes)
    model = _make_application(request.source, weights=weights, input_shape=shape)
    labels = _fetch_imagenet_labels(model) if weights is None else ()
    return ReadModel(model, request.source, labels=labels, own_weights="imagenet")


def _only_shape(input_shapes: Mapping[str, Sequence[int]] | None) -> tuple[int, ...] | None:
    """Return the given shape. Return None for no shape, several shapes, or a single number."""
    shapes = list((input_shapes or {}).values())
    return tuple(shapes[0]) if len(shapes) == 1 and len(shapes[0]) > 1 else None


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
                f"Keras's ImageNet weights could not be downloaded ({find_reason(error)}). Give a "
                "weights file with --weights FILE, or use random weights with --weights seeded.",
            ) from error
        if input_shape is None:
            return trained
    try:
        model = make(weights=None, input_shape=input_shape)
        if weights is None:
            model.set_weights(trained.get_weights())
    except ValueError as error:
        raise InputShapeError(
            source,
            f"cannot be built with --input-shape {format_shape(input_shape or ())}: "
            f"{find_reason(error)}. Give another --input-shape.",
        ) from error
    return model


def _find_application(source: str) -> Callable[..., keras.Model]:
    import keras  # noqa: PLC0415

    known = dict(inspect.getmembers(keras.applications, inspect.isfunction))
    if source in known:
        return known[source]
    if Path(source).exists():
        raise ModelSourceError(
            source,
            "is not a model; expected a .keras, .h5 or .tflite file, or a SavedModel's folder.",
        )
    if "/" in source or "." in source:
        near = difflib.get_close_matches(source, [str(path) for path in Path().glob("*.*")], n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise ModelSourceError(source, f"no such file or folder{hint}")
    lower = {name.lower(): name for name in known}
    nearest = [lower[name] for name in difflib.get_close_matches(source.lower(), lower)]
    hint = f"did you mean {' or '.join(nearest)}?" if nearest else f"Keras has {', '.join(known)}."
    raise ModelSourceError(
        source,
        f"Keras has no application of this name; {hint} A model file ends in .keras, .h5 or "
        ".tflite; a function is written package.module:function.",
    )


def _fetch_imagenet_labels(model: keras.Model) -> tuple[str, ...]:
    import keras  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    if model.output_shape[-1] != _IMAGENET_CLASSES:
        return ()
    descending = np.arange(_IMAGENET_CLASSES, 0, -1, dtype=np.float32)[None]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            (classes,) = keras.applications.imagenet_utils.decode_predictions(
                descending, top=_IMAGENET_CLASSES
            )
    except Exception:  # noqa: BLE001 -- class names are optional; without a network there are none
        return ()
    return tuple(name for _, name, _ in classes)
