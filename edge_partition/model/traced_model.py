"""A model that Keras 3 has no graph of, and that TensorFlow can trace."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edge_partition.model.find_reason import find_reason
from edge_partition.model.settle_shapes import spell_shape
from edge_partition.model.source_errors import InputShapeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_core.contract.manifest import TensorSpec


@dataclass
class TracedModel:
    """A Keras 2 model, or a signature of a SavedModel, with fixed shapes.

    It has what :func:`~edge_partition.model.freeze_model.freeze_model` asks of a Keras model.

    Attributes:
        name: For people.
        inputs: Batch included, in the model's order.
        outputs: Batch included, in the model's order; None where a dimension is open.
        output_names: One an output.
        function: Takes a list of TensorFlow's tensors, one an input, and returns the outputs'.
        keras2: The Keras 2 model; None for a SavedModel's signature.
        layers: Of a signature: the names of its scopes, most of which are layers.
        owner: What must live as long as ``function`` is called.
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
        del training  # it never trains
        tensors = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
        return list(self.function(tensors))

    def _flatten_layers(self) -> list[Any]:
        return [] if self.keras2 is None else list(self.keras2._flatten_layers())  # noqa: SLF001


def check_traceable(source: str, model: TracedModel) -> None:
    """Refuse shapes that the model does not take, in its own words.

    Raises:
        InputShapeError: Something in the model does not.
    """
    import tensorflow as tf  # noqa: PLC0415 -- seconds, which an error need not take

    specs = [tf.TensorSpec(spec.shape, spec.dtype) for spec in model.inputs]
    try:
        tf.function(lambda *x: model(list(x)), autograph=False).get_concrete_function(*specs)
    except Exception as error:
        spelled = ", ".join(f"{x.name!r} {spell_shape(x.shape) or '()'}" for x in model.inputs)
        raise InputShapeError(
            source,
            f"cannot be built for input {spelled}, batch included: {find_reason(error)}. Give "
            "another --input-shape.",
        ) from error
