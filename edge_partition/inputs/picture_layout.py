"""Find out how an input's tensor holds a picture. The functions are pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_core.contract.manifest import TensorSpec

_CHANNELS = (1, 3, 4)
#: Least height and width, in pixels, at which a tensor with 2 or 3 dimensions can be a picture if
#: the model does not say so.
_LEAST_SIDE = 8


@dataclass(frozen=True)
class PictureLayout:
    """How an input's tensor holds a picture.

    Attributes:
        batch: Size of the batch dimension; 0 for a tensor without a batch dimension.
        height: Height in pixels.
        width: Width in pixels.
        channels: Size of the channel dimension: 1, 3 or 4. 0 for a gray picture in a tensor
            without a channel dimension.
        channels_first: Whether the channel dimension comes before height and width.
    """

    batch: int
    height: int
    width: int
    channels: int
    channels_first: bool = False


def picture_layout(spec: TensorSpec) -> PictureLayout | None:
    """Return how an input's tensor holds a picture; None if the tensor cannot hold a picture.

    The tensor's shape is ``[batch, height, width, 1|3|4]`` or ``[batch, 1|3|4, height, width]``,
    with or without the batch dimension. For gray pictures, the shape may also be
    ``[height, width]`` or ``[batch, height, width]``. A tensor of one of these two shapes is taken
    for a sequence, and not for a picture, if height and width differ and ``spec.pixels`` is None.

    Args:
        spec: The input. If ``spec.pixels`` is given, the input is known to be a picture.
    """
    if spec.dtype == "bool" or spec.dtype.startswith("complex"):
        return None
    shape = spec.shape
    if len(shape) == 4:  # noqa: PLR2004 -- batch, height, width, channels
        return _with_channels(shape[0], shape[1:])
    is_picture = spec.pixels is not None
    if spec.dtype in {"int32", "int64", "uint32", "uint64"} and not is_picture:
        return None  # the numbers are ids
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
