"""Interpret a model's outputs for the user as labels, values, boxes, or a summary.

The functions are pure: they get a manifest and arrays, and return frozen dataclasses. Quantized
integers are converted to real values. Scores are converted to probabilities only if the manifest
says that the scores are logits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_core.plain_text import plain_text
from edge_partition.answers.boxes import (
    MIN_SCORE,
    Box,
    UnknownDetectionsError,
    in_picture,
    read_ssd,
    ssd_labels,
)
from edge_partition.answers.outputs import Classes, ClassScore, Output, OutputTensor, Value, Values
from edge_partition.answers.yolo_boxes import read_yolo
from edge_partition.inputs.picture_layout import picture_layout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge_core.contract.manifest import Manifest, TensorSpec
    from edge_partition.answers.boxes import RawBoxes

#: Number of boxes that a line of text lists; further boxes are only counted. ``--json`` has all.
_BOXES_SHOWN = 10
_NO_LABELS = (
    "The model has no labels: classes are shown by their index, from 0. To add labels, give a file "
    "with one label per line to `edge-partition split --labels FILE`."
)
_KNOWN_MEANINGS = frozenset({"probabilities", "logits"})


@dataclass(frozen=True)
class Answer:
    """The interpreted outputs for one input.

    Attributes:
        outputs: The interpretation of each output, in the model's order.
        boxes: The boxes that a detection model found, highest score first; None for other models.
        notes: Sentences for the user that are equal for every input. Example: the number of labels
            is not the number of classes.
    """

    outputs: tuple[Output, ...]
    boxes: tuple[Box, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[ClassScore, ...]:
        """The best classes of the first output that has one score for each class.

        Empty if no output has scores, or if every score is NaN.
        """
        return next((item.best for item in self.outputs if isinstance(item, Classes)), ())

    def __str__(self) -> str:
        """Return the answer in one line."""
        if self.boxes is not None:
            return _boxes_line(self.boxes)
        if len(self.outputs) == 1:
            return str(self.outputs[0])
        return "; ".join(f"{plain_text(item.tensor.name)}: {item}" for item in self.outputs)

    def to_json(self) -> dict[str, Any]:
        """Return the answer as a JSON object.

        The fields are ``labels``, ``outputs`` and, for a detection model, ``boxes``.
        """
        document: dict[str, Any] = {
            "labels": [best.to_json() for best in self.labels],
            "outputs": [item.to_json() for item in self.outputs],
        }
        if self.boxes is not None:
            document["boxes"] = [box.to_json() for box in self.boxes]
        return document


def describe_answer(
    manifest: Manifest,
    outputs: Mapping[str, np.ndarray],
    *,
    top: int,
    picture_size: tuple[int, int] | None = None,
    min_score: float = MIN_SCORE,
) -> Answer:
    """Interpret a model's outputs for one input.

    Args:
        manifest: The deployment's manifest.
        outputs: Arrays by output name, for one sample.
        top: Number of best classes in the answer, for an output with one score for each class.
        picture_size: Width and height in pixels of the picture from which the input was made. The
            boxes in the answer are in pixels of this picture. None: the boxes are in pixels of the
            model's input.
        min_score: Lower bound on a box's score. Boxes with a lower score are left out.
    """
    labels = manifest.model.labels
    tensors = [_dequantize(spec, outputs[spec.name]) for spec in manifest.outputs]
    if manifest.model.detections:
        try:
            boxes = _find_boxes(manifest, tensors, picture_size, min_score)
        except UnknownDetectionsError as error:
            answer = Answer(tuple(map(Values, tensors)))
            return replace(answer, notes=(plain_text(str(error)),))
        return Answer(tuple(map(Values, tensors)), boxes, () if labels else (_NO_LABELS,))
    interpreted = tuple(
        _interpret(item, spec, labels, top)
        for item, spec in zip(tensors, manifest.outputs, strict=True)
    )
    return Answer(interpreted, notes=_label_notes(manifest, interpreted))


def _dequantize(spec: TensorSpec, array: np.ndarray) -> OutputTensor:
    values = np.asarray(array)
    if spec.quantized is not None:
        scale, zero_point = spec.quantized.scale, spec.quantized.zero_point
        values = (values.astype(np.float64) - zero_point) * scale
    elif values.dtype.kind == "f":
        values = values.astype(np.float64)
    shape = tuple(values.shape)
    return OutputTensor(spec.name, spec.dtype, shape, values, spec.quantized is not None)


def _interpret(tensor: OutputTensor, spec: TensorSpec, labels: Sequence[str], top: int) -> Output:
    size = tensor.values.size
    if size == 1:
        return _one_value(tensor, spec, labels, top)
    is_row = size > 1 and tensor.shape[-1] == size
    # Integers of 32 bits and more are counts or indexes, not scores.
    are_scores = (
        tensor.values.dtype.kind == "f" or tensor.values.dtype.itemsize <= np.int16().nbytes
    )
    if not is_row or tensor.values.dtype.kind in "bc" or not (are_scores or len(labels) == size):
        return Values(tensor)
    return _rank(tensor, tensor.values.reshape(-1).astype(np.float64), spec.scores, labels, top)


def _one_value(tensor: OutputTensor, spec: TensorSpec, labels: Sequence[str], top: int) -> Output:
    value = tensor.values.reshape(-1)[0]
    if spec.scores not in _KNOWN_MEANINGS or tensor.values.dtype.kind not in "fiu":
        return Value(tensor, value.item(), is_probability=False)
    if spec.scores == "logits":
        # The logistic function, in a form that never overflows.
        value = (1 + np.tanh(np.float64(value) / 2)) / 2
    if len(labels) == 2:  # noqa: PLR2004
        # With two classes, a single score belongs to the second class, as in Keras.
        return _rank(tensor, np.array([1 - value, value]), "probabilities", labels, top)
    return Value(tensor, float(value), is_probability=True)


def _rank(
    tensor: OutputTensor, scores: np.ndarray, meaning: str, labels: Sequence[str], top: int
) -> Classes:
    # If one score is not finite, none of the probabilities would be finite.
    is_probability = meaning in _KNOWN_MEANINGS and bool(np.isfinite(scores).all())
    if is_probability and meaning == "logits":
        scores = np.exp(scores - scores.max())
        scores /= scores.sum()
    is_labelled = len(labels) == len(scores)
    # NaN sorts last; a class with the score NaN is left out.
    order = np.argsort(-scores, kind="stable")[: min(top, int((~np.isnan(scores)).sum()))]
    best = tuple(
        ClassScore(labels[index] if is_labelled else str(index), int(index), float(scores[index]))
        for index in order
    )
    return Classes(tensor, best, is_probability, is_labelled)


def _label_notes(manifest: Manifest, outputs: Sequence[Output]) -> tuple[str, ...]:
    classes = [item for item in outputs if isinstance(item, Classes)]
    if not classes or any(item.is_labelled for item in classes):
        return ()
    count, labels = classes[0].tensor.values.size, len(manifest.model.labels)
    if labels:
        note = (
            f"The model has {labels:,} labels for {count:,} classes: classes are shown by their "
            f"index, from 0. To fix this, give a file with {count:,} labels, one per line, to "
            "`edge-partition split --labels FILE`."
        )
        return (note,)
    return (_NO_LABELS,) if classes[0].is_probability else ()


def _find_boxes(
    manifest: Manifest,
    tensors: Sequence[OutputTensor],
    picture_size: tuple[int, int] | None,
    min_score: float,
) -> tuple[Box, ...]:
    labels: Sequence[str] = manifest.model.labels
    layouts = ((spec, picture_layout(spec)) for spec in manifest.inputs)
    spec, layout = next(((spec, layout) for spec, layout in layouts if layout), (None, None))
    input_size = None if layout is None else (layout.width, layout.height)
    if manifest.model.detections == "ssd":
        labels = ssd_labels(labels)
        raw = read_ssd({item.name: item.values for item in tensors}, min_score=min_score)
    else:
        head = next((item.values for item in tensors if item.values.ndim == 3), tensors[0].values)  # noqa: PLR2004
        raw = read_yolo(head, classes=len(labels), input_size=input_size, min_score=min_score)
    fit = spec.pixels.fit if spec is not None and spec.pixels is not None else "stretch"
    return _place(raw, labels, input_size, picture_size, fit)


def _place(
    raw: RawBoxes,
    labels: Sequence[str],
    input_size: tuple[int, int] | None,
    picture_size: tuple[int, int] | None,
    fit: str,
) -> tuple[Box, ...]:
    """Return boxes in pixels of the picture, or of the model's input if there is no picture.

    Without an ``input_size``, the boxes are fractions of the model's input.
    """
    if input_size is None:
        sides = raw.sides.clip(0, 1)
    else:
        sides = in_picture(raw.sides, input_size, picture_size or input_size, fit)
    boxes = []
    for (left, top, right, bottom), index, score in zip(
        sides.tolist(), raw.classes.tolist(), raw.scores.tolist(), strict=True
    ):
        label = labels[index] if 0 <= index < len(labels) else str(index)
        boxes.append(Box(label, index, score, left, top, right, bottom))
    return tuple(boxes)


def _boxes_line(boxes: Sequence[Box]) -> str:
    if not boxes:
        return "no boxes"
    shown = "; ".join(
        f"{box.caption} at {box.left:.0f},{box.top:.0f} to {box.right:.0f},{box.bottom:.0f}"
        for box in boxes[:_BOXES_SHOWN]
    )
    rest = len(boxes) - _BOXES_SHOWN
    more = f"; {rest} more" if rest > 0 else ""
    return f"{len(boxes)} box{'es' * (len(boxes) != 1)}: {shown}{more}"
