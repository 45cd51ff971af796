"""Prepare a loaded model for the conversion: set the user's weights, fixed shapes and float32."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_partition.model import keras_setup, legacy_keras  # noqa: F401 -- before Keras
from edge_partition.model.application_sizes import documented_size_px
from edge_partition.model.find_reason import find_reason
from edge_partition.model.model_kinds import KERAS_ENDINGS
from edge_partition.model.source_errors import ModelSourceError, WeightsUnavailableError
from edge_partition.model.traced_model import TracedModel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import keras

    from edge_partition.model.reader import ModelRequest, ReadModel
    from edge_partition.model.wrap_operations import WrappedOperation

#: Largest number of layers that an error message names. The message counts further layers.
_MOST_NAMES = 4


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to be wrapped and converted.

    Attributes:
        model: A Functional model with fixed shapes, a batch of 1 and float32; or a traced model,
            if the source is a Keras 2 model or a SavedModel.
        name: Name of the application, of the function or of the SavedModel; or the file's name
            without its ending.
        weights: Origin of the weights: ``imagenet``; ``seeded``; or ``trained`` for the model's own
            weights and for weights from a file.
        labels: Class names along the last axis of the output; may be empty.
        notes: Notes for the user about the reading and about changes to the model.
        operations: Operations that Keras 2 turned into layers. Empty for a Keras 3 model, because
            the operations of a Keras 3 model are wrapped later.
    """

    model: keras.Model | TracedModel
    name: str
    weights: str
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    operations: tuple[WrappedOperation, ...] = ()


def prepare_model(read: ReadModel, request: ModelRequest) -> LoadedModel:
    """Return a model that is ready to be wrapped and converted.

    The signature of a SavedModel needs no preparation.

    Args:
        read: The model as its reader returned it.
        request: The MODEL argument and the user's options.

    Raises:
        ModelSourceError: The model has no graph, or was quantized by Keras.
        WeightsUnavailableError: The weights cannot be read, or do not fit the model.
        InputShapeError: A dimension remains open, or a given shape does not fit.
    """
    changed: tuple[str, ...] = ()
    operations: tuple[WrappedOperation, ...] = ()
    model = read.model
    if legacy_keras.is_keras2_model(model):
        model, changed = _prepare_keras2(model, request)
        operations = legacy_keras.keras2_operations(model.keras2)
    elif not isinstance(model, TracedModel):
        model, changed = _prepare_keras3(model, request)
    return LoadedModel(
        model=model,
        name=read.name,
        weights=_weights_word(read, request),
        labels=read.labels,
        notes=(*read.notes, *_rebuilt_note(changed)),
        operations=operations,
    )


def _weights_word(read: ReadModel, request: ModelRequest) -> str:
    if request.weights is None:
        return read.own_weights
    return "seeded" if request.weights == "seeded" else "trained"


def _prepare_keras3(
    model: keras.Model, request: ModelRequest
) -> tuple[keras.Model, tuple[str, ...]]:
    """Return a Functional float32 model with the wanted weights, and the replaced dtypes."""
    from edge_partition.model.float32_model import make_float32  # noqa: PLC0415 -- TensorFlow
    from edge_partition.model.make_functional import make_functional  # noqa: PLC0415

    source, weights = request.source, request.weights
    _check_not_quantized(source, model)
    from_file = weights if weights != "seeded" else None
    # Weights from a file are loaded before the model changes, because the file has the order and
    # the structure of the original model.
    if from_file is not None and getattr(model, "built", False):
        _load_weights(source, model, from_file)
        from_file = None
    changed = make_float32(model)
    shapes = _with_documented_size(model, request.input_shapes)
    functional = make_functional(source, model, shapes)
    if from_file is not None:
        model.build(functional.inputs[0].shape)
        _load_weights(source, model, from_file)
    if weights == "seeded":
        from edge_partition.model.seeded_weights import seed_weights  # noqa: PLC0415

        seed_weights(functional)
    # Layers that make_functional built follow Keras's global policy, which may not be float32.
    return functional, tuple(sorted({*changed, *make_float32(functional)}))


def _prepare_keras2(model: Any, request: ModelRequest) -> tuple[TracedModel, tuple[str, ...]]:
    """Return a traced float32 model with the wanted weights, and the replaced dtypes."""
    traced, changed = legacy_keras.trace_keras2(request.source, model, request.input_shapes)
    if request.weights == "seeded":
        legacy_keras.seed_keras2(traced.keras2)
    elif request.weights is not None:
        _load_weights(request.source, traced.keras2, request.weights)
    return traced, changed


def _rebuilt_note(changed: tuple[str, ...]) -> tuple[str, ...]:
    """Return a note about the dtypes that were replaced by float32; empty without such dtypes."""
    # A model with the policy mixed_float16 also has float16 tensors, which the note leaves out.
    names = [name for name in changed if f"mixed_{name}" not in changed]
    if not names:
        return ()
    note = (
        f"The model computes in {' and '.join(names)}. edge-partition changed the model to "
        "float32, because boards compute in float32. The outputs differ from Keras's outputs by "
        "rounding errors."
    )
    return (note,)


def _with_documented_size(
    model: keras.Model, input_shapes: Mapping[str, Sequence[int]] | None
) -> dict[str, Sequence[int]]:
    """Return the given shapes. Other open inputs of an application get the documented size."""
    import keras  # noqa: PLC0415

    from edge_partition.model.make_functional import input_names  # noqa: PLC0415

    given: dict[str, Sequence[int]] = dict(input_shapes or {})
    size_px = documented_size_px(str(model.name)) or 0
    if not size_px or isinstance(model, keras.Sequential):
        return given
    for name, tensor in zip(input_names(model), model.inputs, strict=True):
        if tuple(tensor.shape[1:]) == (None, None, 3) and not {"", name} & given.keys():
            given[name] = (size_px, size_px, 3)
    return given


def _check_not_quantized(source: str, model: keras.Model) -> None:
    """Refuse a model that Keras quantized: TFLite has no operators for Keras's integer operations.

    Raises:
        ModelSourceError: A layer of the model is quantized.
    """
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
        "TFLite has no operators for such layers. Give the model as it was before model.quantize, "
        "and use --quantize int8 or dynamic.",
    )


def _load_weights(source: str, model: keras.Model, weights: str) -> None:
    if not Path(weights).is_file():
        raise WeightsUnavailableError(
            source,
            f"weights file {weights} does not exist. Give an existing file, or --weights seeded.",
        )
    if not weights.lower().endswith(KERAS_ENDINGS):
        raise WeightsUnavailableError(
            source,
            f"the name of weights file {weights} must end in .weights.h5, .h5 or .keras. Rename "
            "the file, or give another file.",
        )
    try:
        model.load_weights(weights)
    except Exception as error:  # Keras documents no type, and passes on errors of HDF5 and zip.
        raise WeightsUnavailableError(
            source,
            f"the weights in {weights} cannot be read or do not fit ({find_reason(error)}). Give "
            "weights that were saved from this model.",
        ) from error
