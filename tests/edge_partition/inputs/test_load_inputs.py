from __future__ import annotations

import random
import shlex
import struct
import wave
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from edge_core.contract.manifest import Pixels, Quantized, TensorSpec
from edge_partition.inputs.batches import batch_size, batches, split_outputs
from edge_partition.inputs.load_inputs import (
    InputFileError,
    as_picture,
    expand_inputs,
    load_input,
    load_samples,
)
from edge_partition.inputs.pixels import PixelsError, parse_pixels

if TYPE_CHECKING:
    from pathlib import Path

RGB = TensorSpec("image", "float32", (1, 4, 6, 3))
GRAY = TensorSpec("image", "float32", (1, 4, 6, 1))
VECTOR = TensorSpec("x", "float32", (2, 3))
INDEX = TensorSpec("i", "int64", ())


def pixels(channels: int) -> np.ndarray:
    values = np.arange(4 * 6 * channels, dtype=np.uint8) * 3
    return values.reshape((4, 6, channels) if channels > 1 else (4, 6))


def write_wav(
    path: Path, samples: np.ndarray, *, rate_hz: int = 16_000, channels: int = 1, width: int = 2
) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate_hz)
        file.writeframes(samples.tobytes())


def error_of(path: Path, *specs: TensorSpec) -> str:
    with pytest.raises(InputFileError) as caught:
        load_input(path, specs)
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_picture_of_the_models_size_is_not_resized(tmp_path: Path) -> None:
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


def test_channels_are_converted_to_the_models(tmp_path: Path) -> None:
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


def png_of(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [11_000, 20_000, 60_000])
def test_a_decompression_bomb_is_refused_by_its_size(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of(side, side))
    message = error_of(path, RGB)
    assert "The picture has" in message
    assert "pixels; expected at most 100,000,000." in message
    assert "DOS" not in message


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
        InputFileError, match=r"input x has 4 samples, input y has 3; expected equally many"
    ):
        list(load_samples(tmp_path / "xy.npz", [x, y]))
    np.savez(tmp_path / "xy.npz", x=np.zeros((1, 3), np.float32), y=np.zeros(3, np.int8))
    with pytest.raises(
        InputFileError, match=r"input x has 1 samples, input y has 3; expected equally many"
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


def test_pictures_are_converted_to_the_inputs_range(tmp_path: Path) -> None:
    Image.fromarray(pixels(3)).save(tmp_path / "a.png")
    plain = load_input(tmp_path / "a.png", [RGB])["image"]
    spec = replace(RGB, pixels=parse_pixels("-1..1,bgr"))
    made = load_input(tmp_path / "a.png", [spec])["image"]
    assert not np.array_equal(made, plain)
    np.testing.assert_array_equal(made, plain[..., ::-1] / np.float32(127.5) - np.float32(1))


@pytest.mark.parametrize("resize", ["bilinear", "bicubic", "nearest", "area"])
def test_pictures_are_resized_as_the_manifest_says(tmp_path: Path, resize: str) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (21, 33, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    filters = {
        name: np.asarray(Image.fromarray(noise).resize((6, 4), method), np.float32)
        for name, method in (
            ("nearest", Image.Resampling.NEAREST),
            ("bilinear", Image.Resampling.BILINEAR),
            ("bicubic", Image.Resampling.BICUBIC),
            ("area", Image.Resampling.BOX),
        )
    }
    spec = replace(RGB, pixels=replace(parse_pixels("0..255"), resize=resize))
    made = load_input(tmp_path / "a.png", [spec])["image"][0]
    assert [name for name, other in filters.items() if np.array_equal(made, other)] == [resize]


def fitted(fit: str, picture: np.ndarray, height: int, width: int) -> np.ndarray:
    channels = 1 if picture.ndim == 2 else picture.shape[2]
    said = replace(parse_pixels("0..255", channels=channels), fit=fit, resize="nearest")
    spec = TensorSpec("x", "uint8", (1, height, width, channels), pixels=said)
    made: np.ndarray = as_picture(picture, [spec])["x"][0]
    return made


def test_a_picture_is_stretched_cropped_or_letterboxed() -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20], wide[:, 20:] = 100, 200
    stretched, cut, barred = (fitted(fit, wide, 30, 30) for fit in ("stretch", "crop", "letterbox"))
    assert (stretched[:, 5] == 0).all()
    assert (stretched[:, 25] == 200).all()
    assert (cut == 100).all()
    np.testing.assert_array_equal(barred[10:20], wide)
    assert (barred[:10] == 114).all()
    assert (barred[20:] == 114).all()


def test_a_tall_picture_is_letterboxed_at_its_sides_and_cropped_to_its_middle() -> None:
    high = np.zeros((30, 10), np.uint8)
    high[10:20] = 9
    barred = fitted("letterbox", high, 30, 30)[..., 0]
    np.testing.assert_array_equal(barred[:, 10:20], high)
    assert (np.delete(barred, range(10, 20), axis=1) == 114).all()
    assert (fitted("crop", high, 10, 10) == 9).all()
    # Opaque, and gray in each channel.
    rgba = fitted("letterbox", np.full((10, 30, 4), 7, np.uint8), 30, 30)
    assert rgba[0, 0].tolist() == [114, 114, 114, 255]


def test_a_photograph_is_rotated_according_to_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    upright = np.zeros((6, 4, 3), np.uint8)
    upright[0] = 255
    lying = Image.fromarray(np.rot90(upright).copy())
    lying.save(tmp_path / "plain.png")
    lying.save(tmp_path / "turned.png", exif=exif)
    spec = TensorSpec("x", "float32", (1, 6, 4, 3))
    made = load_input(tmp_path / "turned.png", [spec])["x"][0]
    np.testing.assert_array_equal(made, upright)
    assert not np.array_equal(load_input(tmp_path / "plain.png", [spec])["x"][0], upright)


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (1, 8, 8, 1), (1, 1, 8, 8)])
def test_gray_models_take_any_picture(tmp_path: Path, shape: tuple[int, ...]) -> None:
    spec = TensorSpec("x", "float32", shape, pixels=parse_pixels("0..255,gray"))
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "red.png")
    Image.new("P", (8, 8), 3).save(tmp_path / "palette.png")
    made = load_input(tmp_path / "red.png", [spec])["x"]
    assert made.shape == shape
    assert (made == 76).all()  # 0.299 * 255
    assert load_input(tmp_path / "palette.png", [spec])["x"].shape == shape


def test_channels_come_first_if_the_model_has_them_first(tmp_path: Path) -> None:
    Image.fromarray(pixels(3)).save(tmp_path / "a.png")
    made = load_input(tmp_path / "a.png", [TensorSpec("x", "float32", (1, 3, 4, 6))])["x"]
    np.testing.assert_array_equal(made[0], pixels(3).transpose(2, 0, 1))


BATCH = TensorSpec("image", "float32", (3, 4, 6, 3))


def test_a_batch_is_filled_with_pictures_and_the_last_one_repeated(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in range(5)]
    for number, file in enumerate(files):
        Image.new("RGB", (6, 4), (number, 0, 0)).save(file)
    samples = [sample for file in files for sample in load_samples(file, [BATCH])]
    assert [sample["image"].shape for sample in samples] == [(1, 4, 6, 3)] * 5
    made = list(batches(samples, [BATCH]))
    assert [count for _, count in made] == [3, 2]
    assert [inputs["image"][:, 0, 0, 0].tolist() for inputs, _ in made] == [[0, 1, 2], [3, 4, 4]]
    assert load_input(files[1], [BATCH])["image"][:, 0, 0, 0].tolist() == [1, 1, 1]


def test_stacked_pictures_fill_batches_too(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((7, 4, 6, 3), np.float32))
    np.save(tmp_path / "one.npy", np.zeros((4, 6, 3), np.float32))
    samples = list(load_samples(tmp_path / "x.npy", [BATCH]))
    assert [count for _, count in batches(samples, [BATCH])] == [3, 3, 1]
    assert len(list(load_samples(tmp_path / "one.npy", [BATCH]))) == 1
    with pytest.raises(InputFileError, match="several inputs"):
        load_input(tmp_path / "x.npy", [BATCH])


def test_copies_that_fill_a_batch_give_no_answers() -> None:
    outputs = {"scores": np.arange(6).reshape(3, 2), "boxes": np.arange(3).reshape(3, 1)}
    parts = split_outputs(outputs, 2, [BATCH])
    assert [part["scores"].tolist() for part in parts] == [[[0, 1]], [[2, 3]]]
    assert [part["boxes"].tolist() for part in parts] == [[[0]], [[1]]]
    mixed = {**outputs, "mean": np.zeros(4)}
    (whole,) = split_outputs(mixed, 2, [BATCH])
    assert whole.keys() == mixed.keys()
    assert len(split_outputs(outputs, 1, [RGB])) == 1


@pytest.mark.parametrize(
    ("shapes", "size"),
    [
        ([(8, 4, 6, 3)], 8),
        ([(1, 4, 6, 3)], 1),
        ([(8, 28, 28)], 8),
        ([(28, 28)], 1),
        ([(8, 100)], 1),  # may be a sequence
        ([(8, 4, 6, 3), (8, 10)], 8),
        ([(8, 4, 6, 3), (10,)], 1),
        ([()], 1),
    ],
)
def test_only_pictures_come_in_batches(shapes: list[tuple[int, ...]], size: int) -> None:
    specs = [TensorSpec(f"x{at}", "float32", shape) for at, shape in enumerate(shapes)]
    assert batch_size(specs) == size


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
        InputFileError, match=r"input image has 3 samples, input extra has 2; expected equally many"
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
        "lacks an array for input x; the archive holds arr_0, arr_1, and the model has the inputs x"
        in error_of(path, VECTOR)
    )
    np.savez(path, x)
    assert "lacks an array for input x, i; the archive holds arr_0, and" in error_of(
        path, VECTOR, INDEX
    )
    np.savez(path, *[x] * 9)
    assert "arr_7, ..., and the model" in error_of(path, VECTOR)


# Sound

SOUND = TensorSpec("sound", "float32", (1, 4), rate_hz=16_000)


@pytest.mark.parametrize(
    ("width", "samples"),
    [
        (1, np.array([128, 192, 0, 255], np.uint8)),
        (2, np.array([0, 2**14, -(2**15), 2**15 - 1], np.int16)),
        (3, np.array([0, 0, 0, 0, 0, 64, 0, 0, 128, 255, 255, 127], np.uint8)),
        (4, np.array([0, 2**30, -(2**31), 2**31 - 1], np.int32)),
    ],
)
def test_sound_of_any_width_is_scaled_to_minus_one_to_one(
    tmp_path: Path, width: int, samples: np.ndarray
) -> None:
    write_wav(tmp_path / "a.wav", samples, width=width)
    made = load_input(tmp_path / "a.wav", [SOUND])["sound"]
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, [[0, 0.5, -1, 1]], atol=0.01)


def test_sound_for_integers_is_unchanged(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.array([1, -2, 3, -4], np.int16))
    whole = load_input(tmp_path / "a.wav", [replace(SOUND, dtype="int16")])["sound"]
    assert whole.tolist() == [[1, -2, 3, -4]]
    scaled = replace(SOUND, dtype="int8", quantized=Quantized(1 / 128, 0))
    write_wav(tmp_path / "a.wav", np.array([0, 2**14, -(2**15), 256], np.int16))
    assert load_input(tmp_path / "a.wav", [scaled])["sound"].tolist() == [[0, 64, -128, 1]]


@pytest.mark.parametrize("shape", [(4,), (1, 4), (1, 4, 1), (1, 1, 4)])
def test_longer_sound_is_divided_into_windows_and_the_last_is_filled(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    write_wav(tmp_path / "a.wav", np.full(9, 2**14, np.int16))
    made = [
        sample["sound"]
        for sample in load_samples(tmp_path / "a.wav", [replace(SOUND, shape=shape)])
    ]
    assert [array.shape for array in made] == [shape] * 3
    assert [array.reshape(-1).tolist() for array in made[1:]] == [[0.5] * 4, [0.5, 0, 0, 0]]


def test_sound_of_another_rate_or_in_stereo_is_refused_with_a_command_that_converts_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.wav"
    write_wav(path, np.zeros(8, np.int16), rate_hz=44_100)
    message = error_of(path, SOUND)
    assert "1 channel of 44100 Hz; the model takes one channel of 16000" in message
    assert f"`ffmpeg -i {path} -ac 1 -ar 16000 mono.wav`" in message
    write_wav(path, np.zeros(8, np.int16), channels=2)
    assert "has 2 channels of 16000 Hz" in error_of(path, SOUND)
    # Of a rate that nobody knows nothing is said.
    spaced = tmp_path / "a b's.wav"
    path.rename(spaced)
    message = error_of(spaced, replace(SOUND, rate_hz=0))
    assert "the model takes one channel. Convert the file: `ffmpeg" in message
    assert "-ar" not in message
    assert shlex.split(message.split("`")[1])[1:4] == ["-i", str(spaced), "-ac"]
    write_wav(path, np.zeros(0, np.int16))
    assert "no sound" in error_of(path, SOUND)
    whole = path.read_bytes()
    path.write_bytes(b"")
    assert "is empty; expected a PCM .wav file" in error_of(path, SOUND)
    path.write_bytes(whole[:6])
    assert "ends inside its header" in error_of(path, SOUND)


@pytest.mark.parametrize(
    ("count", "zeros"), [(3, "ends with 1 zeros"), (9, "ends with 3 zeros"), (8, "")]
)
def test_zeros_that_fill_a_window_are_noted(tmp_path: Path, count: int, zeros: str) -> None:
    write_wav(tmp_path / "a.wav", np.ones(count, np.int16))
    notes: list[str] = []
    list(load_samples(tmp_path / "a.wav", [SOUND], on_note=notes.append))
    assert len(notes) == bool(zeros)
    assert all(
        f"takes windows of 4 samples; the file has {count} samples, so" in note for note in notes
    )
    assert zeros in "".join(notes)


def test_sound_for_a_model_of_unknown_rate_is_used_with_a_note(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.zeros(4, np.int16), rate_hz=22_050)
    notes: list[str] = []
    (sample,) = load_samples(tmp_path / "a.wav", [replace(SOUND, rate_hz=0)], on_note=notes.append)
    assert sample["sound"].shape == (1, 4)
    (note,) = notes
    assert "22050 Hz" in note


def test_sound_is_not_a_spectrogram(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.zeros(4, np.int16))
    assert "spectrogram" in error_of(tmp_path / "a.wav", RGB)


# Tables


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "a.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    ["1,2,3\n4,5,6\n", "a,b,c\n1,2,3\n4,5,6", "1;2;3\n4;5;6", "1\t2\t3\n4\t5\t6\n\n",
     "1 2  3\n4 5 6", '"1","2","3"\r\n"4","5","6"\r\n', "\ufeff1, 2, 3\n4, 5, 6e0"],
)  # fmt: skip
def test_each_row_of_a_table_is_a_sample(tmp_path: Path, text: str) -> None:
    spec = TensorSpec("x", "float32", (1, 3))
    made = [sample["x"].tolist() for sample in load_samples(table(tmp_path, text), [spec])]
    assert made == [[[1, 2, 3]], [[4, 5, 6]]]


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("1,2,3\n4,5,6", (1, 2, 3)),
        ("x,y,z\n1,2,3\n4,5,6", (2, 3)),
        ("1\n2\n3\n4\n5\n6", (1, 6)),
        ("1\n2\n3\n4\n5\n6", (1, 6, 1)),
    ],
)
def test_a_whole_table_is_a_sample_if_the_model_takes_a_table(
    tmp_path: Path, text: str, shape: tuple[int, ...]
) -> None:
    (sample,) = load_samples(table(tmp_path, text), [TensorSpec("x", "float32", shape)])
    np.testing.assert_array_equal(sample["x"], np.arange(1, 7).reshape(shape))


def test_a_table_for_integers_has_whole_numbers_or_is_quantized(tmp_path: Path) -> None:
    spec = TensorSpec("x", "int32", (1, 2))
    assert load_input(table(tmp_path, "3,-4"), [spec])["x"].tolist() == [[3, -4]]
    assert "not int32" in error_of(table(tmp_path, "3,4.5"), spec)
    assert "not uint8" in error_of(table(tmp_path, "3,-4"), replace(spec, dtype="uint8"))
    scaled = replace(spec, dtype="uint8", quantized=Quantized(0.5, 1))
    assert load_input(table(tmp_path, "3,4.5"), [scaled])["x"].tolist() == [[7, 10]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("1,2", "1 rows of 2 numbers; input x is float32[2, 3], so each row needs 6 numbers"),
        ("1,2", "6 numbers, or the file 2 rows of 3."),
        ("1,2,3\n4,5", "line 2 has 2 cells; the first row has 3"),
        ("a,b,c\n1,2,3\n4,five,6", "line 3 has the cell 'five'"),
    ],
)  # fmt: skip
def test_other_tables_are_refused_with_the_line(tmp_path: Path, text: str, message: str) -> None:
    assert message in error_of(table(tmp_path, text), VECTOR)


# Pictures as people have them in a program


def test_a_picture_in_a_program_equals_its_file(tmp_path: Path) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (9, 13, 3), np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(noise).save(path)
    spec = replace(RGB, pixels=parse_pixels("-1..1"))
    expected = load_input(path, [spec])["image"]
    for value in (path, str(path), Image.open(path), noise):
        np.testing.assert_array_equal(as_picture(value, [spec])["image"], expected)
    nearly = as_picture(noise.astype(np.float64), [spec])["image"]
    # Not rounded to whole values, as bytes are: once for the rows and once for the columns.
    np.testing.assert_allclose(nearly, expected, atol=1.01 / 127.5)
    assert len(np.unique(nearly)) > len(np.unique(expected))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(9, 13), (9, 13, 1), (9, 13, 3), (9, 13, 4)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_arrays_of_other_channels_are_converted_to_the_models(
    dtype: type, shape: tuple[int, ...], channels: int
) -> None:
    spec = TensorSpec("x", "float32", (1, 4, 6, channels))
    picture: np.ndarray = np.full(shape, 200, dtype)
    made = as_picture(picture, [spec])["x"]
    alpha = channels == 4 and shape[2:] != (4,)
    np.testing.assert_allclose(made[..., :3], 200, atol=0.01)
    assert channels < 4 or (made[..., 3] == (255 if alpha else 200)).all()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.full((9, 9, 3), 0.5), "from 0.5 to 0.5; expected 0 to 255"),
        (np.full((9, 9, 3), -1.0), "from -1 to -1; expected 0 to 255"),
        (np.full((9, 9, 3), 256.0), "from 256 to 256"),
        (np.full((9, 9, 3), np.nan), "expected 0 to 255"),
        (np.zeros((9, 9, 2), np.uint8), r"shape [9, 9, 2]"),
        (np.zeros((2, 9, 9, 3), np.uint8), r"shape [2, 9, 9, 3]"),
        (np.zeros((0, 9, 3), np.uint8), r"shape [0, 9, 3]"),
        (np.zeros((9, 9, 3), np.int32), "The picture is int32"),
        ("a b", "shape []"),
    ],
)
def test_a_value_that_is_not_a_picture_is_refused(value: Any, message: str) -> None:
    with pytest.raises(PixelsError) as caught:
        as_picture(np.asarray(value), [RGB])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_picture_is_refused_if_a_model_has_several_inputs() -> None:
    with pytest.raises(PixelsError, match=r"2 inputs \(image, x\)\. Give a dict"):
        as_picture(pixels(3), [RGB, VECTOR])


def test_a_file_of_several_inputs_is_refused_as_one_picture(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 9, 9, 3), np.uint8))
    with pytest.raises(InputFileError, match="holds several inputs; expected one"):
        as_picture(tmp_path / "x.npy", [RGB])


@pytest.mark.parametrize(
    ("mode", "size", "spec", "message"),
    [
        ("F", (9, 9), GRAY, "The picture has 32 bits"),
        ("1", (10_001, 10_000), RGB, "The picture has 10001x10000 pixels"),
        ("L", (9, 9), VECTOR, "Input x takes no picture: it is float32[2, 3]"),
    ],
)
def test_the_message_on_a_refused_image_is_a_whole_sentence(
    mode: str, size: tuple[int, int], spec: TensorSpec, message: str
) -> None:
    with pytest.raises(PixelsError) as caught:
        as_picture(Image.new(mode, size), [spec])
    assert str(caught.value).startswith(message)


def test_a_picture_for_a_batch_is_one_sample() -> None:
    assert as_picture(pixels(3), [BATCH])["image"].shape == (1, 4, 6, 3)


def test_a_black_picture_of_floats_is_a_picture() -> None:
    assert not as_picture(np.zeros((9, 9, 3)), [RGB])["image"].any()


def test_the_order_gray_turns_colors_gray_for_three_channels() -> None:
    spec = replace(RGB, pixels=Pixels("gray", (0.0,), (1.0,)))
    made = as_picture(np.full((4, 6, 3), (255, 0, 0), np.uint8), [spec])["image"]
    assert (made == 76).all()


def test_a_folder_of_class_folders_is_read_in_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ("cat/02.npy", "cat/01.npy", "dog/a/01.npy", ".cache/01.npy", "dog/notes.txt"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    found = [str(file.relative_to(tmp_path)) for file in expand_inputs([tmp_path])]
    assert found == ["cat/01.npy", "cat/02.npy", "dog/a/01.npy"]
