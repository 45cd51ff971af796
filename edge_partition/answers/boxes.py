"""Boxes that a detection model found, and where they lie in the picture itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_core.errors import EdgePartitionError
from edge_core.plain_text import plain_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Of a box whose score is below, nothing is said: what YOLO's own tools take.
MIN_SCORE = 0.25
_SSD_NAME = re.compile(r"TFLite_Detection_PostProcess(?::([1-3]))?")
#: Labels files of SSD models begin with a class that the model never gives.
_BACKGROUND = frozenset({"???", "background"})
_CORNERS = 4
_SSD_OUTPUTS = 4


class UnknownDetectionsError(EdgePartitionError):
    """Outputs that should be boxes are of no known form."""


@dataclass(frozen=True)
class Box:
    """One thing found in a picture.

    Attributes:
        label: Its class: the label, or the index as text where the class has no label.
        index: The class's index as the model counts.
        score: From 0 to 1 where the model gives probabilities.
        left: Its sides from the picture's upper left corner, in pixels, within the picture.
        top: Likewise.
        right: Likewise.
        bottom: Likewise.
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
        """The class and its score, fit for a terminal."""
        label = f"class {self.label}" if self.label == str(self.index) else plain_text(self.label)
        return f"{label} {self.score:.1%}" if self.score <= 1 else f"{label} {self.score:.4g}"

    def to_json(self) -> dict[str, Any]:
        """Return the box with its sides to a hundredth of a pixel."""
        sides = {side: round(getattr(self, side), 2) for side in ("left", "top", "right", "bottom")}
        return {"label": self.label, "index": self.index, "score": self.score, **sides}


@dataclass(frozen=True)
class RawBoxes:
    """Boxes as a model gives them, best first.

    Attributes:
        sides: float64 ``(n, 4)``: left, top, right and bottom in parts of the model's input, 0..1.
        classes: int64 ``(n,)``.
        scores: float64 ``(n,)``.
    """

    sides: np.ndarray
    classes: np.ndarray
    scores: np.ndarray


def read_ssd(outputs: Mapping[str, np.ndarray], *, min_score: float = MIN_SCORE) -> RawBoxes:
    """Read the four outputs of ``TFLite_Detection_PostProcess``.

    Args:
        outputs: In the model's order, real values: boxes ``(1, n, 4)`` as top, left, bottom and
            right in parts of the input, classes ``(1, n)``, scores ``(1, n)`` and their count.
        min_score: Boxes below are left out.

    Raises:
        UnknownDetectionsError: The outputs are of other shapes.
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
    """Return boxes, classes, scores and count, in whatever order the file has them.

    TensorFlow 1 and Model Maker wrote them in this order and by this name, TensorFlow 2's object
    detection as scores, boxes, count and classes: boxes and count are known by their shapes, the
    scores by their fractions, and only where both are whole numbers does the order decide.
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
        f"The outputs are not the four of an SSD: {shapes}; expected boxes [1, n, 4], classes "
        "[1, n], scores [1, n] and a count."
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
    # Where the boxes come first, the classes are next; where they don't, the scores are first.
    classes, scores = rest if boxes[0] == 0 else rest[::-1]
    if _has_fractions(arrays[classes]) and not _has_fractions(arrays[scores]):
        classes, scores = scores, classes
    return [arrays[boxes[0]], arrays[classes], arrays[scores], arrays[counts[0]]]


def _has_fractions(array: np.ndarray) -> bool:
    return bool((array != np.rint(array)).any())


def ssd_labels(labels: Sequence[str]) -> Sequence[str]:
    """Return labels in the order of an SSD's classes, which don't count the background."""
    return labels[1:] if labels and labels[0].strip().lower() in _BACKGROUND else labels


def in_picture(
    sides: np.ndarray, input_size: tuple[int, int], picture_size: tuple[int, int], fit: str
) -> np.ndarray:
    """Return boxes in the pixels of the picture, cut off at its edges.

    Args:
        sides: ``(n, 4)``: left, top, right, bottom in parts of the model's input.
        input_size: Width and height of the input in pixels.
        picture_size: Of the picture that was fitted into it.
        fit: How, one of :data:`~edge_core.contract.manifest.PIXEL_FITS`.
    """
    inputs, picture = np.array(input_size, np.float64), np.array(picture_size, np.float64)
    inner = inputs
    if fit == "crop":
        inner = picture * (inputs / picture).max()
    elif fit == "letterbox":
        # Whole pixels, as the picture was resized.
        inner = np.rint(picture * (inputs / picture).min()).clip(1)
    # In the input, the picture's upper left corner: within it with bars, beyond it where cut.
    corner = (inputs - inner) / 2
    if fit == "letterbox":
        corner = np.floor(corner)
    found = (sides * np.tile(inputs, 2) - np.tile(corner, 2)) * np.tile(picture / inner, 2)
    return found.clip(0, np.tile(picture, 2))
