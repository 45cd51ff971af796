"""What people give to a pipeline, and what goes to the boards."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from answer_manifests import SSD, manifest_of
from PIL import Image

from broker_config.errors import EdgePartitionError, PayloadError
from broker_config.manifest import Manifest, Pixels, TensorSpec
from broker_config.tensors import encode_tensors
from edge_partition.load_inputs import InputFileError, load_input
from edge_partition.pixels import PixelsError
from edge_partition.take_inputs import take_inputs

if TYPE_CHECKING:
    from pathlib import Path

SPEC = TensorSpec(
    "image", "float32", (1, 8, 12, 3), pixels=Pixels("rgb", (127.5,), (127.5,), unit=127.5)
)


def manifest(spec: TensorSpec = SPEC) -> Manifest:
    return manifest_of(TensorSpec("out", "float32", (1, 3)), picture=spec)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    pixels = np.random.default_rng(1).integers(0, 256, (33, 47, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_an_array_of_the_inputs_shape_goes_in_as_it_is() -> None:
    array = np.random.default_rng(1).random((1, 8, 12, 3), np.float32)
    for inputs in (array, [array], (array,), {"image": array}):
        taken = take_inputs(manifest(), inputs)
        assert taken.arrays["image"] is array
        assert not taken.is_sample
    # Read-only views and the other byte order too.
    other = array.astype(">f4")
    assert take_inputs(manifest(), other).arrays["image"] is other


def test_a_picture_is_the_same_input_in_every_form(file: Path) -> None:
    expected = load_input(file, [SPEC])["image"]
    assert -1 <= expected.min() < -0.1 < 0.1 < expected.max() <= 1
    with Image.open(file) as image:
        image.load()
    array = np.asarray(image)
    for picture in (file, str(file), image, array, [file], {"image": image}):
        taken = take_inputs(manifest(), picture)
        assert taken.is_sample
        assert taken.arrays["image"].dtype == np.float32
        assert taken.arrays["image"].tobytes() == expected.tobytes()
    # Floats are not rounded on the way, as bytes are.
    floats = take_inputs(manifest(), array.astype(np.float64)).arrays["image"]
    assert floats == pytest.approx(expected, abs=1 / 127)
    # The comparison could fail.
    plain = take_inputs(manifest(replace(SPEC, pixels=None)), file).arrays["image"]
    assert np.abs(plain - expected).max() > 100


def test_a_picture_of_the_exact_size_without_the_batch_goes_through_pixels() -> None:
    array = np.full((8, 12, 3), 255, np.uint8)
    assert (take_inputs(manifest(), array).arrays["image"] == 1).all()
    bare = replace(SPEC, shape=(8, 12, 3))
    assert (take_inputs(manifest(bare), array).arrays["image"] == 1).all()
    gray = TensorSpec("image", "float32", (28, 28), pixels=Pixels("gray", (0.0,), (255.0,)))
    digit = np.full((28, 28), 255, np.uint8)
    assert (take_inputs(manifest(gray), digit).arrays["image"] == 1).all()
    exact = np.full((28, 28), 0.5, np.float32)
    assert take_inputs(manifest(gray), exact).arrays["image"] is exact
    bytes_in = replace(gray, dtype="uint8", pixels=Pixels("gray", (0.0,), (1.0,)))
    assert take_inputs(manifest(bytes_in), digit).arrays["image"] is digit


def test_with_the_batch_and_another_dtype_it_is_no_picture() -> None:
    array = np.zeros((1, 8, 12, 3), np.uint8)
    taken = take_inputs(manifest(), array)
    with pytest.raises(PayloadError, match=r"uint8.*expected float32"):
        encode_tensors(manifest().inputs, taken.arrays)


@pytest.mark.parametrize(
    ("picture", "what"),
    [
        (np.full((9, 9, 3), 0.5), "floats from 0.5 to 0.5; expected 0 to 255"),
        (np.array([[0.0, 1.0]] * 9), "floats from 0 to 1;"),
        (np.full((9, 9, 3), -3.0, np.float32), "floats from -3 to -3;"),
        (np.full((9, 9), 256.0), "floats from 256"),
        (np.full((9, 9), np.nan), "floats from nan"),
        (np.zeros((9, 9, 3), np.int64), "A picture of int64"),
        (np.zeros((9, 9, 2), np.uint8), r"\[9, 9, 2\]"),
        ("nowhere.png", "nowhere.png"),
    ],
)
def test_what_could_be_meant_otherwise_is_refused_with_a_sentence(picture: Any, what: str) -> None:
    with pytest.raises((PixelsError, InputFileError), match=what):
        take_inputs(manifest(), picture)


def test_a_file_of_several_inputs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "stack.npy"
    np.save(path, np.zeros((3, 8, 12, 3), np.float32))
    with pytest.raises(EdgePartitionError, match="holds several inputs; expected one"):
        take_inputs(manifest(), path)
    np.save(path, np.ones((1, 8, 12, 3), np.float32))
    assert (take_inputs(manifest(), path).arrays["image"] == 1).all()


def test_an_array_for_an_input_that_takes_no_picture_stays_what_it_is() -> None:
    table = TensorSpec("image", "float32", (1, 20))
    for array in (np.zeros((5, 20), np.float32), np.zeros((9, 9, 3), np.uint8)):
        assert take_inputs(manifest(table), array).arrays["image"] is array
    with pytest.raises(EdgePartitionError, match="which image takes"):
        take_inputs(manifest(table), Image.new("L", (9, 9)))


def test_a_larger_batch_is_filled_with_the_one_picture(file: Path) -> None:
    one = take_inputs(manifest(), file).arrays["image"]
    for picture in (file, Image.open(file), np.asarray(Image.open(file))):
        taken = take_inputs(manifest(replace(SPEC, shape=(4, 8, 12, 3))), picture)
        assert taken.is_sample
        assert taken.arrays["image"].tobytes() == 4 * one.tobytes()


def test_a_model_of_several_inputs_takes_pictures_by_name_and_in_order(file: Path) -> None:
    single = manifest()
    vector = TensorSpec("vector", "float32", (1, 2))
    other = replace(SPEC, name="other", pixels=Pixels("bgr", (0.0,), (1.0,)))
    two = replace(single, inputs=(SPEC, vector, other))
    values = np.ones((1, 2), np.float32)
    picture = Image.open(file)
    for inputs in ({"other": file, "image": picture, "vector": values}, [file, values, picture]):
        arrays = take_inputs(two, inputs).arrays
        assert arrays["vector"] is values
        assert arrays["image"].tobytes() == load_input(file, [SPEC])["image"].tobytes()
        assert arrays["other"].tobytes() == load_input(file, [other])["other"].tobytes()
    with pytest.raises(PayloadError, match="One array given"):
        take_inputs(two, picture)
    with pytest.raises(PayloadError, match="No input is called"):
        take_inputs(two, {"nonsense": picture})


def test_the_pictures_own_size_is_kept_where_boxes_will_be_found(file: Path) -> None:
    boxes = manifest_of(*SSD, detections="ssd", picture=SPEC)
    side = file.with_name("side.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(side, exif=exif)
    for picture, size in [
        (file, (47, 33)),
        (Image.open(file), (47, 33)),
        (np.asarray(Image.open(file)), (47, 33)),
        (side, (20, 40)),
        (Image.open(side), (20, 40)),
        (np.zeros(SPEC.shape, np.float32), None),
    ]:
        assert take_inputs(boxes, picture).picture_size == size
    assert take_inputs(manifest(), file).picture_size is None


def test_who_sends_arrays_needs_no_pillow() -> None:
    code = "import sys, edge_partition; assert 'PIL' not in sys.modules, sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
