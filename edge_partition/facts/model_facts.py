"""Facts about the meaning of a model's inputs and outputs, beyond dtype and shape."""

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
    """Facts about a model's inputs and outputs beyond dtype and shape.

    Attributes:
        labels: Class names along the last axis of the first output; may be empty.
        pixels: Pixel format of each input that can take pictures, by input name.
        rate_hz: Sample rate in hertz of each input that takes sound, by input name.
        scores: Kind of each output's scores, ``probabilities`` or ``logits``, by output name.
            Outputs of unknown kind are left out.
        detections: Layout of the boxes of an object detector, one of
            :data:`~edge_core.contract.manifest.DETECTIONS`; empty for other models.
        notes: Notes and warnings for the user.
    """

    labels: tuple[str, ...] = ()
    pixels: Mapping[str, Pixels] = field(default_factory=dict)
    rate_hz: Mapping[str, int] = field(default_factory=dict)
    scores: Mapping[str, str] = field(default_factory=dict)
    detections: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PictureOptions:
    """The user's options for a model's pictures and classes.

    An option that the user does not give is None; ``logits`` is False.

    Attributes:
        pixels: Text of ``--pixels``, such as ``-1..1`` or ``127.5/127.5,bgr``, in the syntax of
            :func:`~edge_partition.inputs.describe_pixels.parse_pixels`.
        resize: Filter that resizes pictures, one of
            :data:`~edge_core.contract.manifest.RESIZE_FILTERS`.
        fit: How a picture fits into an input of another aspect ratio, one of
            :data:`~edge_core.contract.manifest.PIXEL_FITS`.
        labels: File of class names, one per line.
        logits: Whether the model's scores are logits. If True, a softmax turns the scores into
            probabilities.
    """

    pixels: str | None = None
    resize: str | None = None
    fit: str | None = None
    labels: Path | None = None
    logits: bool = False


def facts_of_manifest(manifest: Manifest) -> ModelFacts:
    """Return the facts that a manifest contains about its model; the notes are empty."""
    inputs, outputs = manifest.inputs, manifest.outputs
    return ModelFacts(
        labels=manifest.model.labels,
        pixels={spec.name: spec.pixels for spec in inputs if spec.pixels is not None},
        rate_hz={spec.name: spec.rate_hz for spec in inputs if spec.rate_hz},
        scores={spec.name: spec.scores for spec in outputs if spec.scores},
        detections=manifest.model.detections,
    )


def input_specs(graph: Graph, facts: ModelFacts) -> tuple[TensorSpec, ...]:
    """Return the specification of each input, including the facts, in the file's input order."""
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
    """Return the specification of each output, including the facts, in the file's output order."""
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
