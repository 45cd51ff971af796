"""Convert a picture's values to the values of a model's input.

The functions are pure. :class:`~edge_core.contract.manifest.Pixels` gives the formula.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_core.contract.manifest import Pixels
from edge_core.errors import EdgePartitionError
from edge_partition.inputs.picture_layout import picture_layout

if TYPE_CHECKING:
    from edge_core.contract.manifest import Quantized, TensorSpec
    from edge_partition.inputs.picture_layout import PictureLayout

#: keras.applications.imagenet_utils, mode "torch": RGB, of values from 0 to 1.
_TORCH_MEAN, _TORCH_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: keras.applications.imagenet_utils, mode "caffe": BGR, of values from 0 to 255.
_CAFFE_MEAN = (103.939, 116.779, 123.68)

FULL_RANGE = Pixels("rgb", (0.0,), (1.0,))
MINUS_ONE_TO_ONE = Pixels("rgb", (127.5,), (127.5,), unit=127.5)
IMAGENET = Pixels(
    "rgb",
    tuple(255 * mean for mean in _TORCH_MEAN),
    tuple(255 * std for std in _TORCH_STD),
    unit=255.0,
)
IMAGENET_BGR = Pixels("bgr", _CAFFE_MEAN, (1.0,))

_LARGEST = 255


class PixelsError(EdgePartitionError):
    """A picture cannot be converted to an input, or the description of a conversion is invalid."""


def value_range(pixels: Pixels) -> tuple[float, float]:
    """Return the smallest and the largest value that a pixel can have after the conversion."""
    numbers = max(len(pixels.mean), len(pixels.std))
    pairs = list(zip(_spread(pixels.mean, numbers), _spread(pixels.std, numbers), strict=True))
    return (
        min(-mean / std for mean, std in pairs),
        max((_LARGEST - mean) / std for mean, std in pairs),
    )


def _spread(numbers: tuple[float, ...], count: int) -> tuple[float, ...]:
    return numbers if len(numbers) == count else numbers * count


def apply_pixels(values: np.ndarray[Any, Any], spec: TensorSpec) -> np.ndarray[Any, Any]:
    """Convert a picture that already has the input's size to an array for the input.

    Args:
        values: The picture's values from 0 to 255, of any dtype, shape ``(height, width,
            channels)``. The colors are gray, RGB or RGBA; :func:`source_channels` gives the number
            of channels.
        spec: The input. Without ``spec.pixels``, :func:`default_pixels` is applied.

    Returns:
        An array of the input's dtype and shape; a batch dimension has size 1. Floats are
        bit-identical to the results of Keras's ``preprocess_input``. For an input with a scale and
        zero point, the values are quantized. Integers are rounded half away from zero, like
        TFLite's ``QUANTIZE``, and clipped to the dtype's range.

    Raises:
        PixelsError: The input takes no pictures, the picture does not have the input's size, or the
            conversion is for another number of channels.
    """
    layout = picture_layout(spec)
    if layout is None:
        raise PixelsError(
            f"Input {spec.name} takes no picture: it is {spec.dtype}{list(spec.shape)}. Give an "
            "array of this dtype and shape."
        )
    pixels = spec.pixels or default_pixels(layout)
    expected = (layout.height, layout.width, source_channels(layout, pixels))
    if values.shape != expected:
        raise PixelsError(
            f"The picture for input {spec.name} has the shape {list(values.shape)}; expected "
            f"{list(expected)}."
        )
    if pixels.order == "bgr":
        values = np.concatenate([values[..., 2::-1], values[..., 3:]], axis=-1)
    count = max(len(pixels.mean), len(pixels.std))
    if count not in {1, values.shape[-1]}:
        raise PixelsError(
            f"Input {spec.name} has {values.shape[-1]} channels, but its pixel format has MEAN or "
            f"STD for {count} channels. Split the model again with --pixels MEAN/STD, where MEAN "
            "and STD are one number each."
        )
    real = _normalize(values.astype(np.float32), pixels)
    placed = real if spec.dtype.startswith("float") else _to_integers(real, spec, pixels)
    if pixels.order == "gray" and layout.channels > 1:
        placed = np.repeat(placed, layout.channels, axis=-1)
    if layout.channels_first:
        placed = np.moveaxis(placed, -1, 0)
    shape = (1, *spec.shape[1:]) if layout.batch else spec.shape
    return np.ascontiguousarray(placed.reshape(shape).astype(spec.dtype))


def default_pixels(layout: PictureLayout) -> Pixels:
    """Return the conversion for an input whose pixel format is not given.

    The values go from 0 to 255. The colors are gray for an input with one channel, and RGB for
    other inputs.
    """
    return replace(FULL_RANGE, order="gray" if layout.channels in {0, 1} else "rgb")


def source_channels(layout: PictureLayout, pixels: Pixels) -> int:
    """Return the number of channels that a picture must have before its conversion.

    The number is 1 for gray, 3 for RGB, and 4 for RGBA.
    """
    return 1 if pixels.order == "gray" else max(1, layout.channels)


def _normalize(values: np.ndarray[Any, Any], pixels: Pixels) -> np.ndarray[Any, Any]:
    # Keras divides Python numbers, which numpy casts to float32 after the division. The same steps
    # here give the same bits.
    unit = np.float32(pixels.unit)
    mean = (np.array(pixels.mean) / pixels.unit).astype(np.float32)
    std = (np.array(pixels.std) / pixels.unit).astype(np.float32)
    return (values / unit - mean) / std


def _to_integers(
    real: np.ndarray[Any, Any], spec: TensorSpec, pixels: Pixels
) -> np.ndarray[Any, Any]:
    if spec.quantized is not None:
        return quantize(real, spec.dtype, spec.quantized)
    limits = np.iinfo(spec.dtype)
    if limits.max == np.iinfo(np.int8).max and value_range(pixels)[1] > limits.max:
        # An int8 model without a scale takes pixels from -128 to 127.
        real = real - (limits.max + 1)
    return np.asarray(np.clip(_round_half_away(real), limits.min, limits.max))


def quantize(real: np.ndarray[Any, Any], dtype: str, quantized: Quantized) -> np.ndarray[Any, Any]:
    """Quantize real values to integers of ``dtype``.

    The values are rounded half away from zero, and clipped to the range of ``dtype``.
    """
    limits = np.iinfo(dtype)
    steps = _round_half_away(real.astype(np.float32) / np.float32(quantized.scale))
    clipped = np.clip(steps + quantized.zero_point, limits.min, limits.max)
    return np.asarray(clipped, dtype)


def _round_half_away(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Round to whole numbers, with halves rounded away from zero, like the C function ``round``.

    TFLite's reference kernel of ``QUANTIZE`` calls this C function.
    """
    wide = values.astype(np.float64)
    return np.asarray(np.copysign(np.floor(np.abs(wide) + 0.5), wide))
