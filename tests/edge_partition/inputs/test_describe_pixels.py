from __future__ import annotations

from dataclasses import replace

import pytest

from edge_core.contract.manifest import PIXEL_SOURCES
from edge_partition.inputs.describe_pixels import describe_pixels, parse_pixels
from edge_partition.inputs.pixels import FULL_RANGE, PixelsError, value_range


@pytest.mark.parametrize(
    ("text", "channels", "order", "black", "white"),
    [
        ("0..255", 3, "rgb", 0, 255),
        ("0..1", 3, "rgb", 0, 1),
        ("-1..1", 3, "rgb", -1, 1),
        ("-1..1,bgr", 3, "bgr", -1, 1),
        ("-1..1 BGR", 3, "bgr", -1, 1),
        ("-0.5..0.5", 3, "rgb", -0.5, 0.5),
        ("0..16", 1, "gray", 0, 16),
        ("0..1", 0, "gray", 0, 1),
        ("0..1,gray", 3, "gray", 0, 1),
        ("127.5/127.5", 3, "rgb", -1, 1),
        ("127.5/127.5,gray", 1, "gray", -1, 1),
        ("128/64", 4, "rgb", -2, 127 / 64),
        ("0,0,0/255,255,255", 3, "rgb", 0, 1),
        ("imagenet", 3, "rgb", -2.1179039, 2.64),
        ("imagenet rgb", 3, "rgb", -2.1179039, 2.64),
        ("imagenet-bgr", 3, "bgr", -123.68, 151.061),
    ],
)
def test_descriptions_of_pixels_are_parsed(
    text: str, channels: int, order: str, black: float, white: float
) -> None:
    pixels = parse_pixels(text, channels=channels)
    assert (pixels.order, pixels.said_by) == (order, "option")
    assert value_range(pixels) == pytest.approx((black, white), abs=1e-6)


@pytest.mark.parametrize(
    "text",
    ["", "0..", "1..0", "0..0", "0..1..2", "-1..1,hsv", "-1..1,rgb,bgr", "127.5", "127.5/0", "1/-1",
     "1,2/3", "nan/1", "1,2,3,4/1", "imagenet/1", "0..1 rgb x", "0..1,rgb bgr", "imagenet,bgr"],
)  # fmt: skip
def test_an_invalid_description_is_refused_with_the_valid_forms(text: str) -> None:
    with pytest.raises(PixelsError, match="--pixels") as caught:
        parse_pixels(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "channels"),
    [("imagenet", 1), ("imagenet-bgr", 0), ("0..1,rgb", 1), ("1,2,3/1,1,1", 1),
     ("1,2,3/1,1,1", 4), ("1,2,3/1", 0), ("1,2,3/1,gray", 3)],
)  # fmt: skip
def test_a_description_for_other_channels_is_refused(text: str, channels: int) -> None:
    with pytest.raises(PixelsError, match="channel"):
        parse_pixels(text, channels=channels)


@pytest.mark.parametrize(
    ("text", "said_by", "words"),
    [
        ("-1..1", "application", "-1..1 RGB (from the application)"),
        ("0..255,bgr", "option", "0..255 BGR (from --pixels)"),
        ("0..1,gray", "metadata", "0..1 gray (from the file's metadata)"),
        (
            "imagenet",
            "guess",
            "RGB normalized with ImageNet's mean and standard deviation (a guess)",
        ),
        ("imagenet-bgr", "application", "BGR minus ImageNet's mean (from the application)"),
        (
            "127/128",
            "quantization",
            "(value - 127) / 128 RGB (from the input's scale and zero point)",
        ),
        ("1,2,3/4,5,6", "option", "(value - 1, 2, 3) / 4, 5, 6 RGB (from --pixels)"),
    ],
)
def test_pixels_are_described_in_words(text: str, said_by: str, words: str) -> None:
    assert describe_pixels(replace(parse_pixels(text), said_by=said_by)) == words


def test_every_source_of_pixels_has_a_description() -> None:
    for said_by in PIXEL_SOURCES:
        assert describe_pixels(replace(FULL_RANGE, said_by=said_by)).startswith("0..255 RGB (")
