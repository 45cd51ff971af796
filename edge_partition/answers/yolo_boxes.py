"""Read boxes from the head of a YOLO model. The head is the model's output tensor.

A head contains thousands of candidates for boxes. Candidates with a low score are dropped. If
candidates of one class overlap too much, only the candidate with the highest score is kept
(non-maximum suppression).
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from edge_partition.answers.boxes import MIN_SCORE, RawBoxes, UnknownDetectionsError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Largest intersection over union of two boxes of one class. If two boxes overlap more, the
#: box with the lower score is dropped.
MAX_OVERLAP = 0.45
#: Largest numbers of boxes and of candidates for one picture, as in YOLO's own tools.
_MAX_BOXES = 300
_MAX_CANDIDATES = 30_000
#: If a head has a larger value than this, its boxes are in pixels, not in fractions of the input.
_MAX_FRACTION = 2.0
_RANK = 3
_SIDES = 4
_FINISHED_COLUMNS = 6


class _Form(Enum):
    """What the columns of a candidate mean. The first four columns are the box."""

    SCORES = "one score for each class"
    OBJECTNESS_AND_SCORES = "objectness (YOLOv5), then one score for each class"
    FINISHED = "score and class; the sides are left, top, right, bottom, after suppression"


def read_yolo(
    head: np.ndarray,
    *,
    classes: int,
    input_size: tuple[int, int] | None,
    min_score: float = MIN_SCORE,
    max_overlap: float = MAX_OVERLAP,
) -> RawBoxes:
    """Return the boxes in the head (output tensor) of an Ultralytics model.

    The head has one of these shapes, with ``n`` candidates:

    - ``(1, 4 + classes, n)``: rows for center x, center y, width and height, in fractions of the
      model's input or in pixels of the input, then a row of scores for each class. Further rows
      (masks, keypoints) are ignored.
    - ``(1, n, 4 + classes)``: the same data, with columns instead of rows.
    - ``(1, n, 5 + classes)``: columns as before, with YOLOv5's objectness before the scores.
    - ``(1, n, 6)``: columns for left, top, right, bottom, score and class. The model itself has
      applied non-maximum suppression.

    Args:
        head: The head's real values.
        classes: Number of classes; 0 if unknown.
        input_size: Width and height of the model's input in pixels; None if unknown.
        min_score: Lower bound on a candidate's score.
        max_overlap: Largest intersection over union of two boxes of one class, from 0 to 1.

    Raises:
        UnknownDetectionsError: The head has another shape, or the boxes are in pixels and
            ``input_size`` is None.
    """
    if head.ndim != _RANK or head.shape[0] != 1 or min(head.shape[1:]) <= _SIDES:
        raise _unknown(head.shape, classes)
    candidates, form = _orient(np.asarray(head[0], np.float64), classes)
    sides = candidates[:, :_SIDES]
    if form is _Form.FINISHED:
        scores, chosen = candidates[:, _SIDES], np.rint(candidates[:, _SIDES + 1])
    else:
        first = _SIDES + (form is _Form.OBJECTNESS_AND_SCORES)
        by_class = candidates[:, first : first + classes or None]
        if form is _Form.OBJECTNESS_AND_SCORES:
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
    """Return the indexes of the boxes that remain after non-maximum suppression.

    A box is dropped if it overlaps a kept box of the same class by more than ``max_overlap``.

    Args:
        boxes: Boxes, highest score first.
        max_overlap: Largest allowed overlap of two boxes: the area of the intersection divided by
            the area of the union, from 0 to 1.

    Returns:
        At most :data:`_MAX_BOXES` indexes, ascending.
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
    """Return an array with one candidate in each row, and the meaning of the columns."""
    rows, columns = head.shape
    if rows < columns and rows >= _SIDES + classes:
        return head.T, _Form.SCORES
    if columns == _FINISHED_COLUMNS:
        return head, _Form.FINISHED
    if classes and columns == _SIDES + 1 + classes:
        return head, _Form.OBJECTNESS_AND_SCORES
    if columns == _SIDES + classes or (not classes and columns < rows):
        return head, _Form.SCORES
    raise _unknown((1, *head.shape), classes)


def _corners(sides: np.ndarray) -> np.ndarray:
    """Convert centers, widths and heights to left, top, right, bottom."""
    centers, halves = sides[:, :2], sides[:, 2:] / 2
    return np.concatenate([centers - halves, centers + halves], axis=1)


def _scale(sides: np.ndarray, input_size: tuple[int, int] | None) -> np.ndarray:
    """Return four divisors, which convert the sides of a box to fractions of the input.

    If the sides are in pixels, the divisors are the input's width, height, width and height. If the
    sides are fractions already, all divisors are 1.
    """
    finite = sides[np.isfinite(sides).all(axis=1)]
    if not finite.size or finite.max() <= _MAX_FRACTION:
        return np.ones(_SIDES)
    if input_size is None:
        raise UnknownDetectionsError(
            "The model gives boxes in pixels, but the size of its input is unknown; expected an "
            "input that takes a picture."
        )
    return np.array([*input_size, *input_size], np.float64)


def _unknown(shape: tuple[int, ...], classes: int) -> UnknownDetectionsError:
    columns = 4 + classes if classes else "4 + classes"
    return UnknownDetectionsError(
        f"The output of shape {list(shape)} does not fit a YOLO model; expected "
        f"[1, {columns}, n], with n boxes."
    )
