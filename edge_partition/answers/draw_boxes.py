"""Draw boxes, with labels and scores, into the picture in which the objects were found."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from PIL import Image, ImageColor, ImageDraw, ImageFont

from edge_partition.inputs.picture_size import open_picture

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edge_partition.answers.boxes import Box

#: A line's width and a letter's height, each as a fraction of the picture's shorter side and as a
#: lower bound in pixels.
_LINE, _LEAST_LINE = 1 / 200, 1
_LETTER, _LEAST_LETTER = 1 / 30, 10
#: Degrees between the hues of successive classes: the golden angle, which keeps all hues apart.
_HUE_STEP = 137.508
#: Gray value below which the background of a caption is dark; its text is then white.
_DARK_BELOW = 140
_JPEG_QUALITY = 92
#: Fonts for captions with letters that Pillow's own font lacks.
_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial.ttf")


def draw_boxes(picture: Image.Image, boxes: Sequence[Box]) -> Image.Image:
    """Return an RGB copy of ``picture`` with the boxes, labels and scores drawn in.

    A class has the same color in every picture. The box with the highest score is drawn last, so
    that no other box covers it.

    Args:
        picture: The picture.
        boxes: The boxes, highest score first.
    """
    drawn = picture.convert("RGB")
    pen = ImageDraw.Draw(drawn)
    side = min(drawn.size)
    line = max(_LEAST_LINE, round(side * _LINE))
    letter = max(_LEAST_LETTER, round(side * _LETTER))
    font = _font(letter, is_ascii=all(box.label.isascii() for box in boxes))
    for box in reversed(boxes):
        color = _color(box.index)
        pen.rectangle((box.left, box.top, max(box.left, box.right - 1),
                       max(box.top, box.bottom - 1)), outline=color, width=line)  # fmt: skip
        _draw_caption(pen, box, drawn.size, color, font)
    return drawn


def _draw_caption(
    pen: ImageDraw.ImageDraw,
    box: Box,
    size: tuple[int, int],
    color: tuple[int, ...],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """Write a box's label and score above the box, or inside the box if there is no space above."""
    text = box.caption
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    margin = max(1, round((bottom - top) / 5))
    width, height = right - left + 2 * margin, bottom - top + 2 * margin
    if width > size[0] or height > size[1] / 4:
        return  # The caption would hide too much of the picture.
    x = max(0.0, min(box.left, size[0] - width))
    y = box.top - height if box.top >= height else min(box.top, size[1] - height)
    pen.rectangle((x, y, x + width - 1, y + height - 1), fill=color)
    is_dark = ImageColor.getcolor(f"rgb{color}", "L") < _DARK_BELOW  # type: ignore[operator]
    ink = "white" if is_dark else "black"
    pen.text((x + margin - left, y + margin - top), text, fill=ink, font=font)


def _font(letter: int, *, is_ascii: bool) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    for name in () if is_ascii else _FONTS:
        try:
            return ImageFont.truetype(name, letter)
        except OSError:
            continue
    return ImageFont.load_default(letter)


def _color(index: int) -> tuple[int, ...]:
    hue = index * _HUE_STEP % 360
    color = ImageColor.getrgb(f"hsv({hue:.0f},90%,90%)")
    return tuple(color[:3])


def draw_file(path: Path, boxes: Sequence[Box], suffix: str) -> bytes:
    """Draw boxes into a copy of a picture, and return the bytes of a picture file.

    Args:
        path: The picture's file.
        boxes: The boxes, highest score first.
        suffix: Selects the format: JPEG for ``.jpg`` and ``.jpeg``, PNG for any other suffix.
    """
    buffer = io.BytesIO()
    drawn = draw_boxes(open_picture(path), boxes)
    if suffix.lower() in {".jpg", ".jpeg"}:
        drawn.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    else:
        drawn.save(buffer, "PNG")
    return buffer.getvalue()
