"""YOLO heads made by hand, and their boxes."""

from __future__ import annotations

import numpy as np
import pytest
from answer_manifests import ABC, manifest_of, sides

from edge_core.contract.manifest import Pixels, Quantized, TensorSpec
from edge_partition.answers.answers import describe_answer
from edge_partition.answers.boxes import UnknownDetectionsError
from edge_partition.answers.yolo_boxes import read_yolo

#: The model's input: 200 wide, 100 high. Center x, center y, width, height in parts of it, then
#: the scores of ant, bee and cat.
CANDIDATES = [
    (0.50, 0.50, 0.40, 0.40, 0.1, 0.9, 0.0),
    (0.52, 0.50, 0.40, 0.40, 0.0, 0.8, 0.1),  # overlaps the first by 0.36 / 0.44: the same bee
    (0.50, 0.50, 0.40, 0.40, 0.0, 0.0, 0.7),  # in its place, but a cat
    (0.70, 0.50, 0.40, 0.40, 0.0, 0.6, 0.0),  # overlaps the first by a third: another bee
    (0.10, 0.10, 0.10, 0.10, 0.2, 0.0, 0.0),  # below 0.25
]
FOUND = [(1, 0.9), (2, 0.7), (1, 0.6)]
SIDES = [(0.3, 0.3, 0.7, 0.7), (0.3, 0.3, 0.7, 0.7), (0.5, 0.3, 0.9, 0.7)]


def head_of(candidates: list[tuple[float, ...]], fill: int = 20) -> np.ndarray:
    """Return a head ``(1, 7, n)``, padded with empty candidates like a real head."""
    rows = np.zeros((len(candidates) + fill, len(candidates[0])), np.float32)
    rows[: len(candidates)] = candidates
    return rows.T[None]


def in_pixels(head: np.ndarray) -> np.ndarray:
    scaled = head.copy()
    scaled[0, :4] *= np.array([[200], [100], [200], [100]], np.float32)
    return scaled


@pytest.mark.parametrize(
    "head",
    [
        head_of(CANDIDATES),
        in_pixels(head_of(CANDIDATES)),
        head_of(CANDIDATES).transpose(0, 2, 1),
        # A mask's 32 coefficients behind the classes.
        np.concatenate([head_of(CANDIDATES, 99), np.full((1, 32, 104), 9, np.float32)], axis=1),
    ],
    ids=["parts", "pixels", "transposed", "masks"],
)
def test_the_best_of_overlapping_candidates_of_a_class_is_kept(head: np.ndarray) -> None:
    found = read_yolo(head, classes=3, input_size=(200, 100))
    assert found.classes.tolist() == [index for index, _ in FOUND]
    assert found.scores == pytest.approx([score for _, score in FOUND])
    assert found.sides == pytest.approx(np.array(SIDES), abs=1e-6)


def test_without_suppression_all_candidates_above_the_threshold_are_kept() -> None:
    # The comparison above could fail.
    head = head_of(CANDIDATES)
    assert len(read_yolo(head, classes=3, input_size=None, max_overlap=1).scores) == 4
    found = read_yolo(head, classes=3, input_size=None, max_overlap=1, min_score=0)
    assert len(found.scores) == 25
    assert read_yolo(head, classes=3, input_size=None, max_overlap=0.3).classes.tolist() == [1, 2]


def test_yolo5_multiplies_scores_by_the_objectness() -> None:
    rows = [(*row[:4], 0.5, *row[4:]) for row in CANDIDATES]
    head = head_of(rows).transpose(0, 2, 1)
    found = read_yolo(head, classes=3, input_size=None)
    assert found.scores == pytest.approx([score / 2 for _, score in FOUND])


def test_a_head_after_suppression_keeps_all_its_boxes() -> None:
    rows = [(0.3, 0.3, 0.7, 0.7, 0.9, 1), (0.3, 0.3, 0.7, 0.7, 0.8, 1), (0, 0, 1, 1, 0.1, 0)]
    found = read_yolo(np.array([rows * 3], np.float32), classes=3, input_size=None)
    assert found.scores == pytest.approx([0.9] * 3 + [0.8] * 3)
    assert found.sides[0] == pytest.approx(SIDES[0])


def test_candidates_with_nan_are_left_out() -> None:
    head = head_of(CANDIDATES)
    head[0, 2, 0] = np.nan
    head[0, 5, 2] = np.inf
    assert read_yolo(head, classes=3, input_size=None).scores == pytest.approx([0.8, 0.6])


def test_an_output_that_is_not_a_head_is_refused_with_the_expected_shape() -> None:
    for shape in [(1, 7), (1, 4, 900), (2, 7, 900), (1, 900, 9), (1, 7, 10, 10)]:
        with pytest.raises(UnknownDetectionsError, match=r"expected \[1, 7, n\]"):
            read_yolo(np.zeros(shape, np.float32), classes=3, input_size=None)
    with pytest.raises(UnknownDetectionsError, match="in pixels"):
        read_yolo(in_pixels(head_of(CANDIDATES)), classes=3, input_size=None)


def test_an_int8_head_gives_boxes_in_the_letterboxed_pictures_pixels() -> None:
    head = head_of(CANDIDATES)
    quantized = Quantized(0.01, -100)
    stored = (np.rint(head / 0.01) - 100).astype(np.int8)
    picture = TensorSpec(
        "image", "int8", (1, 100, 200, 3), pixels=Pixels("rgb", (0.0,), (255.0,), fit="letterbox")
    )
    output = TensorSpec("head", "int8", stored.shape, quantized=quantized)
    manifest = manifest_of(output, labels=ABC, detections="yolo", picture=picture)
    answer = describe_answer(manifest, {"head": stored}, top=1, picture_size=(400, 400))
    assert answer.boxes is not None
    assert [(box.label, round(box.score, 3)) for box in answer.boxes] == [
        ("bee", 0.9),
        ("cat", 0.7),
        ("bee", 0.6),
    ]
    # At a quarter of its size, with bars of 50 left and right: x = (200 u - 50) * 4, y = 400 v.
    assert sides(answer) == [(40, 120, 360, 280), (40, 120, 360, 280), (200, 120, 400, 280)]
