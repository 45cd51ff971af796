"""Resize pictures of any size and mode to a model's input size, as values from 0 to 255."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from edge_partition.inputs.picture_layout import PictureLayout, picture_layout
from edge_partition.inputs.pixels import PixelsError, default_pixels, source_channels

if TYPE_CHECKING:
    from edge_core.contract.manifest import TensorSpec

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
#: Largest number of pixels; a larger picture is refused before decompression.
MAX_PIXELS = 100_000_000
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
}
#: Gray value of letterbox bars, as in the training of YOLO models (ultralytics, LetterBox).
_BAR = 114
_LARGEST = 255


def resize_picture(image: Image.Image, spec: TensorSpec) -> np.ndarray[Any, Any]:
    """Resize a picture to the size that an input takes.

    The picture is first rotated according to its EXIF orientation, and converted to the input's
    channels.

    Args:
        image: The picture.
        spec: The input.

    Returns:
        uint8, shape ``(height, width, channels)``. The number of channels is that of
        :func:`~edge_partition.inputs.pixels.source_channels`.

    Raises:
        PixelsError: The input takes no pictures, the picture has too many pixels, or the number of
            bits per channel is neither 8 nor 16.
    """
    layout = _layout(spec)
    if image.width * image.height > MAX_PIXELS:
        raise PixelsError(
            f"The picture has {image.width}x{image.height} pixels; expected at most "
            f"{MAX_PIXELS:,}. Give a smaller picture."
        )
    pixels = spec.pixels or default_pixels(layout)
    channels = source_channels(layout, pixels)
    turned = ImageOps.exif_transpose(image)
    picture = _eight_bits(turned).convert(_MODES[channels])
    size = (layout.width, layout.height)
    fitted = _fit(picture, size, pixels.fit, _FILTERS[pixels.resize])
    return np.asarray(fitted).reshape(layout.height, layout.width, channels)


def picture_of_array(array: np.ndarray[Any, Any], spec: TensorSpec) -> np.ndarray[Any, Any]:
    """Resize a picture that is given as an array, as :func:`resize_picture` does for an image.

    Args:
        array: The picture, of shape ``(height, width)`` or ``(height, width, 1|3|4)``. The values
            are uint8, or floats from 0 to 255. Colors are in the order RGB or RGBA.
        spec: The input.

    Returns:
        Shape ``(height, width, channels)``. For a uint8 array, the result is uint8. For floats, the
        result is float32, and its values are not rounded.

    Raises:
        PixelsError: The input takes no pictures, or the array has a wrong shape, dtype or range.
    """
    if array.ndim == 2:  # noqa: PLR2004
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in _MODES or 0 in array.shape:  # noqa: PLR2004
        raise PixelsError(
            f"The array for input {spec.name} has the shape {list(array.shape)}; expected "
            f"{list(spec.shape)}, or a picture (height, width) or (height, width, 3)."
        )
    if array.dtype == np.uint8:
        return resize_picture(
            Image.fromarray(array[..., 0] if array.shape[2] == 1 else array), spec
        )
    if not np.issubdtype(array.dtype, np.floating):
        raise PixelsError(
            f"The picture has the dtype {array.dtype}; expected uint8, or floats from 0 to 255."
        )
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= _LARGEST) or 0 < high <= 1:
        raise PixelsError(
            f"The picture has floats from {low:g} to {high:g}; expected 0 to 255. To give "
            f"converted values, give an array of {spec.dtype}{list(spec.shape)} for input "
            f"{spec.name}."
        )
    return _resize_floats(array.astype(np.float32), spec)


def _layout(spec: TensorSpec) -> PictureLayout:
    layout = picture_layout(spec)
    if layout is None:
        raise PixelsError(
            f"Input {spec.name} takes no picture: it is {spec.dtype}{list(spec.shape)}. Give an "
            "array of this dtype and shape."
        )
    return layout


def _resize_floats(array: np.ndarray[Any, Any], spec: TensorSpec) -> np.ndarray[Any, Any]:
    """Resize a float32 picture channel by channel, as :func:`resize_picture` does for an image."""
    layout = _layout(spec)
    pixels = spec.pixels or default_pixels(layout)
    channels = source_channels(layout, pixels)
    if channels == 1 and array.shape[2] > 1:
        # Pillow's convert("L"): ITU-R 601-2 luma.
        array = array[..., :3] @ np.array([[0.299], [0.587], [0.114]], np.float32)
    elif array.shape[2] == 1:
        array = np.repeat(array, min(channels, 3), axis=2)
    if channels == 4 and array.shape[2] == 3:  # noqa: PLR2004
        array = np.dstack([array, np.full(array.shape[:2], _LARGEST, np.float32)])
    size, method = (layout.width, layout.height), _FILTERS[pixels.resize]
    planes = [
        np.asarray(_fit(Image.fromarray(array[..., place]), size, pixels.fit, method))
        for place in range(channels)
    ]
    return np.stack(planes, axis=-1)


def _fit(
    picture: Image.Image, size: tuple[int, int], fit: str, method: Image.Resampling
) -> Image.Image:
    """Return ``picture`` resized to ``size``.

    Args:
        picture: The picture.
        size: The new width and height in pixels.
        fit: How the picture is fitted if its aspect ratio is not that of ``size``, one of
            :data:`~edge_core.contract.manifest.PIXEL_FITS`.
        method: Pillow's resampling filter.
    """
    if fit == "crop":
        return picture.resize(size, method, box=_largest_middle(picture.size, size))
    if fit == "letterbox":
        scale = min(size[0] / picture.width, size[1] / picture.height)
        inner = [max(1, round(side * scale)) for side in picture.size]
        bar = _BAR if picture.mode in {"L", "F"} else (_BAR,) * 3 + (_LARGEST,)
        whole = Image.new(
            picture.mode, size, bar if isinstance(bar, int) else bar[: len(picture.mode)]
        )
        place = ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2)
        whole.paste(picture.resize((inner[0], inner[1]), method), place)
        return whole
    return picture if picture.size == size else picture.resize(size, method)


def _largest_middle(
    size: tuple[int, int], wanted: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Return the largest centered area of a picture that has the aspect ratio of ``wanted``.

    Args:
        size: The picture's width and height in pixels.
        wanted: A width and a height with the wanted aspect ratio.

    Returns:
        The area's left, top, right and bottom edges, in pixels.
    """
    scale = min(size[0] / wanted[0], size[1] / wanted[1])
    width, height = wanted[0] * scale, wanted[1] * scale
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return left, top, min(left + width, size[0]), min(top + height, size[1])


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return ``image`` with 8 bits per channel.

    Pillow's own conversion from 16 bits would clip all values above 255 to white.
    """
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in {"I", "F"}:
        raise PixelsError(
            "The picture has 32 bits per channel; expected 8 or 16. Save the picture with 8 or 16 "
            "bits, or as .npy."
        )
    return image
