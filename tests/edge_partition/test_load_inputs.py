from __future__ import annotations

import random
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from broker_config.manifest import TensorSpec
from edge_partition.load_inputs import InputFileError, expand_inputs, load_input, load_samples

if TYPE_CHECKING:
    from pathlib import Path

RGB = TensorSpec("image", "float32", (1, 4, 6, 3))
GRAY = TensorSpec("image", "float32", (1, 4, 6, 1))
VECTOR = TensorSpec("x", "float32", (2, 3))
INDEX = TensorSpec("i", "int64", ())


def pixels(channels: int) -> np.ndarray:
    values = np.arange(4 * 6 * channels, dtype=np.uint8) * 3
    return values.reshape((4, 6, channels) if channels > 1 else (4, 6))


def error_of(path: Path, *specs: TensorSpec) -> str:
    with pytest.raises(InputFileError) as caught:
        load_input(path, specs)
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_picture_of_the_models_size_is_its_pixels(tmp_path: Path) -> None:
    Image.fromarray(pixels(3)).save(tmp_path / "a.png")
    loaded = load_input(tmp_path / "a.png", [RGB])["image"]
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded[0], pixels(3))


def test_full_integer_models_get_pixels_in_their_range(tmp_path: Path) -> None:
    Image.fromarray(pixels(3)).save(tmp_path / "a.png")
    for dtype, shift in (("uint8", 0), ("int8", 128)):
        loaded = load_input(tmp_path / "a.png", [TensorSpec("x", dtype, (1, 4, 6, 3))])["x"]
        assert loaded.dtype == dtype
        np.testing.assert_array_equal(loaded[0].astype(int) + shift, pixels(3))


def test_channels_become_the_models(tmp_path: Path) -> None:
    Image.fromarray(pixels(1)).save(tmp_path / "gray.png")
    from_gray = load_input(tmp_path / "gray.png", [RGB])["image"]
    np.testing.assert_array_equal(from_gray[0], np.repeat(pixels(1)[..., None], 3, axis=2))

    with_alpha = np.dstack([pixels(3), np.full((4, 6), 128, np.uint8)])
    Image.fromarray(with_alpha).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(
        load_input(tmp_path / "rgba.png", [RGB])["image"][0], with_alpha[..., :3]
    )
    Image.fromarray(pixels(1)).save(tmp_path / "one.png")
    np.testing.assert_array_equal(
        load_input(tmp_path / "one.png", [GRAY])["image"][0, ..., 0], pixels(1)
    )


def test_a_16_bit_picture_keeps_its_shades(tmp_path: Path) -> None:
    Image.fromarray(pixels(1).astype(np.uint16) * 256).save(tmp_path / "deep.png")
    loaded = load_input(tmp_path / "deep.png", [GRAY])["image"]
    np.testing.assert_array_equal(loaded[0, ..., 0], pixels(1))


def test_a_picture_without_a_fixed_range_is_refused(tmp_path: Path) -> None:
    Image.fromarray(pixels(1).astype(np.float32)).save(tmp_path / "float.tif")
    assert "32 bits" in error_of(tmp_path / "float.tif", GRAY)


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "bmp", "webp", "JPG"])
def test_other_formats_and_sizes_are_resized_to_the_models(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (50, 31), (10, 200, 90)).save(path)
    loaded = load_input(path, [RGB])["image"]
    assert loaded.shape == (1, 4, 6, 3)
    np.testing.assert_allclose(loaded[0, 2, 3], (10, 200, 90), atol=4)


def test_width_and_height_are_not_swapped(tmp_path: Path) -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 15:] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    loaded = load_input(tmp_path / "wide.png", [RGB])["image"][0]
    assert (loaded[:, :2] == 0).all()
    assert (loaded[:, 4:] == 255).all()


def test_arrays_are_taken_as_they_are(tmp_path: Path) -> None:
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
        (np.zeros((2, 3)), "float64[2, 3]"),
        (np.zeros((2, 3), np.int32), "int32[2, 3]"),
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
    assert "2 inputs (x, i); use an .npz" in error_of(tmp_path / "a.npy", VECTOR, INDEX)
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


def test_a_file_of_the_wrong_name_is_refused(tmp_path: Path) -> None:
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
@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "tif", "npy", "npz"])
def test_cut_and_garbled_files_are_refused_or_read_but_never_crash(
    tmp_path: Path, suffix: str
) -> None:
    path, spec = tmp_path / f"a.{suffix}", RGB
    if suffix == "npy":
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


def png_of(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [11_000, 20_000, 60_000])
def test_a_decompression_bomb_is_refused_by_its_size(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of(side, side))
    assert "pixels" in error_of(path, RGB)


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


def test_a_folder_is_its_inputs_sorted_and_files_stay_as_named(tmp_path: Path) -> None:
    folder = tmp_path / "inputs"
    folder.mkdir()
    for name in ("b.PNG", "a.jpg", "c.npy", "notes.txt", ".hidden"):
        (folder / name).touch()
    other = tmp_path / "other.dat"
    other.touch()
    found = expand_inputs([other, folder])
    assert [path.name for path in found] == ["other.dat", "a.jpg", "b.PNG", "c.npy"]


def test_a_folder_without_inputs_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"holds no image"):
        expand_inputs([tmp_path])


def test_stacked_arrays_are_an_input_each(tmp_path: Path) -> None:
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
    with pytest.raises(InputFileError, match=r"holds float32\[4, 3\]"):
        list(load_samples(tmp_path / "xy.npz", [x, y]))
    pair = TensorSpec("pair", "float32", (2, 3))
    np.save(tmp_path / "four.npy", np.zeros((4, 3), np.float32))
    with pytest.raises(InputFileError, match=r"expected float32\[2, 3\]"):
        list(load_samples(tmp_path / "four.npy", [pair]))
