"""The conversion of a picture's values to a model's input.

Pure: arrays in, arrays out. :class:`~edge_core.contract.manifest.Pixels` gives the formula.
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
    """A picture cannot become an input, or a description of pixels is invalid."""


def value_range(pixels: Pixels) -> tuple[float, float]:
    """Return the smallest and the largest value of a converted picture."""
    numbers = max(len(pixels.mean), len(pixels.std))
    pairs = list(zip(_spread(pixels.mean, numbers), _spread(pixels.std, numbers), strict=True))
    return (
        min(-mean / std for mean, std in pairs),
        max((_LARGEST - mean) / std for mean, std in pairs),
    )


def _spread(numbers: tuple[float, ...], count: int) -> tuple[float, ...]:
    return numbers if len(numbers) == count else numbers * count


def apply_pixels(values: np.ndarray[Any, Any], spec: TensorSpec) -> np.ndarray[Any, Any]:
    """Convert a picture of the input's size to the input.

    Args:
        values: Picture of any dtype, from 0 to 255, shape ``(height, width, channels)``: gray, RGB
            or RGBA, with :func:`source_channels` channels.
        spec: The input; without ``pixels``, values stay from 0 to 255.

    Returns:
        An array of the input's dtype and shape, with a batch of one if the input has a batch.
        Floats equal the results of Keras's ``preprocess_input`` to the last bit. Integers are
        quantized by the input's scale and zero point, rounded half away from zero like TFLite's
        ``QUANTIZE``, and clipped.

    Raises:
        PixelsError: The input takes no pictures, or pictures of another size.
    """
    layout = picture_layout(spec)
    if layout is None:
        raise PixelsError(
            f"Input {spec.name} takes no picture: it is {spec.dtype}{list(spec.shape)}."
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
            f"Input {spec.name} has {values.shape[-1]} channels, but the conversion of its pixels "
            f"has MEAN/STD for {count} channels; give one MEAN/STD for all channels with --pixels."
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
    """Return the default conversion: values from 0 to 255, RGB or gray."""
    return replace(FULL_RANGE, order="gray" if layout.channels in {0, 1} else "rgb")


def source_channels(layout: PictureLayout, pixels: Pixels) -> int:
    """Return the number of channels to open a picture with: gray 1, RGB 3, RGBA 4."""
    return 1 if pixels.order == "gray" else max(1, layout.channels)


def _normalize(values: np.ndarray[Any, Any], pixels: Pixels) -> np.ndarray[Any, Any]:
    # Division in float64, then a cast to float32, as numpy treats Keras's Python numbers.
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
        # An int8 model without a scale takes pixels shifted to the signed range.
        real = real - (limits.max + 1)
    return np.asarray(np.clip(_round_half_away(real), limits.min, limits.max))


def quantize(real: np.ndarray[Any, Any], dtype: str, quantized: Quantized) -> np.ndarray[Any, Any]:
    """Quantize real values to integers of ``dtype``, rounded half away from zero and clipped."""
    limits = np.iinfo(dtype)
    steps = _round_half_away(real.astype(np.float32) / np.float32(quantized.scale))
    clipped = np.clip(steps + quantized.zero_point, limits.min, limits.max)
    return np.asarray(clipped, dtype)


def _round_half_away(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Round like C's ``round``, which TFLite's reference ``QUANTIZE`` calls."""
    wide = values.astype(np.float64)
    return np.asarray(np.copysign(np.floor(np.abs(wide) + 0.5), wide))
