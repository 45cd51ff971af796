"""Boxes placed in the picture's own pixels, and drawn there."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from edge_core.contract.manifest import Pixels, TensorSpec
from edge_partition.answers.boxes import Box, in_picture
from edge_partition.answers.draw_boxes import draw_boxes, draw_file
from edge_partition.inputs.picture_size import file_picture_size, open_picture
from edge_partition.inputs.resize_picture import resize_picture

if TYPE_CHECKING:
    from pathlib import Path

BLACK = (0, 0, 0)
WHITE = (255, 255, 255)


@pytest.mark.parametrize("fit", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize("size", [(300, 200), (200, 300), (257, 100), (97, 333), (64, 96)])
@pytest.mark.parametrize("input_size", [(96, 96), (64, 96), (101, 70)])
def test_a_box_in_the_input_maps_back_to_the_picture(
    fit: str, size: tuple[int, int], input_size: tuple[int, int]
) -> None:
    """An object found in the resized picture is placed where it was painted, to one pixel."""
    width, height = size
    # Around the middle, so that a crop keeps it.
    painted = (width * 0.4, height * 0.45, width * 0.55, height * 0.6)
    box = tuple(map(round, painted))
    picture = Image.new("RGB", size, BLACK)
    picture.paste((255, 0, 0), box)
    spec = TensorSpec(
        "image",
        "float32",
        (1, input_size[1], input_size[0], 3),
        pixels=Pixels("rgb", (0.0,), (1.0,), resize="nearest", fit=fit),
    )
    red = resize_picture(picture, spec)[..., 0] == 255
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    parts = np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], np.float64)
    parts /= np.tile(input_size, 2)
    (found,) = in_picture(parts, input_size, size, fit)
    # One pixel of the input, in pixels of the picture.
    step = max(size[0] / input_size[0], size[1] / input_size[1], 1)
    assert found == pytest.approx(box, abs=1.01 * step)
    if size[0] * input_size[1] != size[1] * input_size[0] and fit != "stretch":
        # The comparison could fail.
        other = "letterbox" if fit == "crop" else "crop"
        (wrong,) = in_picture(parts, input_size, size, other)
        assert np.abs(wrong - found).max() > 1


def color_at(picture: Image.Image, x: int, y: int) -> tuple[int, ...]:
    color = picture.getpixel((x, y))
    assert isinstance(color, tuple)
    return color


def test_boxes_are_outlined_and_the_rest_is_unchanged() -> None:
    picture = Image.new("RGB", (400, 300), WHITE)
    boxes = [Box("cat", 1, 0.9, 50, 60, 200, 250), Box("dog", 2, 0.8, 210, 60, 390, 250)]
    drawn = draw_boxes(picture, boxes)
    assert picture.getcolors() == [(400 * 300, WHITE)]
    cat, dog = color_at(drawn, 50, 150), color_at(drawn, 210, 150)
    assert len({cat, dog, WHITE}) == 3
    for x, y in [(50, 249), (199, 150), (100, 249)]:
        assert color_at(drawn, x, y) == cat
    for x, y in [(100, 150), (205, 150), (49, 150), (200, 150), (100, 250), (398, 298)]:
        assert color_at(drawn, x, y) == WHITE
    # The caption stands on the box, in its color with the letters in another.
    caption = np.asarray(drawn)[45:60, 50:100].reshape(-1, 3)
    assert (caption == cat).all(axis=1).mean() > 0.3
    assert not (caption == cat).all()
    # A class has its color in every picture.
    assert color_at(draw_boxes(picture, [boxes[1]]), 210, 150) == dog


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_boxes_are_drawn_into_pictures_of_every_mode_and_size(mode: str) -> None:
    for size in [(1, 1), (5, 300), (300, 5)]:
        boxes = [
            Box("größe \x1b[2J 猫", 3, 0.5, 0, 0, *size),
            Box("point", 4, 0.5, size[0], size[1], size[0], size[1]),
        ]
        drawn = draw_boxes(Image.new(mode, size), boxes)
        assert (drawn.mode, drawn.size) == ("RGB", size)


def test_a_rotated_picture_is_drawn_upright(tmp_path: Path) -> None:
    file = tmp_path / "side.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20), WHITE).save(file, exif=exif)
    assert file_picture_size(file) == (20, 40)
    assert open_picture(file).size == (20, 40)
    for suffix, kind in ((".jpg", "JPEG"), (".png", "PNG")):
        with Image.open(io.BytesIO(draw_file(file, [], suffix))) as drawn:
            assert (drawn.size, drawn.format) == ((20, 40), kind)
            assert not drawn.getexif().get(0x0112)
    assert file_picture_size(tmp_path / "stack.npy") is None
