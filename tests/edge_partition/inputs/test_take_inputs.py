"""Inputs given to a pipeline, and the arrays sent to the boards."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from answer_manifests import SSD, manifest_of
from PIL import Image

from edge_core.contract.manifest import Manifest, Pixels, Quantized, TensorSpec
from edge_core.errors import EdgePartitionError, PayloadError
from edge_partition.inputs.load_inputs import InputFileError, load_input
from edge_partition.inputs.pixels import PixelsError
from edge_partition.inputs.take_inputs import take_inputs

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


def test_an_array_of_the_inputs_shape_is_used_unchanged() -> None:
    array = np.random.default_rng(1).random((1, 8, 12, 3), np.float32)
    for inputs in (array, [array], (array,), {"image": array}):
        taken = take_inputs(manifest(), inputs)
        assert taken.arrays["image"] is array
        assert not taken.is_sample
    # The other byte order has the same values.
    swapped = take_inputs(manifest(), array.astype(">f4")).arrays["image"]
    assert swapped.tobytes() == array.tobytes()


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


def test_a_picture_of_the_exact_size_without_the_batch_is_converted() -> None:
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


@pytest.mark.parametrize("size", [(8, 12), (20, 30)])
def test_a_stack_of_bytes_is_several_pictures(size: tuple[int, int]) -> None:
    stack = np.random.default_rng(3).integers(0, 256, (3, *size, 3), np.uint8)
    each = [take_inputs(manifest(), picture).arrays["image"] for picture in stack]
    assert min(array.min() for array in each) < -0.3
    one = take_inputs(manifest(), stack[:1])
    assert one.is_sample
    np.testing.assert_array_equal(one.arrays["image"], each[0])
    three = take_inputs(manifest(replace(SPEC, shape=(3, 8, 12, 3))), stack)
    assert not three.is_sample
    np.testing.assert_array_equal(three.arrays["image"], np.concatenate(each))
    with pytest.raises(PayloadError, match="Got 3 pictures for input image; expected one"):
        take_inputs(manifest(), stack)
    with pytest.raises(PayloadError, match="Got 3 pictures for input image; expected one, or 4"):
        take_inputs(manifest(replace(SPEC, shape=(4, 8, 12, 3))), stack)


def test_floats_without_the_batch_are_the_tensor_unless_they_have_a_pictures_range(
    tmp_path: Path,
) -> None:
    """In programs and files, values from -1 to 1 are unchanged, and 0 to 255 converted."""
    bytes_in = np.random.default_rng(3).integers(0, 256, (8, 12, 3)).astype(np.float32)
    scaled = bytes_in / np.float32(127.5) - np.float32(1)
    for given in (bytes_in, scaled):
        np.save(tmp_path / "x.npy", given)
        for made in (
            take_inputs(manifest(), given).arrays["image"],
            load_input(tmp_path / "x.npy", [SPEC])["image"],
        ):
            np.testing.assert_allclose(made[0], scaled, atol=1e-6)
    caffe = replace(SPEC, pixels=Pixels("bgr", (103.939, 116.779, 123.68), (1.0,)))
    less = bytes_in - np.float32(110)
    np.testing.assert_array_equal(take_inputs(manifest(caffe), less).arrays["image"][0], less)
    swapped = take_inputs(manifest(caffe), bytes_in).arrays["image"][0]
    np.testing.assert_allclose(swapped[..., 0], bytes_in[..., 2] - 103.939, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "given"),
    [
        ((1, 6), (6,)),
        ((1, 6, 1), (6,)),
        ((1, 6, 1), (1, 6)),
        ((6,), (1, 6)),
        ((1, 2, 3), (2, 3)),
        ((), (1,)),
    ],
)
@pytest.mark.parametrize("dtype", ["float64", ">f8", "float16", "int64", "uint8", "bool"])
def test_an_array_may_lack_ones_and_have_another_width(
    tmp_path: Path, shape: tuple[int, ...], given: tuple[int, ...], dtype: str
) -> None:
    array = (np.arange(np.prod(given), dtype=np.int64) % 2).reshape(given).astype(dtype)
    spec = TensorSpec("x", "float32", shape)
    np.save(tmp_path / "x.npy", array)
    for made in (
        take_inputs(manifest(spec), array).arrays["x"],
        load_input(tmp_path / "x.npy", [spec])["x"],
    ):
        assert made.dtype == np.dtype("float32")
        assert made.shape == shape
        assert made.reshape(-1).tolist() == [place % 2 for place in range(array.size)]


@pytest.mark.parametrize(
    ("dtype", "array", "what"),
    [
        (
            "int8",
            np.array([[1, 2, 300]]),
            "values go from 1 to 300; the range of int8 is -128 to 127",
        ),
        ("uint8", np.array([[1, 2, -3]]), "from -3 to 2; the range of uint8 is 0 to 255"),
        ("int32", np.array([[1, 2, 2**31]]), "int32 is -2147483648"),
        ("int64", np.array([[1, 2, 2**63]], np.uint64), "range of int64 is"),
        ("bool", np.array([[0, 1, 2]]), "range of bool is 0 to 1"),
        ("int32", np.array([[1.0, 2.0, 3.0]]), "Give whole numbers as int32"),
        ("float32", np.array([[1.0, 2.0, -1e39]]), "1e[+]39 is too large for float32"),
        ("float16", np.array([[1, 2, 70_000]]), "70000 is too large for float16"),
        ("float32", np.array([[1, 2, 3j]]), "complex128"),
        ("float32", np.array([[1.0, 2.0]]), r"expected float32\[1, 3\]"),
        ("float32", np.array([["1", "2", "3"]]), "expected float32"),
    ],
)
def test_a_cast_that_would_lose_values_is_refused_in_programs_and_files(
    tmp_path: Path, dtype: str, array: np.ndarray, what: str
) -> None:
    spec = TensorSpec("x", dtype, (1, 3))
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(PayloadError, match=what):
        take_inputs(manifest(spec), array)
    with pytest.raises(InputFileError, match=what):
        load_input(tmp_path / "x.npy", [spec])


def test_integers_that_fit_become_narrower() -> None:
    for dtype in ("int8", "uint8", "int32", "uint64"):
        spec = TensorSpec("x", dtype, (1, 3))
        made = take_inputs(manifest(spec), np.array([0, 7, 127])).arrays["x"]
        assert (made.dtype, made.tolist()) == (np.dtype(dtype), [[0, 7, 127]])
    scaled = TensorSpec("x", "int8", (1, 3), quantized=Quantized(0.5, -10))
    real = take_inputs(manifest(scaled), np.array([0, 1, -2.25])).arrays["x"]
    assert real.tolist() == [[-10, -8, -15]]
    # Real values, or steps of the scale?
    with pytest.raises(PayloadError, match="Give real values as floats"):
        take_inputs(manifest(scaled), np.array([0, 1, 2]))


def test_one_sample_of_a_larger_batch_is_repeated() -> None:
    one = np.random.default_rng(1).random((1, 8, 12, 3), np.float32)
    taken = take_inputs(manifest(replace(SPEC, shape=(4, 8, 12, 3))), one)
    assert taken.is_sample
    np.testing.assert_array_equal(taken.arrays["image"], np.concatenate([one] * 4))
    with pytest.raises(PayloadError, match=r"\[2, 8, 12, 3\]; expected float32\[4, 8, 12, 3\]"):
        take_inputs(manifest(replace(SPEC, shape=(4, 8, 12, 3))), np.concatenate([one] * 2))


@pytest.mark.parametrize(
    ("picture", "what"),
    [
        (np.full((9, 9, 3), 0.5), "floats from 0.5 to 0.5; expected 0 to 255"),
        (np.array([[0.0, 1.0]] * 9), "floats from 0 to 1;"),
        (np.full((9, 9, 3), -3.0, np.float32), "floats from -3 to -3;"),
        (np.full((9, 9), 256.0), "floats from 256"),
        (np.full((9, 9), np.nan), "floats from nan"),
        (np.zeros((9, 9, 3), np.int64), "The picture has the dtype int64"),
        (np.zeros((9, 9, 2), np.uint8), r"\[9, 9, 2\]"),
        ("nowhere.png", "nowhere.png"),
    ],
)
def test_an_ambiguous_picture_is_refused_with_a_sentence(picture: Any, what: str) -> None:
    with pytest.raises((PixelsError, InputFileError), match=what):
        take_inputs(manifest(), picture)


def test_a_file_of_several_inputs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "stack.npy"
    np.save(path, np.zeros((3, 8, 12, 3), np.float32))
    with pytest.raises(
        EdgePartitionError, match="holds inputs for several inferences; expected one"
    ):
        take_inputs(manifest(), path)
    np.save(path, np.ones((1, 8, 12, 3), np.float32))
    assert (take_inputs(manifest(), path).arrays["image"] == 1).all()


def test_an_array_for_an_input_without_pictures_is_not_a_picture() -> None:
    table = TensorSpec("image", "float32", (1, 20))
    for array in (np.zeros((5, 20), np.float32), np.zeros((9, 9, 3), np.uint8)):
        with pytest.raises(PayloadError, match=r"expected float32\[1, 20\]"):
            take_inputs(manifest(table), array)
    bytes_in = np.arange(20, dtype=np.uint8)
    assert take_inputs(manifest(table), bytes_in).arrays["image"].tolist() == [[*range(20)]]
    with pytest.raises(EdgePartitionError, match="Input image takes no picture"):
        take_inputs(manifest(table), Image.new("L", (9, 9)))


def test_a_larger_batch_is_filled_with_copies_of_one_picture(file: Path) -> None:
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
    with pytest.raises(PayloadError, match="Got one array"):
        take_inputs(two, picture)
    with pytest.raises(PayloadError, match="The model has no input"):
        take_inputs(two, {"nonsense": picture})


def test_the_pictures_own_size_is_kept_for_a_detection_model(file: Path) -> None:
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


def test_sending_arrays_does_not_import_pillow() -> None:
    code = "import sys, edge_partition; assert 'PIL' not in sys.modules, sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
