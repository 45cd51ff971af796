"""Pictures of any size and kind -> values from 0 to 255 at the size that a model takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from edge_partition.inputs.pixels import (
    PictureLayout,
    PixelsError,
    default_pixels,
    picture_layout,
    source_channels,
)

if TYPE_CHECKING:
    from edge_core.contract.manifest import TensorSpec

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
#: A picture that decompresses to more is refused before it is decompressed.
MAX_PIXELS = 100_000_000
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
}
#: The gray of letterbox bars that YOLO models are trained with (ultralytics, LetterBox).
_BAR = 114
_LARGEST = 255


def resize_picture(image: Image.Image, spec: TensorSpec) -> np.ndarray[Any, Any]:
    """Return a picture at ``spec``'s size: turned as EXIF says, converted, fitted and resized.

    Returns:
        uint8, ``(height, width, channels)``, channels as
        :func:`~edge_partition.inputs.pixels.source_channels` says.

    Raises:
        PixelsError: ``spec`` takes no picture, or the picture has no 8 or 16 bits a channel.
    """
    layout = _layout(spec)
    if image.width * image.height > MAX_PIXELS:
        raise PixelsError(
            f"The picture has {image.width}x{image.height} pixels; expected {MAX_PIXELS:,} at most."
        )
    pixels = spec.pixels or default_pixels(layout)
    channels = source_channels(layout, pixels)
    turned = ImageOps.exif_transpose(image)
    picture = _eight_bits(turned).convert(_MODES[channels])
    size = (layout.width, layout.height)
    fitted = _fit(picture, size, pixels.fit, _FILTERS[pixels.resize])
    return np.asarray(fitted).reshape(layout.height, layout.width, channels)


def picture_of_array(array: np.ndarray[Any, Any], spec: TensorSpec) -> np.ndarray[Any, Any]:
    """Return an array as people have pictures, as :func:`resize_picture` does.

    Args:
        array: ``(height, width)`` or ``(height, width, 1|3|4)``, RGB; uint8, or floats from 0 to
            255, which are not rounded.
        spec: The input.

    Raises:
        PixelsError: Another shape or dtype, or floats of another range.
    """
    if array.ndim == 2:  # noqa: PLR2004
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in _MODES or 0 in array.shape:  # noqa: PLR2004
        raise PixelsError(
            f"An array of shape {list(array.shape)} is neither {spec.name}'s {list(spec.shape)} "
            "nor a picture; expected (height, width) or (height, width, 3)."
        )
    if array.dtype == np.uint8:
        return resize_picture(
            Image.fromarray(array[..., 0] if array.shape[2] == 1 else array), spec
        )
    if not np.issubdtype(array.dtype, np.floating):
        raise PixelsError(f"A picture of {array.dtype}; expected uint8, or floats from 0 to 255.")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= _LARGEST) or 0 < high <= 1:
        raise PixelsError(
            f"A picture of floats from {low:g} to {high:g}; expected 0 to 255, which becomes what "
            f"the model takes. An array of {spec.name}'s own shape {list(spec.shape)} and dtype "
            "goes in as it is."
        )
    return _resize_floats(array.astype(np.float32), spec)


def _layout(spec: TensorSpec) -> PictureLayout:
    layout = picture_layout(spec)
    if layout is None:
        raise PixelsError(
            f"A picture is no {spec.dtype}{list(spec.shape)}, which {spec.name} takes."
        )
    return layout


def _resize_floats(array: np.ndarray[Any, Any], spec: TensorSpec) -> np.ndarray[Any, Any]:
    """As :func:`resize_picture`, each channel as floats."""
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
    """Return ``picture`` at ``size`` (width, height)."""
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
    """Return the largest centred box of ``size`` that has the proportions of ``wanted``."""
    scale = min(size[0] / wanted[0], size[1] / wanted[1])
    width, height = wanted[0] * scale, wanted[1] * scale
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return left, top, min(left + width, size[0]), min(top + height, size[1])


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return ``image`` with 8 bits a channel; Pillow itself clips wider ones to white."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in {"I", "F"}:
        raise PixelsError(
            "The picture has 32 bits a pixel, of no fixed range; save it with 8 or 16, or as .npy."
        )
    return image
