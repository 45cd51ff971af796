from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from tflite_models import FlatModel

from edge_partition.facts.find_facts import StatedFacts, find_facts
from edge_partition.facts.model_facts import ModelFacts, PictureOptions
from edge_partition.facts.read_labels import LabelsError
from edge_partition.inputs.describe_pixels import describe_pixels
from edge_partition.inputs.pixels import PixelsError
from edge_partition.tflite.read_tflite import read_tflite
from edge_partition.tflite.tflite_metadata import Normalization, TensorMetadata, TfliteMetadata

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (1, 8, 8, 3)
_MORE = {"int8": schema.TensorType.INT8, "uint8": schema.TensorType.UINT8}


def classifier(
    shape: tuple[int, ...] = SHAPE,
    dtype: str = "float32",
    *,
    quantized: tuple[float, int] | None = None,
    rescale: float | None = None,
    weights: float = 0.5,
    last: tuple[str, ...] = (),
    classes: int = 4,
    scope: str = "",
) -> Any:
    """image -> (x * rescale) -> fully connected -> ``last`` operators -> scores."""
    flat = FlatModel()
    image = flat.tensor("image", shape)
    if dtype != "float32":
        flat.main.tensors[image].type = _MORE[dtype]
    if quantized is not None:
        parameters = schema.QuantizationParametersT()
        parameters.scale, parameters.zeroPoint = [quantized[0]], [quantized[1]]
        flat.main.tensors[image].quantization = parameters
    made = image
    if rescale is not None:
        constant = flat.constant("factor", np.array(rescale, np.float32))
        made = flat.tensor("rescaled", shape)
        flat.operator("MUL", [image, constant], [made])
    size = int(np.prod(shape))
    kernel = flat.constant("kernel", np.full((classes, size), weights, np.float32))
    scores = flat.tensor(f"{scope}scores", (1, classes))
    flat.operator("FULLY_CONNECTED", [made, kernel], [scores])
    for kind in last:
        made = flat.tensor(f"{kind} of scores", (1, classes))
        flat.operator(kind, [scores], [made])
        scores = made
    return read_tflite(flat.to_bytes([image], [scores]), name="m")


def facts(
    said: StatedFacts | None = None, picture: PictureOptions | None = None, **model: Any
) -> ModelFacts:
    return find_facts(classifier(**model), said or StatedFacts(), picture)


def words(found: ModelFacts, name: str = "image") -> str:
    return describe_pixels(found.pixels[name])


def metadata(mean: tuple[float, ...], std: tuple[float, ...], **fields: Any) -> StatedFacts:
    image = TensorMetadata(kind="image", normalization=Normalization(mean, std))
    return StatedFacts(metadata=TfliteMetadata(inputs=(image,), **fields))


def test_a_guess_is_noted_with_the_option_that_changes_it() -> None:
    found = facts()
    assert words(found) == "0..255 RGB (a guess)"
    (note,) = found.notes
    assert "image as 0..255 RGB (a guess)" in note
    assert "--pixels -1..1" in note
    assert "probably trained on values other than 0..255" in note


def test_a_guess_that_the_first_operators_confirm_is_noted_without_a_warning() -> None:
    for found in (facts(rescale=1 / 255), facts(weights=0.5 / 255)):
        (note,) = found.notes
        assert "a guess" in note
        assert "--pixels" in note
        assert "Warning" not in note
    assert "confirm this pixel format: they multiply" in facts(rescale=1 / 255).notes[0]


@pytest.mark.parametrize(
    ("weights", "said"),
    [(0.5 / 255, "confirm"), (0.5 * 255, "--pixels 0..1"), (0.5, "do not rescale pixels")],
)
def test_a_rescaling_that_is_folded_into_the_first_filters_is_noted(
    weights: float, said: str
) -> None:
    (note,) = find_facts(classifier(weights=weights), StatedFacts()).notes
    assert said in note
    assert ("Warning" in note) == (said != "confirm")


def test_pixels_that_are_rescaled_twice_get_a_warning() -> None:
    found = facts(picture=PictureOptions(pixels="-1..1"), rescale=1 / 255)
    assert words(found) == "-1..1 RGB (from --pixels)"
    (note,) = found.notes
    assert note.startswith("Warning: ")
    assert "--pixels 0..255" in note
    assert facts(picture=PictureOptions(pixels="-1..1")).notes == ()
    assert facts(picture=PictureOptions(pixels="0..255"), rescale=1 / 255).notes == ()


def test_large_pixels_from_an_option_get_a_warning_if_no_operator_rescales_them() -> None:
    (note,) = facts(picture=PictureOptions(pixels="0..255")).notes
    assert note.startswith("Warning: ")


def test_the_person_has_priority_over_the_application_the_file_and_the_scale() -> None:
    said = metadata((0.0,), (255.0,))
    model: dict[str, Any] = {"dtype": "uint8", "quantized": (1 / 127.5, 127)}
    assert words(facts(**model)) == "-1..1 RGB (from the input's scale and zero point)"
    assert words(facts(said, **model)) == "0..1 RGB (from the file's metadata)"
    both = replace(said, application="resnet50")
    assert words(facts(both, **model)) == "BGR minus ImageNet's mean (from the application)"
    asked = PictureOptions(pixels="0..255", fit="crop")
    found = facts(both, asked, **model)
    assert words(found) == "0..255 RGB (from --pixels)"
    assert found.pixels["image"].fit == "crop"


def test_the_resize_filter_is_the_applications_unless_an_option_gives_one() -> None:
    said = StatedFacts(application="efficientnetb0")
    assert facts(said).pixels["image"].resize == "bicubic"
    assert facts(said, PictureOptions(pixels="-1..1")).pixels["image"].resize == "bicubic"
    assert facts(said, PictureOptions(resize="area")).pixels["image"].resize == "area"
    assert facts().pixels["image"].resize == "bilinear"


def test_a_file_with_the_name_of_an_application_gets_a_note(tmp_path: Path) -> None:
    (note,) = facts(StatedFacts(application="resnet50", file=tmp_path / "m.keras")).notes
    assert "resnet50" in note
    assert "--pixels" in note
    assert facts(StatedFacts(application="resnet50")).notes == ()


@pytest.mark.parametrize(
    ("scope", "option"),
    [
        ("functional/mobilenetv2_1.00_224/", "--pixels -1..1 is"),
        ("model/resnet50/conv1/", "--pixels imagenet-bgr is"),
        ("densenet121/", "--pixels imagenet is"),
        ("model/efficientnetb0/", ""),
        ("model/mobilenet/", ""),
        ("model/my_mobilenetv2/", ""),
    ],
)
def test_a_model_that_is_built_on_an_application_gets_a_note_with_its_pixels(
    scope: str, option: str
) -> None:
    """The most common model: an application with another head."""
    found = facts(scope=scope)
    assert words(found) == "0..255 RGB (a guess)"
    (note,) = found.notes
    assert (option in note) if option else ("the model contains" not in note)
    (prepared,) = facts(scope=scope, rescale=1 / 127.5).notes
    assert "confirm this pixel format" in prepared
    assert "the model contains" not in prepared


def test_metadata_beyond_the_range_of_the_inputs_scale_is_ignored() -> None:
    """A uint8 model whose metadata was copied from the float one."""
    said = metadata((0.0,), (1.0,))
    model: dict[str, Any] = {"dtype": "uint8", "quantized": (1 / 255, 0)}
    assert words(facts(said)) == "0..255 RGB (from the file's metadata)"
    assert words(facts(said, **model)) == "0..1 RGB (from the input's scale and zero point)"
    fits = metadata((127.5,), (127.5,))
    assert "metadata" in words(facts(fits, dtype="uint8", quantized=(0.0078125, 128)))


def test_metadata_with_one_number_per_channel_is_used() -> None:
    found = facts(metadata((123.0, 117.0, 104.0), (58.0, 57.0, 57.5))).pixels["image"]
    assert (found.mean, found.std) == ((123.0, 117.0, 104.0), (58.0, 57.0, 57.5))
    assert words(facts(metadata((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)))).startswith("0..1 RGB")
    gray = facts(metadata((127.0, 127.0, 127.0), (128.0,)), shape=(1, 8, 8, 1)).pixels["image"]
    assert (gray.order, gray.mean, gray.std) == ("gray", (127.0,), (128.0,))


def test_an_unusual_range_of_an_integer_input_gives_the_pixels() -> None:
    found = facts(shape=(1, 8, 8, 1), dtype="int8", quantized=(16 / 255, -128))
    assert words(found) == "0..16 gray (from the input's scale and zero point)"
    assert found.notes == ()


def test_a_calibration_on_guessed_pixels_does_not_confirm_the_guess() -> None:
    model: dict[str, Any] = {"dtype": "uint8", "quantized": (1.0, 0)}
    assert words(facts(**model)).endswith("(from the input's scale and zero point)")
    found = facts(StatedFacts(is_converted_here=True), **model)
    assert words(found).endswith("(a guess)")
    assert len(found.notes) == 1


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (1, 8, 8, 1), (1, 1, 8, 8)])
def test_gray_models_take_gray_pictures(shape: tuple[int, ...]) -> None:
    assert words(facts(shape=shape)).startswith("0..255 gray")
    said = StatedFacts(application="resnet50")
    assert words(facts(said, shape=shape)).startswith("0..255 gray")


def test_an_input_that_takes_no_pictures_has_no_pixels_and_no_note() -> None:
    found = facts(shape=(1, 16, 4))
    assert found.pixels == {}
    assert found.notes == ()


def test_a_matrix_is_a_picture_if_the_person_gives_pixels() -> None:
    found = facts(shape=(1, 16, 4), picture=PictureOptions(pixels="0..1"))
    assert words(found) == "0..1 gray (from --pixels)"


@pytest.mark.parametrize(
    "options",
    [PictureOptions(pixels="0..1"), PictureOptions(fit="crop"), PictureOptions(resize="area")],
)
def test_options_for_pictures_are_refused_for_a_model_without_pictures(
    options: PictureOptions,
) -> None:
    with pytest.raises(PixelsError, match=r"this model takes image float32\[1, 12\]"):
        facts(shape=(1, 12), picture=options)


def test_a_square_matrix_among_several_inputs_is_not_a_picture() -> None:
    flat = FlatModel()
    image, mask = flat.tensor("image", SHAPE), flat.tensor("mask", (1, 1, 8, 8))
    made, more = flat.tensor("a", SHAPE), flat.tensor("b", (1, 1, 8, 8))
    flat.operator("ABS", [image], [made])
    flat.operator("ABS", [mask], [more])
    found = find_facts(read_tflite(flat.to_bytes([image, mask], [made, more])), StatedFacts())
    assert set(found.pixels) == {"image"}


@pytest.mark.parametrize(
    ("last", "scores"),
    [
        (("SOFTMAX",), "probabilities"),
        (("LOGISTIC",), "probabilities"),
        (("SOFTMAX", "RESHAPE"), "probabilities"),
        (("SOFTMAX", "ABS"), None),
        ((), None),
    ],
)
def test_scores_are_probabilities_after_a_softmax_or_a_logistic(
    last: tuple[str, ...], scores: str | None
) -> None:
    found = facts(last=last)
    assert list(found.scores.values()) == ([scores] if scores else [])


def test_scores_are_logits_only_with_the_option() -> None:
    logits = PictureOptions(logits=True)
    assert facts(picture=logits).scores == {"scores": "logits"}
    found = facts(picture=logits, last=("SOFTMAX",))
    assert list(found.scores.values()) == ["probabilities"]
    assert any(note.startswith("--logits has no effect") for note in found.notes)
    assert any("SOFTMAX" in note for note in found.notes)


def write(path: Path, names: str) -> Path:
    path.write_text("\n".join(names.split()) + "\n")
    return path


def test_labels_come_from_the_person_then_the_model_then_the_metadata(tmp_path: Path) -> None:
    image = TensorMetadata(labels=("m1", "m2", "m3", "m4"), labels_name="axis")
    said = StatedFacts(metadata=TfliteMetadata(outputs=(image,)), file=tmp_path / "m.tflite")
    write(tmp_path / "labels.txt", "f1 f2 f3 f4")
    assert facts(StatedFacts(file=said.file)).labels == ("f1", "f2", "f3", "f4")
    assert facts(said).labels == ("m1", "m2", "m3", "m4")
    said = replace(said, labels=("b1", "b2", "b3", "b4"))
    assert facts(said).labels == ("b1", "b2", "b3", "b4")
    asked = PictureOptions(labels=write(tmp_path / "mine.txt", "p1 p2 p3 p4"))
    assert facts(said, asked).labels == ("p1", "p2", "p3", "p4")


def test_labels_that_do_not_fit_are_refused_if_an_option_gives_them(tmp_path: Path) -> None:
    file = write(tmp_path / "labels.txt", "a b")
    with pytest.raises(LabelsError, match="file has 2 names, but the model's first output has 4"):
        facts(picture=PictureOptions(labels=file))
    found = facts(StatedFacts(labels=("a", "b"), file=tmp_path / "m.tflite"))
    assert found.labels == ()
    assert any("m.labels.txt: 2 names, but the model's" in note for note in found.notes)


def test_boxes_are_recognized_by_their_operator_or_by_the_task() -> None:
    flat = FlatModel()
    image, boxes = flat.tensor("image", SHAPE), flat.tensor("boxes", (1, 10, 4))
    flat.operator("CUSTOM", [image], [boxes])
    flat.model.operatorCodes[-1].customCode = "TFLite_Detection_PostProcess"
    tflite = read_tflite(flat.to_bytes([image], [boxes]))
    # The labels of a detector name values, not positions: any number of labels fits.
    found = find_facts(tflite, StatedFacts(labels=tuple("abcdefg")))
    assert (found.detections, len(found.labels)) == ("ssd", 7)

    def of_task(task: str) -> ModelFacts:
        told = {"task": task, "names": ["a", "b", "c", "d"]}
        return facts(StatedFacts(metadata=TfliteMetadata(ultralytics=told)))

    assert of_task("detect").detections == "yolo"
    assert of_task("classify").detections == ""
    assert of_task("detect").labels == ("a", "b", "c", "d")
    assert words(of_task("detect")) == "0..1 RGB (from the file's metadata)"
    fits = {task: of_task(task).pixels["image"].fit for task in ("detect", "classify")}
    assert fits == {"detect": "letterbox", "classify": "crop"}


def test_sample_rates_and_the_notes_of_the_source_are_passed_on() -> None:
    sound = TensorMetadata(kind="audio", rate_hz=16_000)
    said = StatedFacts(
        metadata=TfliteMetadata(inputs=(sound,), notes=("from the metadata",)), notes=("signature",)
    )
    found = facts(said, shape=(1, 400))
    assert found.rate_hz == {"image": 16_000}
    assert found.notes == ("signature", "from the metadata")
