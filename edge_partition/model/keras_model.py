"""A MODEL argument becomes a Keras model with fixed shapes and a batch of 1."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge_core.contract.manifest import TensorSpec
from edge_partition.model import keras_setup, legacy_keras  # noqa: F401 -- before Keras
from edge_partition.model.find_reason import find_reason
from edge_partition.model.model_kinds import KERAS_ENDINGS, ModelRequest, model_kind
from edge_partition.model.source_errors import (
    InputShapeError,
    ModelSourceError,
    WeightsUnavailableError,
)
from edge_partition.model.traced_model import TracedModel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import keras

    from edge_partition.model.wrap_operations import WrappedOperation

__all__ = [
    "InputShapeError",
    "LoadedModel",
    "ModelSourceError",
    "WeightsUnavailableError",
    "input_specs",
    "load_keras_model",
]

#: Height and width from https://keras.io/api/applications/, by the start of the name in lower case
#: without ``-`` and ``_``. The longest start that matches applies.
_DOCUMENTED_SIZE_PX = {
    "convnext": 224, "densenet": 224, "mobilenet": 224, "resnet": 224, "vgg": 224, "nasnet": 224,
    "nasnetlarge": 331, "inception": 299, "xception": 299,
    "efficientnetb0": 224, "efficientnetb1": 240, "efficientnetb2": 260, "efficientnetb3": 300,
    "efficientnetb4": 380, "efficientnetb5": 456, "efficientnetb6": 528, "efficientnetb7": 600,
    "efficientnetv2b0": 224, "efficientnetv2b1": 240, "efficientnetv2b2": 260,
    "efficientnetv2b3": 300, "efficientnetv2s": 384, "efficientnetv2m": 480,
    "efficientnetv2l": 480,
}  # fmt: skip

#: Layers named in an error message. The message counts the rest.
_MOST_NAMES = 4


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to be wrapped and converted.

    Attributes:
        model: A Functional model with fixed shapes, a batch of 1 and float32; or a traced model
            where the source is not a Keras 3 model.
        name: Name of the application, of the function or of the SavedModel, or the file's stem.
        weights: ``imagenet``, ``seeded``, or ``trained`` for weights of the model or of a file.
        labels: Class names along the output's last axis; may be empty.
        notes: Notes for the user about the reading and about changes to the model.
        operations: Operations of a Keras 2 model that are not layers; empty for a Keras 3 model,
            whose operations are wrapped later.
    """

    model: keras.Model | TracedModel
    name: str
    weights: str
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    operations: tuple[WrappedOperation, ...] = ()


def load_keras_model(
    source: str,
    *,
    weights: str | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    signature: str | None = None,
) -> LoadedModel:
    """Load the model of a MODEL argument.

    Args:
        source: Name of a Keras application, a ``.keras`` or ``.h5`` file, the folder of a
            SavedModel, or ``package.module:function``. Modules in the working directory are found
            too.
        weights: A weights file (``.weights.h5``, ``.h5``, ``.keras``), or ``seeded`` for untrained
            weights that are the same on every machine. By default an application gets ImageNet
            weights, and any other model keeps its own.
        input_shapes: Shapes without the batch, such as ``(224, 224, 3)``, by input name; ``""``
            stands for every open input that the shape fits. The default is the shape of the model,
            or the size in the application's documentation.
        signature: Signature of a SavedModel.

    Raises:
        ModelSourceError: The model does not exist, cannot be read, or has no graph.
        WeightsUnavailableError: The weights cannot be read or fetched, or do not fit.
        InputShapeError: A dimension is open, or a shape of ``input_shapes`` does not fit.
    """
    read = model_kind(source).read(ModelRequest(source, weights, input_shapes, signature))
    loaded = LoadedModel(read.model, read.name, read.weights, read.labels, read.notes)
    if isinstance(read.model, TracedModel):
        return loaded
    if legacy_keras.is_keras2_model(read.model):
        return _prepare_keras2(loaded, source, weights, input_shapes)
    prepared, more = _prepare(source, read.model, weights, input_shapes)
    return replace(loaded, model=prepared, notes=(*read.notes, *more))


def input_specs(model: keras.Model | TracedModel) -> tuple[TensorSpec, ...]:
    """Return the inputs of a loaded model, in Keras's order."""
    return tuple(
        TensorSpec(str(tensor.name), str(tensor.dtype), tuple(tensor.shape))
        for tensor in model.inputs
    )


def _prepare(
    source: str,
    model: keras.Model,
    weights: str | None,
    input_shapes: Mapping[str, Sequence[int]] | None,
) -> tuple[keras.Model, tuple[str, ...]]:
    """Return a Functional model with the weights of a Keras 3 model, and notes."""
    from edge_partition.model.float32_model import make_float32  # noqa: PLC0415 -- TensorFlow
    from edge_partition.model.make_functional import make_functional  # noqa: PLC0415

    _check_not_quantized(source, model)
    from_file = weights if weights != "seeded" else None
    # The weights of a file have the order and the structure of the original model.
    if from_file is not None and getattr(model, "built", False):
        _load_weights(source, model, from_file)
        from_file = None
    changed = make_float32(model)
    functional = make_functional(source, model, _with_documented_size(model, input_shapes))
    if from_file is not None:
        model.build(functional.inputs[0].shape)
        _load_weights(source, model, from_file)
    if weights == "seeded":
        from edge_partition.model.seeded_weights import seed_weights  # noqa: PLC0415

        seed_weights(functional)
    # Layers that were built only now follow Keras's global policy.
    changed = tuple(sorted({*changed, *make_float32(functional)}))
    return functional, _rebuilt_note(changed)


def _prepare_keras2(
    loaded: LoadedModel,
    source: str,
    weights: str | None,
    input_shapes: Mapping[str, Sequence[int]] | None,
) -> LoadedModel:
    traced, changed = legacy_keras.trace_keras2(source, loaded.model, input_shapes)
    if weights == "seeded":
        legacy_keras.seed_keras2(traced.keras2)
    elif weights is not None:
        _load_weights(source, traced.keras2, weights)
    return replace(
        loaded,
        model=traced,
        notes=(*loaded.notes, *_rebuilt_note(changed)),
        operations=legacy_keras.keras2_operations(traced.keras2),
    )


def _rebuilt_note(changed: tuple[str, ...]) -> tuple[str, ...]:
    """Return the note about a model that was rebuilt in float32."""
    # A model with the policy mixed_float16 has float16 tensors: the note names only the policy.
    names = [name for name in changed if f"mixed_{name}" not in changed]
    if not names:
        return ()
    note = (
        f"The model computes in {' and '.join(names)}. It was rebuilt in float32, because boards "
        "compute in float32; outputs differ from Keras's by rounding."
    )
    return (note,)


def _with_documented_size(
    model: keras.Model, input_shapes: Mapping[str, Sequence[int]] | None
) -> dict[str, Sequence[int]]:
    """Return the given shapes, with an application's documented size for other open inputs."""
    import keras  # noqa: PLC0415

    from edge_partition.model.make_functional import input_names  # noqa: PLC0415

    given: dict[str, Sequence[int]] = dict(input_shapes or {})
    size_px = _documented_size_px(str(model.name)) or 0
    if not size_px or isinstance(model, keras.Sequential):
        return given
    for name, tensor in zip(input_names(model), model.inputs, strict=True):
        if tuple(tensor.shape[1:]) == (None, None, 3) and not {"", name} & given.keys():
            given[name] = (size_px, size_px, 3)
    return given


def _check_not_quantized(source: str, model: keras.Model) -> None:
    """Refuse Keras's own quantization: TFLite has no operators for its integer operations."""
    layers = [
        layer
        for layer in model._flatten_layers(include_self=False)  # noqa: SLF001 -- Keras's only way
        if getattr(layer, "quantization_mode", None)
    ]
    if not layers:
        return
    modes = sorted({str(layer.quantization_mode) for layer in layers})
    names = sorted({str(layer.name) for layer in layers})
    shown = ", ".join(names[:_MOST_NAMES])
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    raise ModelSourceError(
        source,
        f"was quantized by Keras's model.quantize ({', '.join(modes)}: layer {shown}{more}), and "
        "TFLite has no operators for such layers. Give the model as it was before quantize, with "
        "--quantize int8 or dynamic.",
    )


def _documented_size_px(model_name: str) -> int | None:
    key = re.sub(r"[-_]", "", model_name.lower())
    starts = [start for start in _DOCUMENTED_SIZE_PX if key.startswith(start)]
    return _DOCUMENTED_SIZE_PX[max(starts, key=len)] if starts else None


def _load_weights(source: str, model: keras.Model, weights: str) -> None:
    if not Path(weights).is_file():
        raise WeightsUnavailableError(
            source, f"no weights file {weights}. Give an existing file, or --weights seeded."
        )
    if not weights.lower().endswith(KERAS_ENDINGS):
        raise WeightsUnavailableError(
            source, f"weights file {weights} must end in .weights.h5, .h5 or .keras."
        )
    try:
        model.load_weights(weights)
    except Exception as error:  # Keras documents no type, and passes on errors of HDF5 and zip.
        raise WeightsUnavailableError(
            source,
            f"the weights in {weights} cannot be read or do not fit ({find_reason(error)}). Give "
            "weights that were saved from this model.",
        ) from error
