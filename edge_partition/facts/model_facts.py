"""What is known of a model beyond its operators: what its inputs take and its outputs mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge_core.contract.manifest import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edge_core.contract.manifest import Manifest, Pixels
    from edge_partition.tflite.graph import Graph


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model's inputs and outputs beyond dtype and shape.

    Attributes:
        labels: The names of the classes along the last axis of the first output; may be empty.
        pixels: By input name: what a picture becomes; only of inputs that can take pictures.
        rate_hz: By input name: samples a second of the sound that it takes.
        scores: By output name: ``probabilities`` or ``logits``.
        detections: As in :class:`~edge_core.contract.manifest.ModelInfo`.
        notes: Sentences for people: what was guessed, rebuilt or chosen, and warnings.
    """

    labels: tuple[str, ...] = ()
    pixels: Mapping[str, Pixels] = field(default_factory=dict)
    rate_hz: Mapping[str, int] = field(default_factory=dict)
    scores: Mapping[str, str] = field(default_factory=dict)
    detections: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PictureOptions:
    """What a person says of a model's pictures and classes; None where nothing is said.

    Attributes:
        pixels: What values become, such as ``-1..1`` or ``127.5/127.5,bgr``;
            :func:`~edge_partition.inputs.pixels.parse_pixels` reads it.
        resize: One of :data:`~edge_core.contract.manifest.RESIZE_FILTERS`.
        fit: One of :data:`~edge_core.contract.manifest.PIXEL_FITS`.
        labels: A file of class names, one a line.
        logits: Whether the model's scores are logits: a softmax makes probabilities of them.
    """

    pixels: str | None = None
    resize: str | None = None
    fit: str | None = None
    labels: Path | None = None
    logits: bool = False


def facts_of_manifest(manifest: Manifest) -> ModelFacts:
    """Return what a manifest tells of the model that it came from."""
    inputs, outputs = manifest.inputs, manifest.outputs
    return ModelFacts(
        labels=manifest.model.labels,
        pixels={spec.name: spec.pixels for spec in inputs if spec.pixels is not None},
        rate_hz={spec.name: spec.rate_hz for spec in inputs if spec.rate_hz},
        scores={spec.name: spec.scores for spec in outputs if spec.scores},
        detections=manifest.model.detections,
    )


def input_specs(graph: Graph, facts: ModelFacts) -> tuple[TensorSpec, ...]:
    """Return a model's inputs with what is known of them, in file order."""
    return tuple(
        TensorSpec(
            tensor.name,
            tensor.dtype,
            tensor.shape,
            pixels=facts.pixels.get(tensor.name),
            quantized=tensor.quantized,
            rate_hz=facts.rate_hz.get(tensor.name, 0),
        )
        for tensor in graph.boundary(0)
    )


def output_specs(graph: Graph, facts: ModelFacts) -> tuple[TensorSpec, ...]:
    """Return a model's outputs with what is known of them, in file order."""
    return tuple(
        TensorSpec(
            tensor.name,
            tensor.dtype,
            tensor.shape,
            quantized=tensor.quantized,
            scores=facts.scores.get(tensor.name, ""),
        )
        for tensor in graph.boundary(len(graph.operators))
    )
