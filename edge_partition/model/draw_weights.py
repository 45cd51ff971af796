"""Weights filled with random values that are the same on every machine.

The values are integers from a seeded generator, scaled with operations that IEEE 754 defines to the
bit: no exponentials, no floating-point sums.
"""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING

from edge_partition.model import keras_setup  # noqa: F401 -- before Keras

# isort: split
import keras
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

_HALF_RANGE = 1 << 15
#: Standard deviation of integers drawn evenly from [-_HALF_RANGE, _HALF_RANGE).
DRAW_DEVIATION = math.sqrt((4 * _HALF_RANGE**2 - 1) / 12)


def draw_integers(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return int32 values with a mean near 0 and the standard deviation :data:`DRAW_DEVIATION`."""
    return generator.integers(-_HALF_RANGE, _HALF_RANGE, size=shape, dtype=np.int32)


class WeightDrawer:
    """Fills each weight of a model once; later calls for a filled weight change nothing.

    The values of a weight follow from the seed, the weight's place among the model's weights, its
    name and its shape.

    Args:
        model: A built model.
        seed: Seed of the random values.
    """

    def __init__(self, model: keras.Model, seed: int) -> None:
        self._seed = seed
        self._places = {id(weight): place for place, weight in enumerate(model.weights)}
        self._done: set[int] = set()

    def keep(self, weights: Iterable[keras.Variable]) -> None:
        """Keep the present values of ``weights``."""
        self._done |= {id(weight) for weight in weights}

    def fill(self, weight: keras.Variable, mean: np.ndarray | float, deviation: float) -> None:
        """Fill ``weight`` with random values of this mean and standard deviation.

        ``mean`` is one number, or an array that broadcasts to the weight's shape.
        """
        self._assign(weight, mean + self._draw(weight) * (deviation / DRAW_DEVIATION))

    def fill_kernel(
        self, kernel: keras.Variable, scale: float, *, centre: bool = False
    ) -> np.ndarray:
        """Fill ``kernel`` with values of the standard deviation ``scale``.

        Args:
            kernel: Weight whose last axis is the layer's output channels.
            scale: Standard deviation.
            centre: Whether the values of each output channel sum to zero.

        Returns:
            The integers that were drawn (int64), of the kernel's shape.
        """
        drawn = self._draw(kernel).astype(np.int64)
        values: np.ndarray = drawn
        fan_in = math.prod(kernel.shape[:-1])
        if centre and fan_in > 1:
            values = drawn - drawn.reshape(fan_in, -1).sum(axis=0) / fan_in
        self._assign(kernel, values * (scale / DRAW_DEVIATION))
        return drawn

    def fill_scale_and_offset(self, layer: keras.layers.Layer) -> None:
        """Fill the ``gamma`` and the ``beta`` of a normalization layer."""
        if layer.gamma is not None:
            self.fill(layer.gamma, 1.0, 0.1)
        if layer.beta is not None:
            self.fill(layer.beta, 0.0, 0.03)

    def fill_by_name(self, weights: Iterable[keras.Variable]) -> None:
        """Fill weights of an unknown kind of layer, by their names and shapes."""
        for weight in weights:
            name, shape = weight.name, tuple(weight.shape)
            if "gamma" in name or "scale" in name or "variance" in name:
                self.fill(weight, 1.0, 0.1)
            elif len(shape) > 1:
                self.fill(weight, 0.0, 1 / math.sqrt(math.prod(shape[:-1])))
            else:
                self.fill(weight, 0.0, 0.1)

    def _draw(self, weight: keras.Variable) -> np.ndarray:
        place = self._places[id(weight)]
        key = zlib.crc32(f"{self._seed}/{place}/{weight.name}/{weight.shape}".encode())
        return draw_integers(np.random.Generator(np.random.PCG64(key)), tuple(weight.shape))

    def _assign(self, weight: keras.Variable, values: np.ndarray) -> None:
        if id(weight) in self._done:
            return
        self._done.add(id(weight))
        if keras.backend.is_float_dtype(weight.dtype):
            weight.assign(values.astype(np.float32))
