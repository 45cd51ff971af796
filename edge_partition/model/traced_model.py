"""Models without a Keras 3 graph, which TensorFlow traces: Keras 2 models and SavedModels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edge_partition.model.find_reason import find_reason
from edge_partition.model.settle_shapes import format_shape
from edge_partition.model.source_errors import InputShapeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_core.contract.manifest import TensorSpec


@dataclass
class TracedModel:
    """A Keras 2 model, or a signature of a SavedModel, with fixed shapes.

    The class has those attributes of a Keras model that
    :func:`~edge_partition.model.freeze_model.freeze_model` needs.

    Attributes:
        name: The model's name.
        inputs: Inputs with the batch, in the model's order.
        outputs: Outputs with the batch, in the model's order. An open dimension is None.
        output_names: Names of the outputs, in the model's order.
        function: Function that takes a list of TensorFlow tensors, one per input, and returns the
            output tensors.
        keras2: The Keras 2 model; None for a SavedModel's signature.
        layers: Name scopes of a SavedModel's signature, most of which are names of layers. Empty
            for a Keras 2 model.
        owner: The loaded SavedModel. TensorFlow requires that the object exists while ``function``
            is called. None for a Keras 2 model.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[Any, ...]
    output_names: tuple[str, ...]
    function: Callable[[list[Any]], Sequence[Any]] = field(repr=False)
    keras2: Any = field(default=None, repr=False)
    layers: frozenset[str] = field(default=frozenset(), repr=False)
    owner: Any = field(default=None, repr=False)

    def __call__(self, inputs: Any, *, training: bool = False) -> list[Any]:
        """Return the output tensors for ``inputs``, which is one tensor or a list of tensors."""
        del training  # a traced model does not train
        tensors = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
        return list(self.function(tensors))

    def _flatten_layers(self) -> list[Any]:
        return [] if self.keras2 is None else list(self.keras2._flatten_layers())  # noqa: SLF001


def check_traceable(source: str, model: TracedModel) -> None:
    """Check that the model's operators accept the shapes of the model's inputs.

    Raises:
        InputShapeError: An operator refuses a shape. The message contains the operator's reason.
    """
    import tensorflow as tf  # noqa: PLC0415 -- takes seconds

    specs = [tf.TensorSpec(spec.shape, spec.dtype) for spec in model.inputs]
    try:
        tf.function(lambda *x: model(list(x)), autograph=False).get_concrete_function(*specs)
    except Exception as error:
        spelled = ", ".join(f"{x.name!r} {format_shape(x.shape) or '()'}" for x in model.inputs)
        raise InputShapeError(
            source,
            f"cannot be built for input {spelled} (with the batch): {find_reason(error)}. Give "
            "another --input-shape.",
        ) from error
