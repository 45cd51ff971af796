"""Compare answers of the whole model with answers of its stages: differences, classes, accuracy.

An answer is the payload of the model's outputs for one input. The functions compute numbers from a
manifest and payloads. They read no file and run no model.
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
    """Numbers of correct answers to the inputs whose true class is known.

    Attributes:
        inputs: Number of inputs whose true class is known.
        whole_right: Number of correct answers of the whole model.
        parts_right: Number of correct answers of the chain of stages. The stages send tensors in
            the dtypes of the manifest, such as float16.
    """

    inputs: int
    whole_right: int
    parts_right: int


def find_spread(manifest: Manifest, answers: Sequence[bytes]) -> float:
    """Return the largest absolute difference between the first answer and any other answer.

    The value is above 0 if the answers are not all equal.
    """
    return max(find_difference(manifest, answers[0], answer) for answer in answers)


def find_largest_difference(
    manifest: Manifest, first: Sequence[bytes], second: Sequence[bytes]
) -> float:
    """Return the largest absolute difference between two answers to the same input.

    Args:
        manifest: The bundle's manifest.
        first: One answer for each input, such as the whole model's.
        second: Another answer for each input, such as the stages'.
    """
    return max(find_difference(manifest, a, b) for a, b in zip(first, second, strict=True))


def find_difference(manifest: Manifest, first: bytes, second: bytes) -> float:
    """Return the largest absolute difference between two answers, over all output elements.

    Two NaNs are equal, and so are two infinities of the same sign. The difference between NaN and a
    number is infinite.
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
    """Return the number of values that ``stage`` computed and clamped to float16's range.

    A value beyond the range is sent as the largest float16 value, with its sign. Tensors that the
    stage only passes on are not counted.

    Args:
        manifest: The bundle's manifest.
        stage: The stage.
        payload: The tensors that the stage sent for one request.
    """
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
    """Return the share of inputs for which both answers have the same top class, from 0 to 1.

    The top class is the index of the largest score along the last axis of the first output. The
    result is None if this axis has fewer than two scores: such a model has no classes.

    Args:
        manifest: The bundle's manifest.
        wholes: The whole model's answers.
        answers: The answers of the chain of stages.
    """
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
    """Count the correct answers of the whole model and of the chain of stages.

    Args:
        manifest: The bundle's manifest.
        classes: For each input, the index of the true class along the last axis of the first
            output, or None if the class is not known. Empty if no class is known.
        wholes: The whole model's answers.
        answers: The answers of the chain of stages.

    Returns:
        The numbers, or None if no class is known or the model does not give one class per input.
    """
    judged = [
        ([truth], _top_classes(manifest, whole), _top_classes(manifest, answer))
        for truth, whole, answer in zip(classes, wholes, answers, strict=bool(classes))
        if truth is not None
    ]
    # A model with several classes per input labels parts of the input, such as its pixels.
    if not judged or len(judged[0][1]) != 1:
        return None
    return Accuracy(
        inputs=len(judged),
        whole_right=sum(truth == whole for truth, whole, _ in judged),
        parts_right=sum(truth == answer for truth, _, answer in judged),
    )


def _top_classes(manifest: Manifest, payload: bytes) -> list[int]:
    """Return the index of the largest score along the last axis of the first output.

    For an output of shape ``(..., classes)``, the list has one index for each element of the other
    axes, in C order. The list is empty if there are fewer than two classes.
    """
    scores = decode_tensors(manifest.outputs, payload)[manifest.outputs[0].name]
    if not scores.ndim or scores.shape[-1] < 2:  # noqa: PLR2004 - classes to choose between
        return []
    return [int(place) for place in scores.argmax(axis=-1).reshape(-1)]
