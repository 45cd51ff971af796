"""What the reader of a kind of model gets, and what it returns.

The reader of a kind that needs conversion is a function from a :class:`ModelRequest` to a
:class:`ReadModel`. The reader of a kind that is TFLite already returns a :class:`ReadTflite`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge_partition.facts.find_facts import StatedFacts
    from edge_partition.tflite.read_tflite import TfliteModel


@dataclass(frozen=True)
class ModelRequest:
    """A MODEL argument and the user's options for reading it.

    Attributes:
        source: The MODEL argument.
        weights: A weights file, or ``seeded`` for untrained weights that are the same on every
            machine; None for the model's own weights. Weights of a Keras model are set after
            reading. A reader that returns a traced model refuses all weights.
        input_shapes: Shapes without the batch, by input name; ``""`` stands for every open input
            that the shape fits. Open inputs of a Keras model are fixed after reading.
        signature: Name of the signature; given only for kinds that have signatures.
    """

    source: str
    weights: str | None = None
    input_shapes: Mapping[str, Sequence[int]] | None = None
    signature: str | None = None


@dataclass(frozen=True)
class ReadModel:
    """A model that needs conversion, as its reader returns it.

    Attributes:
        model: A Keras 3 or Keras 2 model of any form; or a
            :class:`~edge_partition.model.traced_model.TracedModel` of fixed shapes.
        name: The model's name in messages and in the manifest.
        labels: Class names along the output's last axis; may be empty.
        notes: Notes for the user about the reading.
        own_weights: ``imagenet`` or ``trained``: the model's weights if the user gives none.
    """

    model: Any
    name: str
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    own_weights: str = "trained"


@dataclass(frozen=True)
class ReadTflite:
    """A model that is TFLite already, as its reader returns it.

    Attributes:
        tflite: The flatbuffer with fixed shapes, and its graph.
        name: The model's name in messages and in the manifest.
        stated: Statements about the model's inputs and outputs.
    """

    tflite: TfliteModel = field(repr=False)
    name: str
    stated: StatedFacts
