"""The head of a YOLO model -> boxes: which candidates count, and which of them overlap.

A head gives thousands of candidates. Those with a score are kept, and of candidates of one class
that overlap only the best (non-maximum suppression).
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from edge_partition.answers.boxes import MIN_SCORE, RawBoxes, UnknownDetectionsError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Of two boxes of one class that share more of their union than this, the worse is dropped.
MAX_OVERLAP = 0.45
#: Boxes kept of one picture, and candidates looked at: what YOLO's own tools take.
_MAX_BOXES = 300
_MAX_CANDIDATES = 30_000
#: Sides in parts of the input stay near 0..1; in pixels some candidate of a head is far above.
_PARTS_AT_MOST = 2.0
_RANK = 3
_SIDES = 4
_FINISHED_COLUMNS = 6


class _Form(Enum):
    """What the columns after a candidate's four sides are."""

    SCORES = "a score a class"
    SURE_AND_SCORES = "how sure it is that there is anything (YOLOv5), then a score a class"
    FINISHED = "score and class; the sides are left, top, right, bottom, and nothing overlaps"


def read_yolo(
    head: np.ndarray,
    *,
    classes: int,
    input_size: tuple[int, int] | None,
    min_score: float = MIN_SCORE,
    max_overlap: float = MAX_OVERLAP,
) -> RawBoxes:
    """Read the head of an Ultralytics model.

    Args:
        head: Real values ``(1, 4 + classes, n)``: center x, center y, width and height, in parts
            of the input or in its pixels, then a score a class; rows beyond (masks, keypoints) are
            left alone. Or ``(1, n, 4 + classes)``; or ``(1, n, 5 + classes)`` as YOLOv5 has it; or
            ``(1, n, 6)`` of a head that has dropped what overlaps itself.
        classes: How many classes there are; 0 where that is not known.
        input_size: Width and height of the model's input in pixels.
        min_score: Candidates below are left out.
        max_overlap: Intersection over union, from 0 to 1.

    Raises:
        UnknownDetectionsError: Another shape, or pixels of an input of unknown size.
    """
    if head.ndim != _RANK or head.shape[0] != 1 or min(head.shape[1:]) <= _SIDES:
        raise _unknown(head.shape, classes)
    candidates, form = _orient(np.asarray(head[0], np.float64), classes)
    sides = candidates[:, :_SIDES]
    if form is _Form.FINISHED:
        scores, chosen = candidates[:, _SIDES], np.rint(candidates[:, _SIDES + 1])
    else:
        first = _SIDES + (form is _Form.SURE_AND_SCORES)
        by_class = candidates[:, first : first + classes or None]
        if form is _Form.SURE_AND_SCORES:
            by_class = by_class * candidates[:, _SIDES:first]
        chosen = by_class.argmax(axis=1)
        scores = np.take_along_axis(by_class, chosen[:, None], axis=1)[:, 0]
        sides = _corners(sides)
    scale = _scale(sides, input_size)
    usable = np.flatnonzero((scores >= min_score) & np.isfinite(candidates).all(axis=1))
    best = usable[np.argsort(-scores[usable], kind="stable")][:_MAX_CANDIDATES]
    found = RawBoxes(sides[best] / scale, chosen[best].astype(np.int64), scores[best])
    if form is _Form.FINISHED:
        return found
    kept = suppress(found, max_overlap)
    return RawBoxes(found.sides[kept], found.classes[kept], found.scores[kept])


def suppress(boxes: RawBoxes, max_overlap: float) -> Sequence[int]:
    """Return the places of the boxes that overlap no better one of their class.

    The first :data:`_MAX_BOXES` of them; ``boxes`` are best first.
    """
    left, top, right, bottom = boxes.sides.T
    areas = (right - left).clip(0) * (bottom - top).clip(0)
    kept: list[int] = []
    waiting = np.arange(len(areas))
    while len(waiting) and len(kept) < _MAX_BOXES:
        best, rest = waiting[0], waiting[1:]
        kept.append(int(best))
        width = np.minimum(right[best], right[rest]) - np.maximum(left[best], left[rest])
        height = np.minimum(bottom[best], bottom[rest]) - np.maximum(top[best], top[rest])
        shared = width.clip(0) * height.clip(0)
        overlaps = shared > max_overlap * (areas[best] + areas[rest] - shared)
        waiting = rest[~(overlaps & (boxes.classes[rest] == boxes.classes[best]))]
    return kept


def _orient(head: np.ndarray, classes: int) -> tuple[np.ndarray, _Form]:
    """Return ``head`` with one candidate a row, and what its columns are."""
    rows, columns = head.shape
    if rows < columns and rows >= _SIDES + classes:
        return head.T, _Form.SCORES
    if columns == _FINISHED_COLUMNS:
        return head, _Form.FINISHED
    if classes and columns == _SIDES + 1 + classes:
        return head, _Form.SURE_AND_SCORES
    if columns == _SIDES + classes or (not classes and columns < rows):
        return head, _Form.SCORES
    raise _unknown((1, *head.shape), classes)


def _corners(sides: np.ndarray) -> np.ndarray:
    """Return centers, widths and heights as left, top, right, bottom."""
    centers, halves = sides[:, :2], sides[:, 2:] / 2
    return np.concatenate([centers - halves, centers + halves], axis=1)


def _scale(sides: np.ndarray, input_size: tuple[int, int] | None) -> np.ndarray:
    """Return what sides are to be divided by to be parts of the input: 1, or its pixels."""
    finite = sides[np.isfinite(sides).all(axis=1)]
    if not finite.size or finite.max() <= _PARTS_AT_MOST:
        return np.ones(_SIDES)
    if input_size is None:
        raise UnknownDetectionsError(
            "The head gives boxes in pixels, and the model's input is no picture of known size."
        )
    return np.array([*input_size, *input_size], np.float64)


def _unknown(shape: tuple[int, ...], classes: int) -> UnknownDetectionsError:
    columns = 4 + classes if classes else "4 + classes"
    return UnknownDetectionsError(
        f"The output {list(shape)} is no YOLO head; expected [1, {columns}, n]."
    )
