"""The argument and the results of readers. A reader is a function that reads one kind of model.

Every reader takes a :class:`ModelRequest`. A reader of models that need conversion returns a
:class:`ReadModel`. A reader of models that are TFLite already returns a :class:`ReadTflite`.
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
        weights: A weights file, or ``seeded`` for random weights that are the same on every
            machine; None for the model's own weights. A reader that returns a Keras model may
            ignore the weights, because the weights are set later. A reader that returns a traced
            model refuses weights.
        input_shapes: Shapes without the batch, by input name. The name ``""`` stands for every
            input that has open dimensions and that the shape fits. A reader that returns a Keras
            model may ignore the shapes, because open dimensions are fixed later.
        signature: Name of the signature; None for kinds of models without signatures.
    """

    source: str
    weights: str | None = None
    input_shapes: Mapping[str, Sequence[int]] | None = None
    signature: str | None = None


@dataclass(frozen=True)
class ReadModel:
    """A model that needs conversion, which a reader returned.

    Attributes:
        model: Any Keras 3 or Keras 2 model; or a
            :class:`~edge_partition.model.traced_model.TracedModel`, which has fixed shapes.
        name: The model's name in messages and in the manifest.
        labels: Class names along the last axis of the output; may be empty.
        notes: Notes for the user about the reading.
        own_weights: Origin of the weights that the model has if the user gives no weights:
            ``imagenet`` or ``trained``.
    """

    model: Any
    name: str
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    own_weights: str = "trained"


@dataclass(frozen=True)
class ReadTflite:
    """A model that is TFLite already, which a reader returned.

    Attributes:
        tflite: The ``.tflite`` file with fixed shapes, and its graph.
        name: The model's name in messages and in the manifest.
        stated: Facts that the file states about the model's inputs and outputs.
    """

    tflite: TfliteModel = field(repr=False)
    name: str
    stated: StatedFacts
