from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from input_files import BATCH, GRAY, RGB, VECTOR, error_of, pixels
from PIL import Image

from edge_core.contract.manifest import Pixels, TensorSpec
from edge_partition.inputs.describe_pixels import parse_pixels
from edge_partition.inputs.load_inputs import InputFileError, as_picture, load_input
from edge_partition.inputs.pixels import PixelsError

if TYPE_CHECKING:
    from pathlib import Path


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
        (np.zeros((9, 9, 3), np.int32), "The picture has the dtype int32"),
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
    with pytest.raises(InputFileError, match="holds several samples; expected one"):
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
