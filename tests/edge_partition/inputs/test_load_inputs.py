from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from input_files import INDEX, RGB, VECTOR, error_of, pixels, write_wav
from PIL import Image

from edge_core.contract.manifest import Quantized, TensorSpec
from edge_partition.inputs.describe_pixels import parse_pixels
from edge_partition.inputs.load_inputs import (
    InputFileError,
    expand_inputs,
    load_input,
    load_samples,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_arrays_are_used_unchanged(tmp_path: Path) -> None:
    x, i = np.arange(6, dtype=np.float32).reshape(2, 3), np.array(7)
    np.save(tmp_path / "x.npy", x)
    np.testing.assert_array_equal(load_input(tmp_path / "x.npy", [VECTOR])["x"], x)
    np.savez(tmp_path / "both.npz", x=x, i=i, unused=x)
    loaded = load_input(tmp_path / "both.npz", [INDEX, VECTOR])
    assert list(loaded) == ["i", "x"]
    np.testing.assert_array_equal(loaded["x"], x)
    assert loaded["i"] == 7


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((3, 2), np.float32), "float32[3, 2]"),
        (np.zeros((6,)), "float64[6]"),
        (np.zeros((2, 3), np.complex64), "complex64[2, 3]"),
    ],
)
def test_another_shape_or_dtype_is_refused_with_both(
    tmp_path: Path, array: np.ndarray, found: str
) -> None:
    np.save(tmp_path / "x.npy", array)
    message = error_of(tmp_path / "x.npy", VECTOR)
    assert found in message
    assert "expected float32[2, 3]" in message


def test_arrays_for_other_inputs_are_refused_with_the_models_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", y=np.zeros((2, 3), np.float32))
    assert "inputs x, i" in error_of(tmp_path / "a.npz", VECTOR, INDEX)
    np.save(tmp_path / "a.npy", np.zeros((2, 3), np.float32))
    assert "2 inputs (x, i); give an .npz file" in error_of(tmp_path / "a.npy", VECTOR, INDEX)
    Image.fromarray(pixels(3)).save(tmp_path / "a.png")
    assert "float32[2, 3]" in error_of(tmp_path / "a.png", VECTOR)


class _Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return type(self.path).touch, (self.path,)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_a_pickle_is_never_run(tmp_path: Path, suffix: str) -> None:
    sprung, path = tmp_path / "sprung", tmp_path / f"x.{suffix}"
    trap = np.array([_Trap(sprung)], dtype=object)
    if suffix == "npy":
        np.save(path, trap)
    else:
        np.savez(path, x=trap)
    np.load(path, allow_pickle=True)["x" if suffix == "npz" else 0]
    assert sprung.exists()  # It would go off.
    sprung.unlink()
    assert "pickle" in error_of(path, VECTOR)
    assert not sprung.exists()


def test_a_file_with_the_wrong_suffix_is_refused(tmp_path: Path) -> None:
    x = np.zeros((2, 3), np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    (tmp_path / "x.npz").rename(tmp_path / "archive.npy")
    error_of(tmp_path / "archive.npy", VECTOR)
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "x.npy").rename(tmp_path / "array.npz")
    error_of(tmp_path / "array.npz", VECTOR)
    for suffix in ("png", "npy", "npz", "txt"):
        path = tmp_path / f"note.{suffix}"
        path.write_text("not what it is called")
        error_of(path, RGB)
        path.write_bytes(b"")
        error_of(path, RGB)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "tif", "npy", "npz", "wav"])
def test_truncated_and_damaged_files_are_refused_or_read_but_never_crash(
    tmp_path: Path, suffix: str
) -> None:
    path, spec = tmp_path / f"a.{suffix}", RGB
    if suffix == "wav":
        spec = TensorSpec("sound", "float32", (1, 400))
        write_wav(path, np.zeros(400, np.int16))
    elif suffix == "npy":
        np.save(path, np.zeros(RGB.shape, np.float32))
    elif suffix == "npz":
        np.savez_compressed(path, image=np.zeros(RGB.shape, np.float32))
    else:
        Image.fromarray(np.random.default_rng(1).integers(0, 255, (40, 60, 3), np.uint8)).save(path)
    whole = path.read_bytes()
    load_input(path, [spec])
    for stop in (1, len(whole) // 4, len(whole) // 2):
        path.write_bytes(whole[:stop])
        error_of(path, spec)
    messages = []
    chance = random.Random(7)  # noqa: S311 - no secret
    for _ in range(60):
        garbled = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            garbled[chance.randrange(min(len(whole), 400))] = chance.randrange(256)
        path.write_bytes(garbled)
        try:
            load_input(path, [spec])
        except InputFileError as error:
            messages.append(str(error))
    assert not any("\n" in message for message in messages)


def test_an_array_that_claims_terabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(
            stream, {"descr": "<f4", "fortran_order": False, "shape": (10**14,)}
        )
    error_of(path, VECTOR)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "No such file" in error_of(tmp_path / "x.png", RGB)
    with pytest.raises(InputFileError, match=r"x\.png: no such file"):
        expand_inputs([tmp_path / "x.png"])


def test_a_folder_stands_for_its_sorted_inputs_and_files_keep_their_order(tmp_path: Path) -> None:
    folder = tmp_path / "inputs"
    folder.mkdir()
    for name in (
        "b.PNG",
        "a.jpg",
        "c.npy",
        "d.WAV",
        "e.csv",
        "notes.txt",
        ".hidden",
        "._a.jpg",
        ".x.npy",
    ):
        (folder / name).touch()
    other = tmp_path / "other.dat"
    other.touch()
    found = expand_inputs([other, folder])
    assert [path.name for path in found] == [
        "other.dat", "a.jpg", "b.PNG", "c.npy", "d.WAV", "e.csv",
    ]  # fmt: skip


def test_a_folder_without_inputs_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"holds no image"):
        expand_inputs([tmp_path])


def test_each_array_of_a_stack_is_an_input(tmp_path: Path) -> None:
    x, y = TensorSpec("x", "float32", (1, 3)), TensorSpec("y", "int8", (1,))
    stack = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.save(tmp_path / "x.npy", stack)
    samples = list(load_samples(tmp_path / "x.npy", [x]))
    assert [sample["x"].tolist() for sample in samples] == [[row] for row in stack.tolist()]
    np.savez(tmp_path / "xy.npz", x=stack, y=np.arange(4, dtype=np.int8))
    assert [int(sample["y"][0]) for sample in load_samples(tmp_path / "xy.npz", [x, y])] == [
        0, 1, 2, 3,
    ]  # fmt: skip
    np.save(tmp_path / "one.npy", stack[:1])
    assert len(list(load_samples(tmp_path / "one.npy", [x]))) == 1


def test_stacked_arrays_of_another_shape_or_unequal_length_are_refused(tmp_path: Path) -> None:
    x, y = TensorSpec("x", "float32", (1, 3)), TensorSpec("y", "int8", (1,))
    np.save(tmp_path / "wide.npy", np.zeros((4, 5), np.float32))
    with pytest.raises(InputFileError, match=r"holds float32\[1, 5\] .* expected float32\[1, 3\]"):
        list(load_samples(tmp_path / "wide.npy", [x]))
    np.savez(tmp_path / "xy.npz", x=np.zeros((4, 3), np.float32), y=np.zeros(3, np.int8))
    with pytest.raises(
        InputFileError, match=r"input x has 4 samples, input y has 3; expected the same number"
    ):
        list(load_samples(tmp_path / "xy.npz", [x, y]))
    np.savez(tmp_path / "xy.npz", x=np.zeros((1, 3), np.float32), y=np.zeros(3, np.int8))
    with pytest.raises(
        InputFileError, match=r"input x has 1 samples, input y has 3; expected the same number"
    ):
        list(load_samples(tmp_path / "xy.npz", [x, y]))
    # What is of another shape altogether is said first.
    np.savez(tmp_path / "xy.npz", x=np.zeros((2, 2, 3, 3), np.float32), y=np.zeros(3, np.int8))
    with pytest.raises(InputFileError, match=r"holds float32\[2, 2, 3, 3\] for input x"):
        list(load_samples(tmp_path / "xy.npz", [x, y]))
    pair = TensorSpec("pair", "float32", (2, 3))
    np.save(tmp_path / "four.npy", np.zeros((4, 3), np.float32))
    with pytest.raises(InputFileError, match=r"expected float32\[2, 3\]"):
        list(load_samples(tmp_path / "four.npy", [pair]))


def test_arrays_may_lack_a_batch_of_one_and_be_stacked_with_it(tmp_path: Path) -> None:
    spec = TensorSpec("x", "float32", (1, 28, 28))
    for shape, count in (
        ((28, 28), 1),
        ((1, 28, 28), 1),
        ((5, 28, 28), 5),
        ((5, 1, 28, 28), 5),
    ):
        np.save(tmp_path / "x.npy", np.zeros(shape, np.float32))
        samples = list(load_samples(tmp_path / "x.npy", [spec]))
        assert [sample["x"].shape for sample in samples] == [(1, 28, 28)] * count
    bare = TensorSpec("x", "float32", (28, 28))
    np.save(tmp_path / "x.npy", np.arange(3 * 784, dtype=np.float32).reshape(3, 28, 28))
    firsts = [int(sample["x"][0, 0]) for sample in load_samples(tmp_path / "x.npy", [bare])]
    assert firsts == [0, 784, 1568]


def test_real_values_are_quantized_for_an_input_with_a_scale(tmp_path: Path) -> None:
    spec = TensorSpec("x", "int8", (1, 3), quantized=Quantized(0.5, -10))
    np.save(tmp_path / "x.npy", np.array([[0, 1, -2.25]]))
    assert load_input(tmp_path / "x.npy", [spec])["x"].tolist() == [[-10, -8, -15]]
    np.save(tmp_path / "x.npy", np.array([[1, 2, 3]], np.int8))
    assert load_input(tmp_path / "x.npy", [spec])["x"].tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("size", [(4, 6), (9, 13)])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_arrays_of_bytes_are_pictures(
    tmp_path: Path, suffix: str, size: tuple[int, int], dtype: str
) -> None:
    said = parse_pixels("-1..1,bgr")
    quantized = Quantized(1 / 127.5, 0) if dtype == "int8" else None
    spec = replace(RGB, dtype=dtype, pixels=said, quantized=quantized)
    stack = np.random.default_rng(4).integers(0, 256, (6, *size, 3), np.uint8)
    expected = []
    for picture in stack:
        Image.fromarray(picture).save(tmp_path / "a.png")
        expected.append(load_input(tmp_path / "a.png", [spec])["image"])
    assert np.max(expected) - np.min(expected).astype(float) > (0.5 if dtype == "float32" else 60)
    path = tmp_path / f"x.{suffix}"
    for given, wanted in ((stack, expected), (stack[:1], expected[:1]), (stack[0], expected[:1])):
        if suffix == "npy":
            np.save(path, given)
        else:
            np.savez(path, image=given)
        made = [sample["image"] for sample in load_samples(path, [spec])]
        np.testing.assert_array_equal(made, wanted)
    # Beside an input that takes no picture.
    other = TensorSpec("extra", "float32", (1, 2))
    np.savez(tmp_path / "two.npz", image=stack, extra=np.arange(12).reshape(6, 2))
    both = list(load_samples(tmp_path / "two.npz", [spec, other]))
    np.testing.assert_array_equal([sample["image"] for sample in both], expected)
    assert both[5]["extra"].tolist() == [[10, 11]]
    np.savez(tmp_path / "two.npz", image=stack[:3], extra=np.zeros((2, 2)))
    with pytest.raises(
        InputFileError,
        match=r"input image has 3 samples, input extra has 2; expected the same",
    ):
        list(load_samples(tmp_path / "two.npz", [spec, other]))


@pytest.mark.parametrize("given", [(5, 28, 28), (5, 28, 28, 1), (5, 1, 28, 28), (5, 40, 40)])
@pytest.mark.parametrize("shape", [(28, 28), (1, 28, 28), (1, 28, 28, 1), (1, 1, 28, 28)])
def test_gray_bytes_may_be_stacked_in_any_layout(
    tmp_path: Path, shape: tuple[int, ...], given: tuple[int, ...]
) -> None:
    spec = TensorSpec("x", "float32", shape, pixels=parse_pixels("0..1", channels=1))
    stack = np.repeat(np.arange(0, 255, 51).astype(np.uint8), np.prod(given[1:])).reshape(given)
    np.save(tmp_path / "x.npy", stack)
    made = [sample["x"] for sample in load_samples(tmp_path / "x.npy", [spec])]
    assert [array.shape for array in made] == [shape] * 5
    np.testing.assert_allclose([array.mean() for array in made], np.arange(5) / 5, atol=1e-6)


def test_bytes_with_their_channels_first_are_never_three_gray_pictures(tmp_path: Path) -> None:
    picture = np.random.default_rng(6).integers(0, 256, (4, 6, 3), np.uint8)
    said = parse_pixels("0..255")
    path = tmp_path / "x.npy"
    np.save(path, picture.transpose(2, 0, 1))
    assert "shape [3, 4, 6]" in error_of(path, replace(RGB, pixels=said))
    first = TensorSpec("x", "float32", (1, 3, 4, 6), pixels=said)
    for given in (picture, picture.transpose(2, 0, 1), picture.transpose(2, 0, 1)[None]):
        np.save(path, given)
        np.testing.assert_array_equal(load_input(path, [first])["x"][0], picture.transpose(2, 0, 1))


def test_bytes_for_an_input_of_bytes_are_unchanged(tmp_path: Path) -> None:
    spec = replace(RGB, dtype="uint8", pixels=parse_pixels("0..255,bgr"))
    stack = np.random.default_rng(6).integers(0, 256, (2, 4, 6, 3), np.uint8)
    for given in (stack, stack[:1]):
        np.save(tmp_path / "x.npy", given)
        made = [sample["image"][0] for sample in load_samples(tmp_path / "x.npy", [spec])]
        np.testing.assert_array_equal(made, given)


def test_integers_for_a_picture_are_refused_with_advice(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(RGB.shape, np.int64))
    spec = replace(RGB, pixels=parse_pixels("-1..1"))
    assert "Give a picture as uint8" in error_of(tmp_path / "x.npy", spec)


@pytest.mark.parametrize(
    ("said", "values", "note"),
    [
        ("-1..1", (0, 255), "for input image go from 0 to 255; the model takes -1 to 1"),
        ("0..1", (0, 255), "from 0 to 255; the model takes 0 to 1"),
        ("imagenet", (0, 255), "from 0 to 255; the model takes -2.118 to 2.64"),
        ("0..255", (0, 1), "from 0 to 1; the model takes 0 to 255"),
        ("-1..1", (-1, 1), ""),
        ("-1..1", (0, 1.5), ""),
        ("0..255", (0, 200), ""),
        ("0..255", (0, 0), ""),
    ],
)
def test_floats_far_from_the_inputs_range_are_used_with_a_note(
    tmp_path: Path, said: str, values: tuple[float, float], note: str
) -> None:
    array = np.full((3, 4, 6, 3), values[0], np.float32)
    array[:, 0] = values[1]
    np.save(tmp_path / "x.npy", array)
    notes: list[str] = []
    spec = replace(RGB, pixels=parse_pixels(said))
    samples = list(load_samples(tmp_path / "x.npy", [spec], on_note=notes.append))
    np.testing.assert_array_equal([sample["image"][0] for sample in samples], array)
    assert len(notes) == bool(note)
    assert note in "".join(notes)


def test_the_only_array_of_an_archive_may_have_any_name(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.savez(path, x)
    np.testing.assert_array_equal(load_input(path, [VECTOR])["x"], x)
    np.savez(path, x, x)
    assert (
        "lacks an array for input x. The archive holds arr_0, arr_1; the model has the inputs x"
        in error_of(path, VECTOR)
    )
    np.savez(path, x)
    assert "lacks an array for input x, i. The archive holds arr_0; the" in error_of(
        path, VECTOR, INDEX
    )
    np.savez(path, *[x] * 9)
    assert "arr_7, ...; the model" in error_of(path, VECTOR)


def test_a_folder_of_class_folders_is_read_in_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ("cat/02.npy", "cat/01.npy", "dog/a/01.npy", ".cache/01.npy", "dog/notes.txt"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    found = [str(file.relative_to(tmp_path)) for file in expand_inputs([tmp_path])]
    assert found == ["cat/01.npy", "cat/02.npy", "dog/a/01.npy"]
