"""Describe a model's inputs and outputs in words and as JSON values."""

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
    """Return a description of an input, such as ``sound int16[1, 16000]: sound at 16000 Hz``.

    The description of a picture input contains the pixel format, the source of the pixel format,
    and the resize filter. It also says how a picture of another aspect ratio is fitted.
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
    """Return a description of an output, such as ``scores float32[1, 1000]: probabilities``."""
    words = [spec.scores] if spec.scores else []
    if spec.quantized is not None:
        words.append(f"scale {spec.quantized.scale:.6g}, zero point {spec.quantized.zero_point}")
    return f"{spec}: {', '.join(words)}" if words else str(spec)


def describe_classes(labels: Sequence[str], detections: str) -> str:
    """Return a description of a model's boxes and classes; empty if the model has neither.

    For example ``boxes from a YOLO head; 80 classes: person, bicycle, car and 77 more``.

    Args:
        labels: Class names; may be empty.
        detections: Layout of the boxes, ``ssd`` or ``yolo``; empty for a model without boxes.
    """
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
    """Return a JSON document about a model's inputs, outputs, labels and detections.

    In the document, the field ``words`` of each input and output is a description for the user.

    Args:
        inputs: Inputs of the model.
        outputs: Outputs of the model.
        labels: Number of class names.
        detections: Layout of the boxes, ``ssd`` or ``yolo``; empty for a model without boxes.
    """
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
