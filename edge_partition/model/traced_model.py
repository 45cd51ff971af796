"""A model without a Keras 3 graph, which TensorFlow traces."""

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

    The class has the attributes of a Keras model that
    :func:`~edge_partition.model.freeze_model.freeze_model` needs.

    Attributes:
        name: The model's name.
        inputs: Inputs with the batch, in the model's order.
        outputs: Outputs with the batch, in the model's order; open dimensions are None.
        output_names: Names of the outputs, in the model's order.
        function: Function from a list of TensorFlow tensors, one per input, to the output tensors.
        keras2: The Keras 2 model; None for a SavedModel's signature.
        layers: Names of a signature's scopes, most of which are layers.
        owner: Object that must exist as long as ``function`` is called.
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
        """Return the outputs for ``inputs``, a tensor or a list of them, in order."""
        del training  # a traced model does not train
        tensors = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
        return list(self.function(tensors))

    def _flatten_layers(self) -> list[Any]:
        return [] if self.keras2 is None else list(self.keras2._flatten_layers())  # noqa: SLF001


def check_traceable(source: str, model: TracedModel) -> None:
    """Check that the model accepts the shapes of its inputs.

    Raises:
        InputShapeError: An operator refuses a shape; the message has the operator's reason.
    """
    import tensorflow as tf  # noqa: PLC0415 -- takes seconds

    specs = [tf.TensorSpec(spec.shape, spec.dtype) for spec in model.inputs]
    try:
        tf.function(lambda *x: model(list(x)), autograph=False).get_concrete_function(*specs)
    except Exception as error:
        spelled = ", ".join(f"{x.name!r} {format_shape(x.shape) or '()'}" for x in model.inputs)
        raise InputShapeError(
            source,
            f"cannot be built for input {spelled}, batch included: {find_reason(error)}. Give "
            "another --input-shape.",
        ) from error
