"""Parse and write descriptions of pixel conversions, such as ``-1..1 RGB``.

The functions are pure.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace

from edge_core.contract.manifest import PIXEL_ORDERS, Pixels
from edge_partition.inputs.pixels import (
    IMAGENET,
    IMAGENET_BGR,
    MINUS_ONE_TO_ONE,
    PixelsError,
    value_range,
)

PIXELS_METAVAR = "0..255|0..1|-1..1|imagenet|imagenet-bgr|MEAN/STD[,rgb|bgr|gray]"
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})", re.IGNORECASE)
_NAMED = {"imagenet": IMAGENET, "imagenet-bgr": IMAGENET_BGR}
_LARGEST = 255
_SOURCES = {
    "application": "from the application",
    "metadata": "from the file's metadata",
    "quantization": "from the input's scale and zero point",
    "option": "from --pixels",
    "guess": "a guess",
}


def parse_pixels(text: str, *, channels: int = 3) -> Pixels:
    """Parse the value of the option ``--pixels``, in the form of :data:`PIXELS_METAVAR`.

    Args:
        text: The value, such as ``-1..1``, ``0..1,bgr``, ``imagenet`` or ``127.5/127.5 gray``.
            ``MEAN`` is one number, or three numbers separated by commas, one for each channel in
            the given color order. The same holds for ``STD``.
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
            f"--pixels {text!r}: {values} has the order {pixels.order.upper()}. Leave the "
            "order out, or give numbers as MEAN/STD,ORDER."
        )
    if gray and pixels.order != "gray":
        raise PixelsError(
            f"--pixels {text!r} is for three channels, but the model's input has one channel. Give "
            "a range such as 0..1, or one number for MEAN and one for STD."
        )
    numbers = max(len(pixels.mean), len(pixels.std))
    if numbers > 1 and (pixels.order == "gray" or channels > numbers):
        raise PixelsError(
            f"--pixels {text!r} has {numbers} numbers for MEAN or STD, which do not fit a "
            f"{channels or 1}-channel input in the order {pixels.order}. Give one number for MEAN "
            "and one for STD."
        )
    return pixels


def _parse_values(text: str) -> Pixels | None:
    """Parse a description that contains no color order; return None if it cannot be parsed."""
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


def describe_pixels(pixels: Pixels) -> str:
    """Return a description of a pixel conversion and its source, for the user.

    For example, the description is ``-1..1 RGB (from the application)``.
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
