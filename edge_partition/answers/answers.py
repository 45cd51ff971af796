"""What a model's outputs mean, for people: labels, values, boxes, or else what an output holds.

Everything here is pure: a manifest and arrays in, frozen dataclasses out. Integers that stand for
real values are given as those; a softmax is taken only where the manifest says that the scores are
logits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

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
from edge_partition.answers.yolo_boxes import read_yolo
from edge_partition.inputs.pixels import picture_layout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge_core.contract.manifest import Manifest, TensorSpec
    from edge_partition.answers.boxes import RawBoxes

#: Outputs of no more values are listed whole in ``--json``.
_MAX_LISTED = 1000
#: Outputs of no more values are listed whole in a line for people.
_MAX_SHOWN = 8
#: Boxes that a line for people names; ``--json`` has all.
_BOXES_SHOWN = 10
_NO_LABELS = (
    "The model has no labels: classes are shown by their index, from 0. `edge-partition split "
    "--labels FILE` takes a file of them, one a line."
)
_MEANT = frozenset({"probabilities", "logits"})


@dataclass(frozen=True)
class ClassScore:
    """One class and its score.

    Attributes:
        label: The class's label, or its index as text where it has none.
        index: Its place along the output's last axis.
        score: A probability from 0 to 1 where :attr:`Classes.is_probability`, else as it comes.
    """

    label: str
    index: int
    score: float

    def to_json(self) -> dict[str, Any]:
        """Return the class; null where the score is no number."""
        return {"label": self.label, "index": self.index, "score": _finite(self.score)}


@dataclass(frozen=True, eq=False)
class Held:
    """What an output holds.

    Attributes:
        name: The output's name.
        dtype: As it came over the wire.
        shape: Likewise.
        values: Real values (integers dequantized) in ``shape``.
        is_dequantized: Whether ``values`` are other numbers than came.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    values: np.ndarray
    is_dequantized: bool

    def __str__(self) -> str:
        """Return shape and range, the values themselves where there are few."""
        text = f"{self.dtype}{list(self.shape)}"
        if 0 < self.values.size <= _MAX_SHOWN:
            return f"{text}: {', '.join(map(_number, self.values.reshape(-1).tolist()))}"
        summary = self.summary()
        if summary["mean"] is not None:
            text += f", {_number(summary['min'])} to {_number(summary['max'])}, "
            text += f"mean {_number(summary['mean'])}"
        return text + self.warning()

    def warning(self) -> str:
        """Return what is wrong with the values, to be put behind them; mostly nothing."""
        nan, infinite = self._amiss()
        parts = [f"{count:,} {what}" for count, what in ((nan, "NaN"), (infinite, "infinite"))
                 if count]  # fmt: skip
        return f" ({' and '.join(parts)} of {self.values.size:,} values)" if parts else ""

    def summary(self) -> dict[str, Any]:
        """Return ``min``, ``max`` and ``mean`` of the finite values, of complex ones' sizes."""
        values = np.abs(self.values) if np.iscomplexobj(self.values) else self.values
        finite = values[np.isfinite(values)]
        if not finite.size:
            return {"min": None, "max": None, "mean": None}
        return {
            "min": finite.min().item(),
            "max": finite.max().item(),
            "mean": float(finite.mean(dtype=np.float64)),
        }

    def to_json(self) -> dict[str, Any]:
        """Return all of it; the values only where they are no more than 1,000."""
        nan, infinite = self._amiss()
        document: dict[str, Any] = {"name": self.name, "dtype": self.dtype}
        document |= {"shape": list(self.shape), "dequantized": self.is_dequantized}
        document |= {**self.summary(), "nan": nan, "infinite": infinite}
        if self.values.size <= _MAX_LISTED:
            document["values"] = _listed(self.values)
        return document

    def _amiss(self) -> tuple[int, int]:
        return int(np.isnan(self.values).sum()), int(np.isinf(self.values).sum())


@dataclass(frozen=True)
class Classes:
    """An output with one score a class.

    Attributes:
        held: What it holds.
        best: The best classes, best first; those alone whose score is a number.
        is_probability: Whether the scores are known to be probabilities.
        is_labelled: Whether the classes have labels.
    """

    held: Held
    best: tuple[ClassScore, ...]
    is_probability: bool
    is_labelled: bool

    def __str__(self) -> str:
        """Return the best classes with their scores."""
        if not self.best:
            return f"no score is a number{self.held.warning()}"
        word = "" if self.is_labelled else "class " if self.is_probability else "index "
        shown = [f"{word}{plain_text(best.label)} {self._score(best.score)}" for best in self.best]
        text = ", ".join(shown) + self.held.warning()
        # Without labels and a meaning these may be no scores at all.
        return text if self.is_labelled or self.is_probability else f"{text}; {self.held}"

    def _score(self, score: float) -> str:
        return f"{score:.1%}" if self.is_probability else f"(score {_number(score)})"

    def to_json(self) -> dict[str, Any]:
        """Return the best classes and what the output holds."""
        return {
            "kind": "classes",
            "probabilities": self.is_probability,
            "best": [best.to_json() for best in self.best],
            **self.held.to_json(),
        }


@dataclass(frozen=True)
class Value:
    """An output of one value.

    Attributes:
        held: What it holds.
        value: The value; a probability from 0 to 1 where ``is_probability``.
        is_probability: Whether the value is known to be one.
    """

    held: Held
    value: Any
    is_probability: bool

    def __str__(self) -> str:
        """Return the value."""
        is_share = self.is_probability and math.isfinite(self.value)
        return f"{self.value:.1%}" if is_share else _number(self.value)

    def to_json(self) -> dict[str, Any]:
        """Return the value and what the output holds."""
        value = _listed(np.asarray(self.value))
        document = {"kind": "value", "probabilities": self.is_probability, "value": value}
        return {**document, **self.held.to_json()}


@dataclass(frozen=True)
class Values:
    """An output that is neither classes nor one value.

    Attributes:
        held: What it holds.
    """

    held: Held

    def __str__(self) -> str:
        """Return shape and range."""
        return str(self.held)

    def to_json(self) -> dict[str, Any]:
        """Return what the output holds."""
        return {"kind": "values", **self.held.to_json()}


Output: TypeAlias = Classes | Value | Values


@dataclass(frozen=True)
class Answer:
    """What one input's outputs mean.

    Attributes:
        outputs: Each output, in the model's order.
        boxes: Of a detection model the boxes found, best first; None for other models.
        notes: Sentences that hold for every input, such as labels that fit no output.
    """

    outputs: tuple[Output, ...]
    boxes: tuple[Box, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[ClassScore, ...]:
        """The best classes of the first output that has one score a class; mostly the only one."""
        return next((item.best for item in self.outputs if isinstance(item, Classes)), ())

    def __str__(self) -> str:
        """Return the answer in one line."""
        if self.boxes is not None:
            return _boxes_line(self.boxes)
        if len(self.outputs) == 1:
            return str(self.outputs[0])
        return "; ".join(f"{plain_text(item.held.name)}: {item}" for item in self.outputs)

    def to_json(self) -> dict[str, Any]:
        """Return the answer: ``labels``, ``outputs``, and ``boxes`` of a detection model."""
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
    """Say what the outputs of one input mean.

    Args:
        manifest: Of the deployment that gave them.
        outputs: Arrays by output name, of one sample where the model takes several.
        top: Classes to name of an output with one score a class.
        picture_size: Width and height in pixels of the picture that went in: boxes are given in
            its pixels. None: in the pixels of the model's input.
        min_score: Boxes with a lower score are left out.
    """
    labels = manifest.model.labels
    held = [_hold(spec, outputs[spec.name]) for spec in manifest.outputs]
    if manifest.model.detections:
        try:
            boxes = _find_boxes(manifest, held, picture_size, min_score)
        except UnknownDetectionsError as error:
            answer = Answer(tuple(map(Values, held)))
            return replace(answer, notes=(plain_text(str(error)),))
        return Answer(tuple(map(Values, held)), boxes, () if labels else (_NO_LABELS,))
    meant = tuple(
        _mean(item, spec, labels, top) for item, spec in zip(held, manifest.outputs, strict=True)
    )
    return Answer(meant, notes=_label_notes(manifest, meant))


def _hold(spec: TensorSpec, array: np.ndarray) -> Held:
    values = np.asarray(array)
    if spec.quantized is not None:
        scale, zero_point = spec.quantized.scale, spec.quantized.zero_point
        values = (values.astype(np.float64) - zero_point) * scale
    elif values.dtype.kind == "f":
        values = values.astype(np.float64)
    shape = tuple(values.shape)
    return Held(spec.name, spec.dtype, shape, values, spec.quantized is not None)


def _mean(held: Held, spec: TensorSpec, labels: Sequence[str], top: int) -> Output:
    size = held.values.size
    if size == 1:
        return _one_value(held, spec, labels, top)
    is_row = size > 1 and held.shape[-1] == size
    # Whole numbers of 32 bits and more count or index something, and are no scores.
    are_scores = held.values.dtype.kind == "f" or held.values.dtype.itemsize <= np.int16().nbytes
    if not is_row or held.values.dtype.kind in "bc" or not (are_scores or len(labels) == size):
        return Values(held)
    return _rank(held, held.values.reshape(-1).astype(np.float64), spec.scores, labels, top)


def _one_value(held: Held, spec: TensorSpec, labels: Sequence[str], top: int) -> Output:
    value = held.values.reshape(-1)[0]
    if spec.scores not in _MEANT or held.values.dtype.kind not in "fiu":
        return Value(held, value.item(), is_probability=False)
    if spec.scores == "logits":
        # The logistic function, written so that it never overflows.
        value = (1 + np.tanh(np.float64(value) / 2)) / 2
    if len(labels) == 2:  # noqa: PLR2004
        # The one score of two classes is the second's: so Keras trains and counts them.
        return _rank(held, np.array([1 - value, value]), "probabilities", labels, top)
    return Value(held, float(value), is_probability=True)


def _rank(held: Held, scores: np.ndarray, meaning: str, labels: Sequence[str], top: int) -> Classes:
    # Where a score is no number, neither is any probability.
    is_probability = meaning in _MEANT and bool(np.isfinite(scores).all())
    if is_probability and meaning == "logits":
        scores = np.exp(scores - scores.max())
        scores /= scores.sum()
    is_labelled = len(labels) == len(scores)
    # NaN sorts behind everything, and is the score of no best class.
    order = np.argsort(-scores, kind="stable")[: min(top, int((~np.isnan(scores)).sum()))]
    best = tuple(
        ClassScore(labels[index] if is_labelled else str(index), int(index), float(scores[index]))
        for index in order
    )
    return Classes(held, best, is_probability, is_labelled)


def _label_notes(manifest: Manifest, outputs: Sequence[Output]) -> tuple[str, ...]:
    classes = [item for item in outputs if isinstance(item, Classes)]
    if not classes or any(item.is_labelled for item in classes):
        return ()
    count, labels = classes[0].held.values.size, len(manifest.model.labels)
    if labels:
        note = (
            f"The model has {labels:,} labels for {count:,} classes: they are shown by their "
            "index, from 0. `edge-partition split --labels FILE` takes a file of "
            f"{count:,} labels, one a line."
        )
        return (note,)
    return (_NO_LABELS,) if classes[0].is_probability else ()


def _find_boxes(
    manifest: Manifest,
    held: Sequence[Held],
    picture_size: tuple[int, int] | None,
    min_score: float,
) -> tuple[Box, ...]:
    labels: Sequence[str] = manifest.model.labels
    layouts = ((spec, picture_layout(spec)) for spec in manifest.inputs)
    spec, layout = next(((spec, layout) for spec, layout in layouts if layout), (None, None))
    input_size = None if layout is None else (layout.width, layout.height)
    if manifest.model.detections == "ssd":
        labels = ssd_labels(labels)
        raw = read_ssd({item.name: item.values for item in held}, min_score=min_score)
    else:
        head = next((item.values for item in held if item.values.ndim == 3), held[0].values)  # noqa: PLR2004
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
    """Return boxes in the picture's pixels; in the input's where no picture is known."""
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


def _number(value: Any) -> str:
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else f"{value:.4g}"
    return str(value)


def _finite(value: float) -> float | None:
    """Return the number, or None for what JSON has no word for."""
    return value if math.isfinite(value) else None


def _listed(values: np.ndarray) -> Any:
    """Return nested lists with null for NaN and infinities; a complex number is a pair."""
    if np.iscomplexobj(values):
        values = np.stack([values.real, values.imag], axis=-1)
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return values.tolist()
    listed = values.astype(object)
    listed[~np.isfinite(values)] = None
    return listed.tolist()
