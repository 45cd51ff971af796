"""Convert arrays to an input's shape and dtype, and recognize pictures among them.

The functions are pure, and do not need Pillow. Arrays from files
(:mod:`~edge_partition.inputs.load_inputs`) and arrays from programs
(:mod:`~edge_partition.inputs.take_inputs`) are treated the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edge_core.errors import PayloadError
from edge_partition.inputs.picture_layout import picture_layout
from edge_partition.inputs.pixels import quantize, value_range

if TYPE_CHECKING:
    from edge_core.contract.manifest import TensorSpec
    from edge_partition.inputs.picture_layout import PictureLayout

_CHANNELS = (1, 3, 4)
_LARGEST = 255
#: Least difference between the ends of a range that resembles the range 0 to 255 of bytes.
_WIDE = 100.0
#: Factor on the upper end of a range, to allow for rounding.
_SLACK = 1.05


class ArrayError(PayloadError):
    """An array does not fit an input.

    Attributes:
        spec: The input.
        found: The array's dtype and shape, such as ``float64[3, 2]``.
        rest: The second half of the message: the expected dtype and shape, and advice.
    """

    def __init__(self, array: np.ndarray[Any, Any], spec: TensorSpec, hint: str = "") -> None:
        self.spec = spec
        self.found = f"{array.dtype}{list(array.shape)}"
        self.rest = f"expected {spec.dtype}{list(spec.shape)}.{hint and ' ' + hint}"
        super().__init__(f"The array for input {spec.name} is {self.found}; {self.rest}")


def fit_array(array: np.ndarray[Any, Any], spec: TensorSpec) -> np.ndarray[Any, Any]:
    """Convert an array to the shape and dtype of an input; an array that fits is not changed.

    The array's shape may have more or fewer 1s at the start and at the end than the input's shape.
    The following dtypes are converted:

    - Floats of any width and byte order are converted to the input's float dtype. If the input is
      quantized, they are quantized.
    - Integers for a float input are converted to floats. If the input takes pictures, integers are
      refused, because their meaning is unclear.
    - Integers for an integer input that is not quantized are converted if every value fits.

    Raises:
        ArrayError: The shapes differ in more than such 1s, or the dtype is not converted.
    """
    target = np.dtype(spec.dtype)
    if array.shape == spec.shape and array.dtype == target:
        return array
    if not _same_but_ones(array.shape, spec.shape):
        raise ArrayError(array, spec)
    shaped = array.reshape(spec.shape)
    kinds = array.dtype.kind, target.kind
    if array.dtype.newbyteorder("=") == target:
        return shaped.astype(target)
    if kinds[0] == "f" and spec.quantized is not None:
        return quantize(shaped, spec.dtype, spec.quantized)
    if kinds[0] in "fiub" and kinds[1] == "f" and (kinds[0] == "f" or spec.pixels is None):
        return _as_floats(shaped, array, spec)
    if kinds[0] in "iub" and kinds[1] in "iub" and spec.quantized is None:
        return _as_integers(shaped, array, spec)
    raise ArrayError(array, spec, _hint(kinds[0], spec))


def _as_floats(
    shaped: np.ndarray[Any, Any], array: np.ndarray[Any, Any], spec: TensorSpec
) -> np.ndarray[Any, Any]:
    with np.errstate(over="ignore"):
        cast = shaped.astype(spec.dtype)
    if (np.isinf(cast) & np.isfinite(shaped)).any():
        largest = float(np.abs(shaped[np.isfinite(shaped)].astype(np.float64)).max())
        raise ArrayError(
            array,
            spec,
            f"A value of {largest:g} is too large for {spec.dtype}. Give smaller values.",
        )
    return cast


def _as_integers(
    shaped: np.ndarray[Any, Any], array: np.ndarray[Any, Any], spec: TensorSpec
) -> np.ndarray[Any, Any]:
    low, high = int(shaped.min()), int(shaped.max())
    if spec.dtype == "bool":
        least, most = 0, 1
    else:
        limits = np.iinfo(spec.dtype)
        least, most = int(limits.min), int(limits.max)
    if low < least or high > most:
        raise ArrayError(
            array,
            spec,
            f"The values go from {low} to {high}; the range of {spec.dtype} is {least} to {most}. "
            "Give values within this range.",
        )
    return shaped.astype(spec.dtype)


def _hint(kind: str, spec: TensorSpec) -> str:
    """Return advice about a dtype that is not converted; empty if there is no advice.

    Args:
        kind: numpy's code for the kind of the dtype, such as ``f``.
        spec: The input.
    """
    if kind in "iub" and spec.quantized is not None:
        return f"Give real values as floats, or quantized values as {spec.dtype}."
    if kind in "iub":
        return "Give a picture as uint8, from 0 to 255, or the model's input values as floats."
    if kind == "f":
        return f"Give whole numbers as {spec.dtype}."
    return ""


def _same_but_ones(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Return whether two shapes differ only in leading and trailing 1s."""
    return _without_ones(one) == _without_ones(other)


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    wide = [place for place, size in enumerate(shape) if size != 1]
    return shape[wide[0] : wide[-1] + 1] if wide else ()


def split_stack(
    array: np.ndarray[Any, Any], spec: TensorSpec
) -> tuple[list[np.ndarray[Any, Any]], bool]:
    """Split an array into samples.

    Args:
        array: One sample, or several samples along the first dimension.
        spec: The input, as it is for one sample: a batch dimension has size 1.

    Returns:
        The samples, as views of the array, and whether the samples are pictures. Samples that are
        not pictures may have a wrong shape; :func:`fit_array` checks the shape.
    """
    pictures = find_pictures(array, spec)
    if pictures is not None:
        return pictures, True
    if _same_but_ones(array.shape, spec.shape) or 0 in array.shape:
        return [array], False
    if array.ndim == len(spec.shape) and spec.shape[:1] == (1,):
        # Samples of a wrong shape are split too. The error then shows the shape of one sample.
        return [array[place : place + 1] for place in range(len(array))], False
    if array.ndim and _same_but_ones(array.shape[1:], spec.shape):
        return [np.asarray(one) for one in array], False
    return [array], False


def find_pictures(
    array: np.ndarray[Any, Any], spec: TensorSpec
) -> list[np.ndarray[Any, Any]] | None:
    """Return the pictures in an array; None if the array holds no pictures that need conversion.

    A uint8 array is one picture ``(height, width)`` or ``(height, width, channels)`` of any size,
    or a stack of pictures. If the input takes uint8 and the array already has the input's shape,
    the array needs no conversion.

    An array of another dtype is a picture if it has 2 or 3 dimensions, and its shape is neither the
    input's shape nor the shape of a stack of inputs. A float array whose shape lacks only the
    input's batch dimension is a picture if its values seem to go from 0 to 255 and the input takes
    another range.

    Returns:
        Pictures of shape ``(height, width)`` or ``(height, width, channels)``. If an array looks
        like a picture but has an impossible shape or dtype, the array is returned too, and its
        conversion raises an error.
    """
    layout = picture_layout(spec)
    if layout is None or (spec.pixels is None and len(spec.shape) < 4):  # noqa: PLR2004
        return None
    if array.dtype == np.uint8:
        one = spec.shape[1:] if layout.batch else spec.shape
        if spec.dtype == "uint8" and (array.shape == spec.shape or array.shape[1:] == one):
            return None
        return _byte_pictures(array, spec, layout)
    if array.ndim not in {2, 3} or array.shape == spec.shape:
        return None
    if _same_but_ones(array.shape, spec.shape):
        return [array] if array.dtype.kind == "f" and _looks_like_bytes(array, spec) else None
    return None if _same_but_ones(array.shape[1:], spec.shape) else [array]


def _byte_pictures(
    array: np.ndarray[Any, Any], spec: TensorSpec, layout: PictureLayout
) -> list[np.ndarray[Any, Any]] | None:
    first, last, stack = 3, array.shape[-1] if array.ndim else 0, 4
    if not 2 <= array.ndim <= stack:  # noqa: PLR2004
        return None
    channels = max(1, layout.channels)
    is_gray = channels == 1 or (spec.pixels is not None and spec.pixels.order == "gray")
    leads = array.ndim >= first and last not in _CHANNELS and array.shape[-first] == channels
    if leads and (layout.channels_first or (channels == 1 and array.ndim == stack)):
        array = np.moveaxis(array, -first, -1)
        last = channels
    if array.ndim == first and last not in _CHANNELS and is_gray:
        return list(array)
    # Three planes for a color model may be one picture with its channels first. As a stack of gray
    # pictures, they would get wrong answers without a warning. As one array, they are refused.
    return list(array) if array.ndim == stack and len(array) else [array]


def _looks_like_bytes(array: np.ndarray[Any, Any], spec: TensorSpec) -> bool:
    """Return whether floats seem to be pixels from 0 to 255 for an input with another range."""
    if spec.pixels is None or not array.size:
        return False
    low, high = value_range(spec.pixels)
    # If the input's range is about as wide as 0 to 255, such as for BGR minus its mean, only
    # negative values show that an array is already converted.
    most = 1.0 if high - low >= _WIDE else max(1.0, high * _SLACK)
    return bool(array.min() >= 0 and most < array.max() <= _LARGEST)


def range_note(array: np.ndarray[Any, Any], spec: TensorSpec) -> str:
    """Return a warning if an array's floats do not fit the input's range; empty without a warning.

    Floats do not fit if they are far outside the range, or if they go from -1 to 1 and the range is
    as wide as 0 to 255.
    """
    if spec.pixels is None or array.dtype.kind != "f" or not array.size:
        return ""
    low, high = value_range(spec.pixels)
    least, most = float(array.min()), float(array.max())
    width = high - low
    is_outside = least < low - width or most > high + width
    is_unscaled = width >= _WIDE and least >= -1 and 0 < most <= 1
    if not (is_outside or is_unscaled):
        return ""
    return (
        f"The floats for input {spec.name} go from {least:g} to {most:g}; the model takes "
        f"{round(low, 3) + 0.0:g} to {round(high, 3) + 0.0:g}. The floats are used unchanged; to "
        "have a picture converted, give it as uint8."
    )
