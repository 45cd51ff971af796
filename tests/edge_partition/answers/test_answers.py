"""The meaning of outputs, with expected values computed by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from answer_manifests import ABC, PICTURE, SSD, manifest_of, sides

from edge_core.contract.manifest import Quantized, TensorSpec
from edge_partition.answers.answers import Answer, describe_answer
from edge_partition.answers.outputs import Classes, Value


def describe(
    array: np.ndarray,
    labels: tuple[str, ...] = (),
    *,
    scores: str = "",
    quantized: Quantized | None = None,
    top: int = 2,
) -> Answer:
    spec = TensorSpec("out", str(array.dtype), array.shape, scores=scores, quantized=quantized)
    return describe_answer(manifest_of(spec, labels=labels), {"out": array}, top=top)


def floats(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


def test_probabilities_are_shown_in_percent_best_first() -> None:
    answer = describe(floats(0.125, 0.625, 0.25), ABC, scores="probabilities")
    assert str(answer) == "bee 62.5%, cat 25.0%"
    assert [(best.label, best.index, best.score) for best in answer.labels] == [
        ("bee", 1, 0.625),
        ("cat", 2, 0.25),
    ]


def test_a_softmax_is_computed_only_for_logits() -> None:
    values = floats(math.log(1), math.log(6), math.log(3))
    assert str(describe(values, ABC, scores="logits")) == "bee 60.0%, cat 30.0%"
    # Of scores that nobody says anything of, nothing is made up.
    assert str(describe(values, ABC)) == "bee (score 1.792), cat (score 1.099)"


def test_large_logits_do_not_overflow() -> None:
    assert str(describe(floats(9000, 9000, -9000), ABC, scores="logits")) == "ant 50.0%, bee 50.0%"


@pytest.mark.parametrize(
    ("dtype", "zero_point", "stored"),
    [("uint8", 0, [32, 160, 64]), ("int8", -128, [-96, 32, -64]), ("int16", 0, [32, 160, 64])],
)
def test_quantized_scores_are_dequantized(dtype: str, zero_point: int, stored: list[int]) -> None:
    array = np.array([stored], dtype)
    answer = describe(array, ABC, scores="probabilities", quantized=Quantized(1 / 256, zero_point))
    assert str(answer) == "bee 62.5%, cat 25.0%"
    # Without the scale these are bare numbers, and the lowest of int8 is not the best.
    assert str(describe(array, ABC)) == f"bee (score {stored[1]}), cat (score {stored[2]})"


def test_quantized_logits_are_dequantized_before_the_softmax() -> None:
    quantized = Quantized(math.log(3), 10)
    answer = describe(np.array([[10, 11, 9]], np.int8), ABC, scores="logits", quantized=quantized)
    # exp: 1, 3 and a third.
    assert answer.labels[0].score == pytest.approx(3 / (1 + 3 + 1 / 3))


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8"])
def test_ties_keep_their_order_and_a_large_top_gives_all_classes(dtype: str) -> None:
    answer = describe(np.array([[3, 100, 3, 7]], dtype), ("a", "b", "c", "d"), top=9)
    assert [(best.label, best.score) for best in answer.labels] == [
        ("b", 100),
        ("d", 7),
        ("a", 3),
        ("c", 3),
    ]


@pytest.mark.parametrize("shape", [(3,), (1, 3), (1, 1, 3), (1, 1, 1, 3)])
def test_one_row_of_scores_is_found_in_any_rank(shape: tuple[int, ...]) -> None:
    array = np.array([0, 1, 0], np.float32).reshape(shape)
    assert str(describe(array, ABC, scores="probabilities", top=1)) == "bee 100.0%"


def test_without_labels_the_index_is_shown_with_advice_on_labels() -> None:
    answer = describe(floats(*[0.0] * 280, 1.0, 0.0), scores="probabilities", top=1)
    assert str(answer) == "class 280 100.0%"
    (note,) = answer.notes
    assert "no labels" in note
    assert "--labels FILE" in note


def test_labels_of_another_number_are_ignored_with_a_note() -> None:
    answer = describe(floats(0.1, 0.9, 0, 0), ABC, scores="probabilities", top=1)
    assert str(answer) == "class 1 90.0%"
    assert answer.labels[0].label == "1"
    (note,) = answer.notes
    assert "3 labels for 4 classes" in note


def test_scores_of_unknown_meaning_without_labels_show_the_range_too() -> None:
    answer = describe(np.linspace(-1, 1, 101, dtype=np.float32)[None], top=1)
    assert str(answer) == "index 100 (score 1); float32[1, 101], -1 to 1, mean 0"
    assert str(describe(floats(0.5, -2), top=1)) == "index 0 (score 0.5); float32[1, 2]: 0.5, -2"
    assert answer.notes == ()


def test_one_value_is_shown_unchanged() -> None:
    answer = describe(floats(21.75))
    assert str(answer) == "21.75"
    assert isinstance(answer.outputs[0], Value)
    assert str(describe(np.array([7], np.int64))) == "7"
    assert str(describe(np.array(3, np.uint8), quantized=Quantized(0.5, 1))) == "1"
    assert str(describe(np.array([[True]]))) == "True"


def test_one_probability_with_two_labels_is_that_of_the_second() -> None:
    assert str(describe(floats(0.875), ("cat", "dog"), scores="probabilities")) == (
        "dog 87.5%, cat 12.5%"
    )
    # The logistic function of log(1/3) is a quarter.
    assert str(describe(floats(math.log(1 / 3)), ("cat", "dog"), scores="logits", top=1)) == (
        "cat 75.0%"
    )
    assert str(describe(floats(0.875), scores="probabilities")) == "87.5%"


@pytest.mark.filterwarnings("error")
def test_any_large_logit_becomes_a_probability() -> None:
    answers = [str(describe(floats(logit), scores="logits")) for logit in (-2000, 0, 2000)]
    assert answers == ["0.0%", "50.0%", "100.0%"]


def test_any_other_output_is_shown_as_shape_and_range() -> None:
    mask = np.arange(12, dtype=np.float32).reshape(1, 2, 3, 2)
    assert str(describe(mask)) == "float32[1, 2, 3, 2], 0 to 11, mean 5.5"
    assert str(describe(mask.astype(np.uint8), quantized=Quantized(0.5, 2))) == (
        "uint8[1, 2, 3, 2], -1 to 4.5, mean 1.75"
    )
    # Whole numbers of 32 bits are ids or counts: the largest is not the best.
    assert str(describe(np.array([[5, 9, 2]], np.int32))) == "int32[1, 3]: 5, 9, 2"
    assert str(describe(np.array([[True, False]]))) == "bool[1, 2]: True, False"
    assert str(describe(np.zeros((1, 0, 4), np.float32))) == "float32[1, 0, 4]"
    assert "0 to 5, mean" in str(describe(np.array([[3 + 4j] + [0] * 9], np.complex64)))


def test_nan_and_infinite_values_are_counted_and_give_no_scores() -> None:
    answer = describe(floats(0.5, math.nan, math.inf), ABC, scores="logits")
    assert str(answer) == "cat (score inf), ant (score 0.5) (1 NaN and 1 infinite of 3 values)"
    assert [best.label for best in describe(floats(math.nan, 1, math.nan), ABC).labels] == ["bee"]
    image = np.full((1, 3, 3, 1), math.nan, np.float32)
    assert str(describe(image)) == "float32[1, 3, 3, 1] (9 NaN of 9 values)"
    assert str(describe(floats(math.nan), scores="probabilities")) == "NaN"
    text = json.dumps(answer.to_json(), allow_nan=False)
    assert json.loads(text)["outputs"][0]["values"] == [[0.5, None, None]]
    assert json.loads(text)["outputs"][0]["nan"] == 1


def test_each_output_is_described_and_labels_apply_to_the_one_they_fit() -> None:
    specs = (
        TensorSpec("age", "float32", (1, 1)),
        TensorSpec("kind", "float32", (1, 3), scores="probabilities"),
    )
    outputs = {"kind": floats(0, 1, 0), "age": floats(41.5)}
    answer = describe_answer(manifest_of(*specs, labels=ABC), outputs, top=1)
    assert str(answer) == "age: 41.5; kind: bee 100.0%"
    assert [best.label for best in answer.labels] == ["bee"]
    assert answer.notes == ()


def test_one_sample_of_a_batch_is_described_as_one() -> None:
    spec = TensorSpec("out", "float32", (8, 3), scores="probabilities")
    answer = describe_answer(manifest_of(spec, labels=ABC), {"out": floats(0, 0, 1)}, top=1)
    assert str(answer) == "cat 100.0%"


def test_json_has_dequantized_values_and_omits_large_outputs() -> None:
    answer = describe(np.array([[2, 4, 6]], np.int8), ABC, quantized=Quantized(0.5, 2))
    document = json.loads(json.dumps(answer.to_json()))
    assert document["labels"][0] == {"label": "cat", "index": 2, "score": 2.0}
    (output,) = document["outputs"]
    assert output["values"] == [[0.0, 1.0, 2.0]]
    assert (output["dtype"], output["shape"], output["dequantized"]) == ("int8", [1, 3], True)
    assert (output["min"], output["max"], output["mean"]) == (0.0, 2.0, 1.0)
    assert (
        len(describe(np.zeros((1, 1000), np.float32)).to_json()["outputs"][0]["values"][0]) == 1000
    )
    assert "values" not in describe(np.zeros((1, 1001), np.float32)).to_json()["outputs"][0]
    large = describe(np.array([2**62 + 1], np.int64)).to_json()["outputs"][0]
    assert large["value"] == large["max"] == 2**62 + 1


def test_labels_from_the_network_cannot_drive_a_terminal() -> None:
    evil = ("\x1b[2J\x07clear", "b\u202eee", "größe 猫")
    answer = describe(floats(0.5, 0.3, 0.2), evil, scores="probabilities", top=3)
    assert str(answer) == "\\x1b[2J\\x07clear 50.0%, b\\u202eee 30.0%, größe 猫 20.0%"
    assert answer.labels[0].label == evil[0]
    spec = TensorSpec("a\x1b[0m", "float32", (1, 1))
    two = describe_answer(
        manifest_of(spec, replace(spec, name="b")), {spec.name: floats(1), "b": floats(2)}, top=1
    )
    assert str(two) == "a\\x1b[0m: 1; b: 2"


def test_scores_fit_labels_with_or_without_a_known_meaning() -> None:
    # Whole numbers that have a label each are scores after all.
    answer = describe(np.array([[5, 9, 2]], np.int32), ABC, top=1)
    assert isinstance(answer.outputs[0], Classes)
    assert str(answer) == "bee (score 9)"


SSD_ARRAYS = {
    SSD[0].name: np.array(
        [[[0.1, 0.2, 0.5, 0.6], [0.5, 0.5, 1.25, 1.5], [0, 0, 1, 1]]], np.float32
    ),
    SSD[1].name: np.array([[1, 0, 2]], np.float32),
    SSD[2].name: np.array([[0.75, 0.5, 0.875]], np.float32),
    SSD[3].name: np.array([2], np.float32),
}


def ssd_answer(picture_size: tuple[int, int] | None, fit: str = "stretch") -> Answer:
    assert PICTURE.pixels is not None
    picture = replace(PICTURE, pixels=replace(PICTURE.pixels, fit=fit))
    manifest = manifest_of(*SSD, labels=ABC, detections="ssd", picture=picture)
    return describe_answer(manifest, SSD_ARRAYS, top=1, picture_size=picture_size)


def test_ssd_boxes_are_limited_by_the_count_and_clipped_to_the_picture() -> None:
    answer = ssd_answer((400, 300))
    assert sides(answer) == [(80, 30, 240, 150), (200, 150, 400, 300)]
    assert str(answer) == (
        "2 boxes: bee 75.0% at 80,30 to 240,150; ant 50.0% at 200,150 to 400,300"
    )
    assert answer.to_json()["boxes"][0] == {
        "label": "bee", "index": 1, "score": 0.75,
        "left": 80.0, "top": 30.0, "right": 240.0, "bottom": 150.0,
    }  # fmt: skip


def test_without_a_picture_boxes_are_in_the_inputs_pixels() -> None:
    assert sides(ssd_answer(None)) == [(40, 10, 120, 50), (100, 50, 200, 100)]


def test_boxes_of_a_cropped_picture_are_placed_in_the_whole_picture() -> None:
    # 400x400 into 200x100: at half its size, of which rows 50 to 150 go in.
    assert sides(ssd_answer((400, 400), "crop"))[0] == (80, 120, 240, 200)


def test_boxes_of_a_letterboxed_picture_are_placed_without_the_bars() -> None:
    # 400x400 into 200x100: at a quarter of its size, with bars of 50 left and right.
    assert sides(ssd_answer((400, 400), "letterbox")) == [(0, 40, 280, 200), (200, 200, 400, 400)]


@pytest.mark.parametrize(
    "order",
    [
        (0, 1, 2, 3),  # TensorFlow 1, Model Maker
        (2, 0, 3, 1),  # TensorFlow 2's object detection
    ],
)
@pytest.mark.parametrize("scores", [(0.75, 0.5, 0.875), (1, 1, 1)])
def test_ssd_outputs_of_other_names_are_recognized_in_the_usual_orders(
    order: tuple[int, ...], scores: tuple[float, ...]
) -> None:
    arrays = list(SSD_ARRAYS.values())
    arrays[2] = np.array([scores], np.float32)
    specs = [
        replace(SSD[place], name=f"StatefulPartitionedCall:{n}") for n, place in enumerate(order)
    ]
    outputs = {spec.name: arrays[place] for spec, place in zip(specs, order, strict=True)}
    manifest = manifest_of(*specs, labels=ABC, detections="ssd")
    answer = describe_answer(manifest, outputs, top=1)
    assert answer.boxes is not None
    assert [(box.label, box.score) for box in answer.boxes] == [
        ("bee", scores[0]),
        ("ant", scores[1]),
    ]


def test_an_ssds_labels_may_begin_with_the_background() -> None:
    manifest = manifest_of(*SSD, labels=("???", *ABC), detections="ssd")
    answer = describe_answer(manifest, SSD_ARRAYS, top=1)
    assert answer.boxes is not None
    assert [box.label for box in answer.boxes] == ["bee", "ant"]
    without = describe_answer(manifest_of(*SSD, detections="ssd"), SSD_ARRAYS, top=1)
    assert without.boxes is not None
    assert [box.label for box in without.boxes] == ["1", "0"]
    assert str(without).startswith("2 boxes: class 1 75.0% at 40,10")
    assert "no labels" in without.notes[0]


def test_scores_above_one_are_not_percentages() -> None:
    arrays = {**SSD_ARRAYS, SSD[2].name: np.array([[32.3251, 0.5, 0]], np.float32)}
    answer = describe_answer(manifest_of(*SSD, labels=ABC, detections="ssd"), arrays, top=1)
    assert str(answer).startswith("2 boxes: bee 32.33 at 40,10 to 120,50; ant 50.0% at")


def test_outputs_that_are_not_boxes_are_described_with_a_note() -> None:
    spec = TensorSpec("out", "float32", (1, 3))
    for detections, what in (
        ("ssd", "not those of an SSD model"),
        ("yolo", "does not fit a YOLO model"),
    ):
        manifest = manifest_of(spec, detections=detections)
        answer = describe_answer(manifest, {"out": floats(1, 2, 3)}, top=1)
        assert answer.boxes is None
        assert str(answer) == "float32[1, 3]: 1, 2, 3"
        assert what in answer.notes[0]


def test_broken_boxes_are_left_out() -> None:
    arrays = {name: array.copy() for name, array in SSD_ARRAYS.items()}
    arrays[SSD[0].name][0, 0, 0] = math.nan
    arrays[SSD[3].name][0] = 99
    answer = describe_answer(manifest_of(*SSD, detections="ssd"), arrays, top=1)
    assert answer.boxes is not None
    assert [box.score for box in answer.boxes] == [0.875, 0.5]
    arrays[SSD[3].name][0] = math.nan
    answer = describe_answer(manifest_of(*SSD, detections="ssd"), arrays, top=1)
    assert answer.boxes == ()
    assert str(answer) == "no boxes"


@pytest.mark.parametrize("labels", [(), ABC])
@pytest.mark.parametrize("scores", ["", "logits", "probabilities"])
def test_no_class_is_best_if_every_score_is_nan(labels: tuple[str, ...], scores: str) -> None:
    answer = describe(floats(math.nan, math.nan, math.nan), labels, scores=scores)
    assert str(answer) == "no score is a number (3 NaN of 3 values)"
    assert answer.labels == ()
    assert answer.to_json()["outputs"][0]["best"] == []


def test_two_classes_with_one_score_of_nan_have_no_best() -> None:
    answer = describe(floats(math.nan), ("no", "yes"), scores="probabilities")
    assert str(answer) == "no score is a number (1 NaN of 1 values)"
