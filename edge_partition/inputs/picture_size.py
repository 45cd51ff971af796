"""Open pictures and find out their sizes, as they are after the rotation that EXIF states."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageOps

from edge_partition.inputs.load_inputs import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from pathlib import Path

_ORIENTATION = 0x0112
#: EXIF orientations from 5 to 8 swap width and height.
_FIRST_SWAPPED = 5


def picture_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height in pixels, after EXIF rotation, without decompressing the image."""
    width, height = image.size
    is_swapped = image.getexif().get(_ORIENTATION, 1) >= _FIRST_SWAPPED
    return (height, width) if is_swapped else (width, height)


def file_picture_size(path: Path) -> tuple[int, int] | None:
    """Return a picture file's width and height in pixels, after EXIF rotation.

    The result is None if the file's suffix is not the suffix of a picture format.

    Raises:
        OSError: The file cannot be read as a picture.
    """
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return None
    with Image.open(path) as image:
        return picture_size(image)


def open_picture(path: Path) -> Image.Image:
    """Open a picture file, and return the picture rotated according to its EXIF orientation.

    Raises:
        OSError: The file cannot be read as a picture.
    """
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image)
