"""Answers of the whole model against answers of its stages: differences, top classes, accuracy.

Pure: a manifest and payloads in, numbers out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge_core.contract.narrow_floats import FLOAT16_MAX
from edge_core.contract.tensors import decode_tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_core.contract.manifest import Manifest, Stage


@dataclass(frozen=True)
class Accuracy:
    """Correct answers among the inputs with a known class.

    Attributes:
        inputs: Number of inputs with a known class.
        whole_right: Number of correct answers of the whole model.
        parts_right: Number of correct answers of the chain of stages, with tensors as the bundle
            sends them.
    """

    inputs: int
    whole_right: int
    parts_right: int


def find_spread(manifest: Manifest, answers: Sequence[bytes]) -> float:
    """Return the largest absolute difference between the first answer and any other."""
    return max(find_difference(manifest, answers[0], answer) for answer in answers)


def find_largest_difference(
    manifest: Manifest, first: Sequence[bytes], second: Sequence[bytes]
) -> float:
    """Return the largest absolute difference between answers to the same inputs."""
    return max(find_difference(manifest, a, b) for a, b in zip(first, second, strict=True))


def find_difference(manifest: Manifest, first: bytes, second: bytes) -> float:
    """Return the largest absolute difference between two answers.

    NaN against NaN, and infinity against the same infinity, count as equal; NaN against a number
    counts as an infinite difference.
    """
    largest = 0.0
    others = decode_tensors(manifest.outputs, second)
    for name, array in decode_tensors(manifest.outputs, first).items():
        if array.tobytes() == others[name].tobytes() or array.size == 0:
            continue
        wide = np.complex128 if array.dtype.kind == "c" else np.float64
        one, other = array.astype(wide), others[name].astype(wide)
        is_equal = (one == other) | (np.isnan(one) & np.isnan(other))
        with np.errstate(invalid="ignore"):
            difference = np.where(is_equal, 0.0, np.abs(one - other))
        largest = max(largest, float(np.nan_to_num(difference, nan=np.inf).max()))
    return largest


def count_clamped(manifest: Manifest, stage: Stage, payload: bytes) -> int:
    """Count the values at float16's limit among the tensors that ``stage`` computed."""
    sent = decode_tensors(manifest.sent_by(stage.index), payload)
    passed_on = {spec.name for spec in stage.inputs}
    return sum(
        int(np.count_nonzero(np.abs(values) == FLOAT16_MAX))
        for name, values in sent.items()
        if values.dtype == np.float16 and name not in passed_on
    )


def share_of_same_top(
    manifest: Manifest, wholes: Sequence[bytes], answers: Sequence[bytes]
) -> float | None:
    """Return the share of inputs with equal top classes, from 0 to 1; None without classes."""
    tops = [
        (_top_classes(manifest, whole), _top_classes(manifest, answer))
        for whole, answer in zip(wholes, answers, strict=True)
    ]
    if not tops[0][0]:
        return None
    return sum(expected == found for expected, found in tops) / len(tops)


def measure_accuracy(
    manifest: Manifest,
    classes: Sequence[int | None],
    wholes: Sequence[bytes],
    answers: Sequence[bytes],
) -> Accuracy | None:
    """Count correct answers; None where no input has a known class.

    Args:
        manifest: The bundle's manifest.
        classes: Position of the true class in the first output for each input, None where it is
            not known; empty where no class is known.
        wholes: The whole model's answers.
        answers: The answers of the chain of stages.
    """
    judged = [
        ([truth], _top_classes(manifest, whole), _top_classes(manifest, answer))
        for truth, whole, answer in zip(classes, wholes, answers, strict=bool(classes))
        if truth is not None
    ]
    # Several classes for one input label parts of the input, such as its pixels.
    if not judged or len(judged[0][1]) != 1:
        return None
    return Accuracy(
        inputs=len(judged),
        whole_right=sum(truth == whole for truth, whole, _ in judged),
        parts_right=sum(truth == answer for truth, _, answer in judged),
    )


def _top_classes(manifest: Manifest, payload: bytes) -> list[int]:
    """Return, per position, the index of the largest score along the first output's last axis.

    The list is empty if the last axis has one value, since one value gives no classes.
    """
    scores = decode_tensors(manifest.outputs, payload)[manifest.outputs[0].name]
    if not scores.ndim or scores.shape[-1] < 2:  # noqa: PLR2004 - classes to choose between
        return []
    return [int(place) for place in scores.argmax(axis=-1).reshape(-1)]
