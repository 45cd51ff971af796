"""Read the boxes of an SSD model, and convert boxes to pixels of the picture."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_core.errors import EdgePartitionError
from edge_core.plain_text import plain_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Default lower bound on a box's score, as in YOLO's own tools.
MIN_SCORE = 0.25
_SSD_NAME = re.compile(r"TFLite_Detection_PostProcess(?::([1-3]))?")
#: Labels for the background, which is no class of the model. An SSD label file may start with one.
_BACKGROUND = frozenset({"???", "background"})
_CORNERS = 4
_SSD_OUTPUTS = 4


class UnknownDetectionsError(EdgePartitionError):
    """The outputs of a detection model have an unknown format."""


@dataclass(frozen=True)
class Box:
    """An object found in a picture.

    The sides lie inside the picture. They are in pixels from the picture's upper left corner. If
    the size of the model's input is unknown, the sides are fractions of the input instead.

    Attributes:
        label: The class's label, or its index as text if the class has no label.
        index: The class's index in the model.
        score: The box's score; from 0 to 1 if the model gives probabilities.
        left: Left side.
        top: Top side.
        right: Right side.
        bottom: Bottom side.
    """

    label: str
    index: int
    score: float
    left: float
    top: float
    right: float
    bottom: float

    @property
    def caption(self) -> str:
        """The class and its score as one line of text, without control characters."""
        label = f"class {self.label}" if self.label == str(self.index) else plain_text(self.label)
        return f"{label} {self.score:.1%}" if self.score <= 1 else f"{label} {self.score:.4g}"

    def to_json(self) -> dict[str, Any]:
        """Return the box as a JSON object. The sides are rounded to two decimals."""
        sides = {side: round(getattr(self, side), 2) for side in ("left", "top", "right", "bottom")}
        return {"label": self.label, "index": self.index, "score": self.score, **sides}


@dataclass(frozen=True)
class RawBoxes:
    """``n`` boxes as fractions of the model's input, highest score first.

    Attributes:
        sides: Left, top, right and bottom, each from 0 to 1 for a box inside the input; float64,
            shape ``(n, 4)``.
        classes: Class indexes; int64, shape ``(n,)``.
        scores: Scores; float64, shape ``(n,)``.
    """

    sides: np.ndarray
    classes: np.ndarray
    scores: np.ndarray


def read_ssd(outputs: Mapping[str, np.ndarray], *, min_score: float = MIN_SCORE) -> RawBoxes:
    """Return the boxes in the four outputs of an SSD model.

    Args:
        outputs: The real values of the four outputs, by name. For ``n`` boxes, these are: the boxes
            ``(1, n, 4)`` as top, left, bottom and right in fractions of the input; the classes
            ``(1, n)``; the scores ``(1, n)``; and the number of boxes that are valid. The outputs
            may be in any order that :func:`_ssd_outputs` recognizes.
        min_score: Lower bound on a box's score. Boxes with a lower score are left out.

    Raises:
        UnknownDetectionsError: The outputs have other shapes.
    """
    boxes, classes, scores, count = _ssd_outputs(outputs)
    found = int(np.clip(np.nan_to_num(count.reshape(-1)[0]), 0, scores.size))
    scores, classes = scores.reshape(-1)[:found], classes.reshape(-1)[:found]
    sides = boxes.reshape(-1, _CORNERS)[:found, [1, 0, 3, 2]]
    usable = (scores >= min_score) & np.isfinite(sides).all(axis=1) & np.isfinite(classes)
    order = np.flatnonzero(usable)
    order = order[np.argsort(-scores[order], kind="stable")]
    return RawBoxes(sides[order], np.rint(classes[order]).astype(np.int64), scores[order])


def _ssd_outputs(outputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Return an SSD model's outputs in the order boxes, classes, scores, count.

    TensorFlow 1 and Model Maker give the outputs names that match ``_SSD_NAME``. These names show
    the order. For other names, the shapes show which outputs are the boxes and the count. One of
    the two remaining outputs holds the scores, the other the classes. If only one of the two has
    values that are not whole numbers, it holds the scores. If not, the order of all four outputs
    decides. If the boxes come first, the classes come before the scores (TensorFlow 1). If not, the
    scores come before the classes (TensorFlow 2).
    """
    named = {match[1] or "0": array for name, array in outputs.items()
             if (match := _SSD_NAME.fullmatch(name))}  # fmt: skip
    if len(named) == _SSD_OUTPUTS:
        found = [named[key] for key in sorted(named)]
    else:
        found = _ssd_by_shape(list(outputs.values()))
    if found and found[0].size == _CORNERS * found[1].size and found[1].size == found[2].size:
        return [np.asarray(array, np.float64) for array in found]
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in outputs.items())
    raise UnknownDetectionsError(
        f"The outputs are not those of an SSD model: {shapes}; expected boxes [1, n, 4], classes "
        "[1, n], scores [1, n] and a count, for n boxes."
    )


def _ssd_by_shape(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    rank = 3
    boxes = [
        n for n, array in enumerate(arrays) if array.ndim == rank and array.shape[2] == _CORNERS
    ]
    counts = [n for n, array in enumerate(arrays) if array.size == 1 and array.ndim <= 1]
    rest = [n for n in range(len(arrays)) if n not in {*boxes, *counts}]
    if len(arrays) != _SSD_OUTPUTS or len(boxes) != 1 or len(counts) != 1:
        return []
    # Boxes first: classes, then scores (TensorFlow 1). Otherwise scores come before classes.
    classes, scores = rest if boxes[0] == 0 else rest[::-1]
    if _has_fractions(arrays[classes]) and not _has_fractions(arrays[scores]):
        classes, scores = scores, classes
    return [arrays[boxes[0]], arrays[classes], arrays[scores], arrays[counts[0]]]


def _has_fractions(array: np.ndarray) -> bool:
    return bool((array != np.rint(array)).any())


def ssd_labels(labels: Sequence[str]) -> Sequence[str]:
    """Return the labels of an SSD model's classes, in the order of the class indexes.

    A label file may start with a label for the background, which is no class of the model. This
    label is left out.
    """
    return labels[1:] if labels and labels[0].strip().lower() in _BACKGROUND else labels


def in_picture(
    sides: np.ndarray, input_size: tuple[int, int], picture_size: tuple[int, int], fit: str
) -> np.ndarray:
    """Convert boxes to pixels of the picture, and clip them at the picture's edges.

    Args:
        sides: Left, top, right and bottom of ``n`` boxes, in fractions of the model's input; shape
            ``(n, 4)``.
        input_size: Width and height of the input in pixels.
        picture_size: Width and height in pixels of the original picture, before the picture was
            fitted to the input.
        fit: How the picture was fitted, one of :data:`~edge_core.contract.manifest.PIXEL_FITS`.

    Returns:
        Left, top, right and bottom in pixels; shape ``(n, 4)``.
    """
    inputs, picture = np.array(input_size, np.float64), np.array(picture_size, np.float64)
    inner = inputs
    if fit == "crop":
        inner = picture * (inputs / picture).max()
    elif fit == "letterbox":
        # resize_picture rounds the inner size to whole pixels.
        inner = np.rint(picture * (inputs / picture).min()).clip(1)
    # The picture's upper left corner in the input: positive with bars, negative after a crop.
    corner = (inputs - inner) / 2
    if fit == "letterbox":
        corner = np.floor(corner)
    found = (sides * np.tile(inputs, 2) - np.tile(corner, 2)) * np.tile(picture / inner, 2)
    return found.clip(0, np.tile(picture, 2))
