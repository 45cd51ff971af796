"""How large a picture is, as it is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageOps

from edge_partition.inputs.load_inputs import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from pathlib import Path

_ORIENTATION = 0x0112
#: EXIF's orientations from here on lie on their side.
_FIRST_ON_ITS_SIDE = 5


def picture_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height in pixels, turned as EXIF says; nothing is decompressed."""
    width, height = image.size
    lies = image.getexif().get(_ORIENTATION, 1) >= _FIRST_ON_ITS_SIDE
    return (height, width) if lies else (width, height)


def file_picture_size(path: Path) -> tuple[int, int] | None:
    """As :func:`picture_size`; None where the file's name is no picture's."""
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return None
    with Image.open(path) as image:
        return picture_size(image)


def open_picture(path: Path) -> Image.Image:
    """Return a file's picture, turned as EXIF says."""
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image)
