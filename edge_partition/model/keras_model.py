"""Load the model that a MODEL argument names, and prepare the model for the conversion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_core.contract.manifest import TensorSpec
from edge_partition.model import keras_setup  # noqa: F401 -- before Keras
from edge_partition.model.model_kinds import model_kind
from edge_partition.model.prepare_model import LoadedModel, prepare_model
from edge_partition.model.reader import ModelRequest, ReadModel
from edge_partition.model.source_errors import (
    InputShapeError,
    ModelSourceError,
    WeightsUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import keras

    from edge_partition.model.traced_model import TracedModel

__all__ = [
    "InputShapeError",
    "LoadedModel",
    "ModelSourceError",
    "WeightsUnavailableError",
    "input_specs",
    "load_keras_model",
]


def load_keras_model(
    source: str,
    *,
    weights: str | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    signature: str | None = None,
) -> LoadedModel:
    """Load the model that a MODEL argument names, with fixed shapes, a batch of 1 and float32.

    Args:
        source: Name of a Keras application, a ``.keras`` or ``.h5`` file, the folder of a
            SavedModel, or ``package.module:function``. The module may be in the working directory.
        weights: A weights file (``.weights.h5``, ``.h5``, ``.keras``), or ``seeded`` for random
            weights that are the same on every machine. By default, an application gets ImageNet
            weights, and any other model keeps its own weights.
        input_shapes: Shapes without the batch, such as ``(224, 224, 3)``, by input name. The name
            ``""`` stands for every input that has open dimensions and that the shape fits. By
            default, the model's shapes apply; an application's open dimensions get the documented
            size.
        signature: Name of the signature; for a SavedModel only.

    Raises:
        ModelSourceError: The model does not exist, cannot be read, or has no graph.
        WeightsUnavailableError: The weights cannot be read or downloaded, or do not fit the model.
        InputShapeError: A dimension remains open, or a shape of ``input_shapes`` does not fit.
    """
    kind = model_kind(source)
    if not kind.needs_conversion:
        raise ModelSourceError(
            source, f"is {kind.description}, not a Keras model. Load the file with load_model()."
        )
    if signature is not None and not kind.has_signatures:
        raise ModelSourceError(
            source, "is a Keras model, and a Keras model has no signatures. Leave --signature out."
        )
    request = ModelRequest(source, weights, input_shapes, signature)
    read: ReadModel = kind.import_reader()(request)
    return prepare_model(read, request)


def input_specs(model: keras.Model | TracedModel) -> tuple[TensorSpec, ...]:
    """Return name, dtype and shape of each input of a loaded model, in the model's order."""
    return tuple(
        TensorSpec(str(tensor.name), str(tensor.dtype), tuple(tensor.shape))
        for tensor in model.inputs
    )
