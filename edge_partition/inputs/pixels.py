"""The conversion of a picture's values to a model's input: parsed, described and applied.

Pure: arrays in, arrays out. :class:`~edge_core.contract.manifest.Pixels` has the formula.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_core.contract.manifest import PIXEL_ORDERS, Pixels
from edge_core.errors import EdgePartitionError

if TYPE_CHECKING:
    from edge_core.contract.manifest import Quantized, TensorSpec

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

PIXELS_METAVAR = "0..255|0..1|-1..1|imagenet|imagenet-bgr|MEAN/STD[,rgb|bgr|gray]"
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})", re.IGNORECASE)
_NAMED = {"imagenet": IMAGENET, "imagenet-bgr": IMAGENET_BGR}
_CHANNELS = (1, 3, 4)
#: Smallest height and width of a tensor that is taken for a picture without metadata.
_LEAST_SIDE = 8
_LARGEST = 255
_SOURCES = {
    "application": "from the application",
    "metadata": "from the file's metadata",
    "quantization": "from the input's scale and zero point",
    "option": "from --pixels",
    "guess": "a guess",
}


class PixelsError(EdgePartitionError):
    """A picture cannot become an input, or a description of pixels is invalid."""


@dataclass(frozen=True)
class PictureLayout:
    """The layout of a picture in an input's tensor.

    Attributes:
        batch: Size of the batch dimension; 0 for a tensor without a batch.
        height: Height in pixels.
        width: Width in pixels.
        channels: 1, 3 or 4; 0 for a gray picture in a tensor without a channel dimension.
        channels_first: Whether the channel dimension comes before height and width.
    """

    batch: int
    height: int
    width: int
    channels: int
    channels_first: bool = False


def picture_layout(spec: TensorSpec) -> PictureLayout | None:
    """Return the layout of a picture in ``spec``'s tensor; None if the tensor fits no picture.

    The layouts are ``[batch, height, width, 1|3|4]`` and ``[batch, 1|3|4, height, width]``, both
    also without the batch, and gray ``[height, width]`` and ``[batch, height, width]``. A gray
    picture must be square if ``spec.pixels`` is None: other such tensors are sequences.
    """
    if spec.dtype == "bool" or spec.dtype.startswith("complex"):
        return None
    shape = spec.shape
    if len(shape) == 4:  # noqa: PLR2004 -- batch, height, width, channels
        return _with_channels(shape[0], shape[1:])
    is_picture = spec.pixels is not None
    if spec.dtype in {"int32", "int64", "uint32", "uint64"} and not is_picture:
        return None  # ids
    if len(shape) == 3 and shape[0] > 1:  # noqa: PLR2004
        whole = _with_channels(0, shape)
        if whole is not None and min(whole.height, whole.width) >= _LEAST_SIDE:
            return whole
    if len(shape) in {2, 3}:
        height, width = shape[-2:]
        if min(height, width) >= (2 if is_picture else _LEAST_SIDE) and (
            is_picture or height == width
        ):
            return PictureLayout(shape[0] if len(shape) > 2 else 0, height, width, 0)  # noqa: PLR2004
    return None


def _with_channels(batch: int, shape: tuple[int, ...]) -> PictureLayout | None:
    if shape[2] in _CHANNELS:
        layout = PictureLayout(batch, shape[0], shape[1], shape[2])
    elif shape[0] in _CHANNELS:
        layout = PictureLayout(batch, shape[1], shape[2], shape[0], channels_first=True)
    else:
        return None
    return layout if min(layout.height, layout.width) > 1 else None


def parse_pixels(text: str, *, channels: int = 3) -> Pixels:
    """Parse a person's description of pixels, in the form of :data:`PIXELS_METAVAR`.

    Args:
        text: The description, such as ``-1..1``, ``0..1,bgr``, ``imagenet`` or
            ``127.5/127.5 gray``. MEAN and STD are one number, or one number for each channel in
            the given order.
        channels: The input's number of channels; 0 and 1 are gray.

    Raises:
        PixelsError: The text cannot be parsed, or does not fit the number of channels.
    """
    words = text.lower().split()
    values, order = (words[0] if words else ""), (words[1] if len(words) == 2 else "")  # noqa: PLR2004
    head, _, tail = values.rpartition(",")
    if head and tail in PIXEL_ORDERS and not order:
        values, order = head, tail
    pixels = _parse_values(values)
    if pixels is None or len(words) > 2 or order not in {"", *PIXEL_ORDERS}:  # noqa: PLR2004
        raise PixelsError(
            f"--pixels {text!r} is invalid; expected one of {PIXELS_METAVAR}, such as -1..1 or "
            "127.5/127.5,bgr."
        )
    gray = channels in {0, 1}
    if values not in _NAMED:
        pixels = replace(pixels, order=order or ("gray" if gray else "rgb"))
    elif order not in {"", pixels.order}:
        raise PixelsError(
            f"--pixels {text!r}: {values} has the order {pixels.order.upper()}; give MEAN/STD for "
            "another order."
        )
    if gray and pixels.order != "gray":
        raise PixelsError(
            f"--pixels {text!r} is for three channels, but the model's input has one channel; give "
            "a range such as 0..1, or one MEAN/STD."
        )
    numbers = max(len(pixels.mean), len(pixels.std))
    if numbers > 1 and (pixels.order == "gray" or channels > numbers):
        raise PixelsError(
            f"--pixels {text!r} has {numbers} numbers, but the input has {channels or 1} channels; "
            "give one MEAN/STD for all channels."
        )
    return pixels


def _parse_values(text: str) -> Pixels | None:
    """Return the pixels of a description without its order; None if it cannot be parsed."""
    match = _RANGE.fullmatch(text)
    if text in _NAMED:
        found: Pixels | None = replace(_NAMED[text], said_by="option")
    elif match:
        found = _of_range(*map(float, match.groups()))
    else:
        found = _of_mean_and_std(text)
    return found


def _of_range(low: float, high: float) -> Pixels | None:
    if not low < high < math.inf:
        return None
    if (low, high) == (-1, 1):
        return replace(MINUS_ONE_TO_ONE, said_by="option")
    std = _LARGEST / (high - low)
    return Pixels("rgb", (0.0 - low * std,), (std,), said_by="option")


def _of_mean_and_std(text: str) -> Pixels | None:
    mean, slash, std_text = text.partition("/")
    try:
        means, stds = (tuple(map(float, part.split(","))) for part in (mean, std_text))
    except ValueError:
        return None
    fits = {len(means), len(stds)} <= {1, 3} and all(map(math.isfinite, (*means, *stds)))
    if not slash or not fits or min(stds) <= 0:
        return None
    return Pixels("rgb", means, stds, said_by="option")


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


def describe_pixels(pixels: Pixels) -> str:
    """Return a description of the conversion and its source, for people.

    For example ``-1..1 RGB (from the application)``.
    """
    return f"{_describe_values(pixels)} ({_SOURCES[pixels.said_by]})"


def _describe_values(pixels: Pixels) -> str:
    order = pixels.order if pixels.order == "gray" else pixels.order.upper()
    same = (pixels.order, pixels.mean, pixels.std)
    if same == (IMAGENET.order, IMAGENET.mean, IMAGENET.std):
        return "RGB normalized with ImageNet's mean and standard deviation"
    if same == (IMAGENET_BGR.order, IMAGENET_BGR.mean, IMAGENET_BGR.std):
        return "BGR minus ImageNet's mean"
    if len(pixels.mean) == len(pixels.std) == 1:
        ends = [f"{round(value, 6) + 0.0:g}" for value in value_range(pixels)]
        if max(map(len, ends)) <= 4:  # noqa: PLR2004 -- such as 0, 255, -128, 0.5
            return f"{ends[0]}..{ends[1]} {order}"
    means, stds = (
        ", ".join(f"{number:g}" for number in numbers) for numbers in (pixels.mean, pixels.std)
    )
    return f"(value - {means}) / {stds} {order}"


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
    if max(len(pixels.mean), len(pixels.std)) not in {1, values.shape[-1]}:
        raise PixelsError(
            f"Input {spec.name} has {values.shape[-1]} channels, but its pixels have "
            f"{len(pixels.mean)} means; give one MEAN/STD with --pixels."
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
