"""Outputs that a person gives back: labels and answers, or an error that says what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from answer_manifests import ABC, SSD, manifest_of

from edge_core.contract.manifest import TensorSpec
from edge_partition.client.errors import OutputsError
from edge_partition.client.explain_outputs import best_labels, explain_outputs
from edge_partition.client.result import Result

SCORES = TensorSpec("scores", "float32", (1, 3), scores="probabilities")
MANIFEST = manifest_of(SCORES, labels=ABC)
ROW = np.array([[0.1, 0.7, 0.2]], np.float32)


@pytest.mark.parametrize(
    "outputs", [ROW, ROW[0], ROW.tolist(), {"scores": ROW}, Result({"scores": ROW}, 1.0, ())]
)
def test_labels_take_every_form_of_one_inputs_outputs(outputs: object) -> None:
    labels = best_labels(MANIFEST, outputs, top=2)  # type: ignore[arg-type]
    assert [label for label, _ in labels] == ["bee", "cat"]
    assert labels[0][1] == pytest.approx(0.7)


def test_boxes_of_a_result_are_in_the_pixels_of_its_picture() -> None:
    manifest = manifest_of(*SSD, detections="ssd")
    arrays = dict.fromkeys(spec.name for spec in SSD)
    box = np.zeros((1, 3, 4), np.float32)
    box[0, 0] = (0.0, 0.0, 1.0, 1.0)
    values = (box, np.zeros((1, 3)), np.array([[0.9, 0, 0]]), np.array([1.0]))
    outputs = {
        name: np.asarray(value, np.float32) for name, value in zip(arrays, values, strict=True)
    }
    found = [
        explain_outputs(manifest, given, top=5).boxes
        for given in (outputs, Result(outputs, 1.0, (), picture_size=(400, 300)))
    ]
    assert all(boxes is not None and len(boxes) == 1 for boxes in found)
    (own,), (scaled,) = (boxes or () for boxes in found)
    assert (round(own.right), round(own.bottom)) == (200, 100)
    assert (round(scaled.right), round(scaled.bottom)) == (400, 300)


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        (None, "NoneType given for output 'scores'; expected the return value of infer"),
        ([[1.0], [1.0, 2.0]], "list given for output 'scores'"),
        ({}, r"no outputs \['scores'\]; expected an array for each of the outputs \['scores'\]"),
        (np.repeat(ROW, 4, axis=0), r"has 4 rows.*`labels\(row\)`"),
    ],
)
def test_labels_refuse_outputs_that_are_not_those_of_one_input(outputs: object, says: str) -> None:
    with pytest.raises(OutputsError, match=says):
        best_labels(MANIFEST, outputs, top=5)  # type: ignore[arg-type]


def test_one_array_is_too_few_for_a_model_with_several_outputs() -> None:
    manifest = manifest_of(SCORES, TensorSpec("more", "float32", (1, 3)))
    with pytest.raises(OutputsError, match=r"One array given; expected a dict .*'scores', 'more'"):
        explain_outputs(manifest, ROW, top=5)
