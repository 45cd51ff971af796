"""Generate random inputs for a model. The inputs are valid and differ from each other.

The random generator's seed is fixed, so each run generates the same inputs:

- All values of a mask are 1.
- Ids and lengths with known bounds (:mod:`edge_partition.inputs.bound_inputs`) are uniform within
  the bounds. For example, an id is below the number of rows of the table that the id selects from.
- A picture is noise, converted according to the input's ``pixels``. If ``pixels`` is None, floats
  in the shape of a picture are uniform from 0 to 255.
- Other floats are normally distributed.
- Other integers are uniform. Integers of one byte and quantized int16 cover the range of their
  dtype; wider integers go from 0 to 127.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from edge_partition.inputs.bound_inputs import bound_inputs
from edge_partition.inputs.picture_layout import picture_layout
from edge_partition.inputs.pixels import apply_pixels, default_pixels, quantize, source_channels

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from edge_core.contract.manifest import TensorSpec
    from edge_partition.inputs.operator_bounds import Bounds
    from edge_partition.inputs.picture_layout import PictureLayout
    from edge_partition.tflite.read_tflite import TfliteModel

    _Array: TypeAlias = np.ndarray[Any, Any]

_SEED = 20
_IMAGE_RANK = 4
_IMAGE_CHANNELS = (1, 3)
#: Largest value of integers of two bytes or more without bounds. Most of them are ids of a large
#: table.
_MOST_ID = 127
#: Standard deviation of generated sound, similar to that of speech; samples go from -1 to 1.
_SOUND_STD = 0.2
_MASK = re.compile(r"(?<![a-z])mask|mask(?![a-z])", re.IGNORECASE)
_TRAINING = re.compile(r"(?<![a-z])training(?![a-z])", re.IGNORECASE)


def make_payloads(model: TfliteModel, specs: Sequence[TensorSpec], count: int) -> Iterator[bytes]:
    """Yield the random inputs of ``count`` different requests, as bytes.

    Equal models get equal inputs.

    Args:
        model: The whole model.
        specs: The model's inputs, with the names that they have in the model's graph.
        count: Number of requests. The first requests do not depend on ``count``.

    Yields:
        For each request, the bytes of all input arrays, joined in the order of ``specs``.
    """
    for arrays in make_inputs(model, specs, count):
        yield b"".join(arrays[spec.name].tobytes() for spec in specs)


def make_inputs(
    model: TfliteModel, specs: Sequence[TensorSpec], count: int
) -> Iterator[dict[str, _Array]]:
    """Yield the same inputs as :func:`make_payloads`, as arrays by input name."""
    maker = _Maker(specs, bound_inputs(model))
    for _ in range(count):
        yield {spec.name: maker.make(spec) for spec in specs}


class _Maker:
    """Generates a random array for each of a model's inputs.

    The names and shapes of all inputs decide which inputs are masks.
    """

    def __init__(self, specs: Sequence[TensorSpec], bounds: Mapping[str, Bounds]) -> None:
        self._random = np.random.default_rng(_SEED)
        self._bounds = bounds
        names = [spec.name for spec in specs]
        masks = {spec.name for spec in specs if _MASK.search(spec.name)}
        # At least one input must vary. If all inputs look like masks, none is treated as a mask.
        self._masks = masks if len(masks) < len(names) else set()
        self._has_values = any(spec.dtype != "bool" for spec in specs)
        self._id_shapes = {spec.shape for spec in specs if spec.name in bounds}

    def make(self, spec: TensorSpec) -> _Array:
        dtype = np.dtype(spec.dtype)
        if self._is_mask(spec, dtype):
            return self._ones(spec, dtype)
        if dtype.kind == "b":
            return self._truths(spec)
        if spec.name in self._bounds:
            return self._bounded(spec, dtype, self._bounds[spec.name])
        if spec.pixels is not None and (layout := picture_layout(spec)) is not None:
            return self._picture(spec, layout)
        return self._integers(spec, dtype) if dtype.kind in "iu" else self._floats(spec, dtype)

    def _is_mask(self, spec: TensorSpec, dtype: np.dtype[Any]) -> bool:
        if spec.name in self._masks:
            return True
        # Some models have ids and a mask of the same shape. An integer input without bounds is
        # taken for the mask if it has the shape of an input with bounds, whatever its name.
        return (
            dtype.kind in "iu"
            and dtype.itemsize > 1
            and spec.name not in self._bounds
            and spec.shape in self._id_shapes
        )

    def _ones(self, spec: TensorSpec, dtype: np.dtype[Any]) -> _Array:
        ones = np.ones(spec.shape, np.float32)
        if dtype.kind in "iu" and spec.quantized is not None:
            return quantize(ones, spec.dtype, spec.quantized)
        return ones.astype(dtype)

    def _truths(self, spec: TensorSpec) -> _Array:
        if _TRAINING.search(spec.name):
            return np.zeros(spec.shape, np.bool_)
        if self._has_values:
            return np.ones(spec.shape, np.bool_)
        return self._random.integers(0, 2, spec.shape).astype(np.bool_)

    def _bounded(self, spec: TensorSpec, dtype: np.dtype[Any], bounds: Bounds) -> _Array:
        low, high = math.ceil(bounds.low), math.floor(bounds.high)
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            low, high = max(low, int(limits.min)), min(high, int(limits.max))
        return self._random.integers(low, max(low, high), spec.shape, endpoint=True).astype(dtype)

    def _picture(self, spec: TensorSpec, layout: PictureLayout) -> _Array:
        channels = source_channels(layout, spec.pixels or default_pixels(layout))
        pictures = [
            apply_pixels(
                self._random.integers(
                    0, 255, (layout.height, layout.width, channels), np.uint8, endpoint=True
                ),
                spec,
            )
            for _ in range(max(1, layout.batch))
        ]
        return np.concatenate(pictures) if layout.batch else pictures[0]

    def _integers(self, spec: TensorSpec, dtype: np.dtype[Any]) -> _Array:
        if dtype.itemsize == 1 or (spec.quantized is not None and dtype.itemsize == 2):  # noqa: PLR2004
            limits = np.iinfo(dtype)
            return self._random.integers(limits.min, limits.max, spec.shape, dtype, endpoint=True)
        return self._random.integers(0, _MOST_ID, spec.shape, endpoint=True).astype(dtype)

    def _floats(self, spec: TensorSpec, dtype: np.dtype[Any]) -> _Array:
        if dtype.kind == "c":
            real, imaginary = self._random.standard_normal((2, *spec.shape))
            return np.asarray(real + 1j * imaginary, dtype)
        if spec.rate_hz:
            sound = _SOUND_STD * self._random.standard_normal(spec.shape)
            return np.clip(sound, -1, 1).astype(dtype)
        if len(spec.shape) == _IMAGE_RANK and spec.shape[-1] in _IMAGE_CHANNELS:
            return self._random.uniform(0, 255, spec.shape).astype(dtype)
        return self._random.standard_normal(spec.shape).astype(dtype)
