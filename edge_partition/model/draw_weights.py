"""Fill weights with random values that are the same on every machine.

The values are integers from a generator with a seed. They are scaled with arithmetic whose results
IEEE 754 defines exactly. Exponentials and sums of floating-point arrays are not used, because their
results may differ between machines.
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
#: Standard deviation of uniformly distributed integers in [-_HALF_RANGE, _HALF_RANGE).
DRAW_DEVIATION = math.sqrt((4 * _HALF_RANGE**2 - 1) / 12)


def draw_integers(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return random int32 values of mean -0.5 and standard deviation :data:`DRAW_DEVIATION`."""
    return generator.integers(-_HALF_RANGE, _HALF_RANGE, size=shape, dtype=np.int32)


class WeightDrawer:
    """Fills each weight of a model with random values, once.

    A second call for the same weight changes nothing. The random values of a weight depend only on
    the seed, and on the weight's name, shape and position among the model's weights.

    Args:
        model: A built model.
        seed: Seed of the random values.
    """

    def __init__(self, model: keras.Model, seed: int) -> None:
        self._seed = seed
        self._places = {id(weight): place for place, weight in enumerate(model.weights)}
        self._done: set[int] = set()

    def keep(self, weights: Iterable[keras.Variable]) -> None:
        """Keep the present values of ``weights``: later calls do not fill these weights."""
        self._done |= {id(weight) for weight in weights}

    def fill(self, weight: keras.Variable, mean: np.ndarray | float, deviation: float) -> None:
        """Fill ``weight`` with random values.

        Args:
            weight: The weight.
            mean: Mean of the values: one number, or an array that broadcasts to the weight's shape.
            deviation: Standard deviation of the values.
        """
        self._assign(weight, mean + self._draw(weight) * (deviation / DRAW_DEVIATION))

    def fill_kernel(
        self, kernel: keras.Variable, scale: float, *, centre: bool = False
    ) -> np.ndarray:
        """Fill ``kernel`` with random values.

        Args:
            kernel: A weight. Its last axis stands for the output channels of the layer.
            scale: Standard deviation of the values.
            centre: Whether to shift the values so that the sum over each output channel is zero.

        Returns:
            The random int64 numbers before scaling and shifting, of the kernel's shape.
        """
        drawn = self._draw(kernel).astype(np.int64)
        values: np.ndarray = drawn
        fan_in = math.prod(kernel.shape[:-1])
        if centre and fan_in > 1:
            values = drawn - drawn.reshape(fan_in, -1).sum(axis=0) / fan_in
        self._assign(kernel, values * (scale / DRAW_DEVIATION))
        return drawn

    def fill_scale_and_offset(self, layer: keras.layers.Layer) -> None:
        """Fill a normalization layer: ``gamma`` with values near 1, ``beta`` with values near 0."""
        if layer.gamma is not None:
            self.fill(layer.gamma, 1.0, 0.1)
        if layer.beta is not None:
            self.fill(layer.beta, 0.0, 0.03)

    def fill_by_name(self, weights: Iterable[keras.Variable]) -> None:
        """Fill the weights of a layer of unknown kind, according to the weights' names and shapes.

        Scales and variances get values near 1, and vectors get values near 0. The values of other
        weights keep the variance of the layer's inputs.
        """
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
