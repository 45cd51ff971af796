"""Describe a model's inputs and outputs for the user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edge_partition.inputs.describe_pixels import describe_pixels
from edge_partition.inputs.picture_layout import picture_layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_core.contract.manifest import TensorSpec

_LABELS_SHOWN = 3
_FITS = {"stretch": "stretched", "crop": "cropped", "letterbox": "padded with gray bars"}
_DETECTIONS = {"ssd": "boxes from SSD postprocessing", "yolo": "boxes from a YOLO head"}


def describe_input(spec: TensorSpec) -> str:
    """Return an input in words, such as ``image float32[1, 224, 224, 3]: pictures as -1..1 RGB``.

    The text of a picture input also names the source of its pixels and the resize filter.
    """
    words = []
    if spec.pixels is not None:
        how = f"resized ({spec.pixels.resize}) and {_FITS[spec.pixels.fit]}"
        words.append(f"pictures as {describe_pixels(spec.pixels)}, {how}")
        layout = picture_layout(spec)
        if layout is not None and layout.batch > 1:
            words.append(f"{layout.batch} per request")
    if spec.rate_hz:
        words.append(f"sound at {spec.rate_hz} Hz")
    if spec.quantized is not None:
        words.append(f"scale {spec.quantized.scale:.6g}, zero point {spec.quantized.zero_point}")
    return f"{spec}: {', '.join(words)}" if words else str(spec)


def describe_output(spec: TensorSpec) -> str:
    """Return an output in words, such as ``scores float32[1, 1000]: probabilities``."""
    words = [spec.scores] if spec.scores else []
    if spec.quantized is not None:
        words.append(f"scale {spec.quantized.scale:.6g}, zero point {spec.quantized.zero_point}")
    return f"{spec}: {', '.join(words)}" if words else str(spec)


def describe_classes(labels: Sequence[str], detections: str) -> str:
    """Return the kind of the outputs and the first class names; empty if both are unknown."""
    words = [_DETECTIONS[detections]] if detections else []
    if labels:
        more = len(labels) - _LABELS_SHOWN
        words.append(
            f"{len(labels)} classes: {', '.join(labels[:_LABELS_SHOWN])}"
            f"{f' and {more} more' * (more > 0)}"
        )
    return "; ".join(words)


def ends_document(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], labels: int, detections: str
) -> dict[str, Any]:
    """Return inputs and outputs as JSON values, each with its description in ``words``."""
    return {
        "inputs": [_document(spec, describe_input(spec)) for spec in inputs],
        "outputs": [_document(spec, describe_output(spec)) for spec in outputs],
        "labels": labels,
        "detections": detections,
    }


def _document(spec: TensorSpec, words: str) -> dict[str, Any]:
    pixels = None
    if spec.pixels is not None:
        pixels = {**vars(spec.pixels), "words": describe_pixels(spec.pixels)}
    quantized = None if spec.quantized is None else dict(vars(spec.quantized))
    return {
        "name": spec.name,
        "dtype": spec.dtype,
        "shape": list(spec.shape),
        "pixels": pixels,
        "quantized": quantized,
        "rate_hz": spec.rate_hz,
        "scores": spec.scores,
        "words": words,
    }
