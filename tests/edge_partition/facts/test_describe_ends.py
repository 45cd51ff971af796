from __future__ import annotations

from dataclasses import replace

from edge_core.contract.manifest import Manifest, ModelInfo, Predicted, Quantized, Stage, TensorSpec
from edge_partition.boards.fleet_status import FleetStatus
from edge_partition.commands import status
from edge_partition.facts.describe_ends import describe_classes, describe_input, describe_output
from edge_partition.inputs.describe_pixels import parse_pixels

IMAGE = TensorSpec("image", "float32", (1, 8, 8, 3))
SCORES = TensorSpec("scores", "int8", (1, 10))


def test_the_description_of_an_input_has_pixels_rate_and_scale() -> None:
    assert describe_input(IMAGE) == "image float32[1, 8, 8, 3]"
    said = replace(parse_pixels("-1..1,bgr"), resize="area", fit="letterbox", said_by="metadata")
    assert describe_input(replace(IMAGE, pixels=said)) == (
        "image float32[1, 8, 8, 3]: pictures as -1..1 BGR (from the file's metadata), resized "
        "(area) and padded with gray bars"
    )
    batch = replace(IMAGE, shape=(8, 8, 8, 3), pixels=parse_pixels("0..1"))
    assert describe_input(batch).endswith("stretched, 8 per request")
    sound = TensorSpec("sound", "int16", (1, 400), rate_hz=16_000, quantized=Quantized(0.5, -3))
    assert describe_input(sound) == (
        "sound int16[1, 400]: sound at 16000 Hz, scale 0.5, zero point -3"
    )


def test_the_description_of_an_output_has_scores_and_scale() -> None:
    assert describe_output(SCORES) == "scores int8[1, 10]"
    meant = replace(SCORES, scores="logits", quantized=Quantized(1 / 256, -128))
    assert describe_output(meant) == (
        "scores int8[1, 10]: logits, scale 0.00390625, zero point -128"
    )


def test_classes_are_counted_and_the_first_named() -> None:
    assert describe_classes((), "") == ""
    assert describe_classes(("cat", "dog"), "") == "2 classes: cat, dog"
    assert describe_classes(("a", "b", "c", "d"), "ssd").endswith("; 4 classes: a, b, c and 1 more")
    assert "YOLO" in describe_classes((), "yolo")


def test_status_describes_the_inputs_of_each_deployment() -> None:
    image = replace(IMAGE, pixels=parse_pixels("-1..1"))
    stage = Stage(
        0, ("pi-1",), "stages/0.tflite", "0" * 64, 1, (image,), (SCORES,), Predicted(1, 1)
    )
    model = ModelInfo("m", "0" * 64, "none", labels=("a", "b"))
    manifest = Manifest("m", "g", model, (image,), (SCORES,), (stage,))
    document = status._describe(FleetStatus((), (manifest,)), None)
    (deployment,) = document["deployments"]
    assert deployment["inputs"][0]["pixels"]["words"] == "-1..1 RGB (from --pixels)"
    assert deployment["inputs"][0]["words"].startswith("image float32[1, 8, 8, 3]: pictures as")
    assert deployment["labels"] == 2
