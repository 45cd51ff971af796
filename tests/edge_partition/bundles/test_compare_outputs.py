"""Comparisons of the whole model's answers with those of its stages."""

from __future__ import annotations

import math

import numpy as np
import pytest
from answer_manifests import manifest_of

from edge_core.contract.manifest import TensorSpec
from edge_partition.bundles.compare_outputs import (
    Accuracy,
    find_difference,
    find_largest_difference,
    find_spread,
    measure_accuracy,
    share_of_same_top,
)

MANIFEST = manifest_of(TensorSpec("scores", "float32", (1, 3)))


def answer(*values: float) -> bytes:
    return np.array(values, np.float32).tobytes()


@pytest.mark.parametrize(
    ("first", "second", "difference"),
    [
        ((1, 2, 3), (1, 2, 3), 0),
        ((1, 2, 3), (1, 2.5, 2), 1),
        ((math.nan, math.inf, 0), (math.nan, math.inf, 0.5), 0.5),
        ((math.nan, 0, 0), (0, 0, 0), math.inf),
    ],
)
def test_the_difference_of_two_answers(
    first: tuple[float, ...], second: tuple[float, ...], difference: float
) -> None:
    assert find_difference(MANIFEST, answer(*first), answer(*second)) == difference


def test_spread_and_largest_difference_are_over_all_answers() -> None:
    answers = [answer(0, 0, 0), answer(0, 1, 0), answer(0, -3, 0)]
    assert find_spread(MANIFEST, answers) == 3
    assert find_spread(MANIFEST, answers[:1]) == 0
    others = [answer(0, 0, 0.5), answer(0, 1, 0), answer(0, -1, 0)]
    assert find_largest_difference(MANIFEST, answers, others) == 2


def test_the_share_of_inputs_with_an_equal_top_class() -> None:
    wholes = [answer(1, 0, 0), answer(0, 1, 0)]
    assert share_of_same_top(MANIFEST, wholes, [answer(2, 1, 0), answer(2, 1, 0)]) == 0.5
    one = manifest_of(TensorSpec("value", "float32", (1, 1)))
    assert share_of_same_top(one, [answer(1)], [answer(2)]) is None


def test_accuracy_counts_correct_answers_of_both() -> None:
    wholes = [answer(1, 0, 0), answer(0, 1, 0), answer(0, 0, 1)]
    answers = [answer(1, 0, 0), answer(1, 0, 0), answer(0, 0, 1)]
    assert measure_accuracy(MANIFEST, [0, 1, None], wholes, answers) == Accuracy(2, 2, 1)
    assert measure_accuracy(MANIFEST, [], wholes, answers) is None


def test_labels_of_several_places_give_no_accuracy() -> None:
    places = manifest_of(TensorSpec("pixels", "float32", (1, 2, 3)))
    scores = [answer(1, 0, 0, 0, 1, 0)]
    assert measure_accuracy(places, [0], scores, scores) is None
    assert share_of_same_top(places, scores, scores) == 1
