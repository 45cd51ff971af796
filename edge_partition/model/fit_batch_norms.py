"""Scale the variances of batch norms to the activations that are measured in one run of a model.

Variances that are estimated from the graph alone are too inaccurate for networks of a hundred
layers: the activations grow from block to block, until the output depends on rounding errors. The
scale is rounded to a power of four, so that rounding errors of another machine do not change the
scale.
"""

# ruff: noqa: SLF001 -- Keras has no public way to walk a model's nodes.
from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from edge_partition.model import keras_setup  # noqa: F401 -- before Keras

# isort: split
import keras
import numpy as np
from keras import layers, tree

from edge_partition.model.draw_weights import DRAW_DEVIATION, draw_integers
from edge_partition.model.wrap_operations import is_graph

if TYPE_CHECKING:
    from edge_partition.model.activation_moments import Moments

_IMAGE_RANK = 4
#: Number of values of each input in the run, over all samples. Each input has two samples or more,
#: even if the number of values is then larger.
_MEASURED_VALUES = 1 << 17
_MAX_MEASURED_SAMPLES = 256
#: A network with more batch norms than this number is deep. In a deep network, the output of a
#: batch norm gets a standard deviation of 0.5. Swish functions and gates are nearly linear for such
#: small values. With a standard deviation of 1, an input that is somewhat larger than the measured
#: inputs would grow from block to block.
_DEEP_BATCH_NORMS = 24


def fit_batch_norms(model: keras.Model, inputs: Moments, seed: int) -> None:
    """Run ``model`` once, and scale the variance of each batch norm to the batch norm's input.

    A model does not change if it has no batch norms, or if an input has an integer dtype or an open
    dimension.

    Args:
        model: A Functional or Sequential model.
        inputs: Mean and variance of the random values in the inputs.
        seed: Seed of the random inputs.
    """
    batch_norms = sum(isinstance(x, layers.BatchNormalization) for x in model._flatten_layers())
    if not batch_norms or not all(_is_plain(tensor) for tensor in model.inputs):
        return
    samples = min(map(_sample_count, model.inputs))
    arrays = [make_input(tensor.shape[1:], inputs, samples, seed) for tensor in model.inputs]
    _Fitter(headroom=int(batch_norms > _DEEP_BATCH_NORMS)).run(model, arrays)


class _Fitter:
    """Runs a model. During the run, scales each batch norm's variance to the batch norm's input.

    Args:
        headroom: The scale of each variance is multiplied by ``4 ** headroom``.
    """

    def __init__(self, headroom: int) -> None:
        self._headroom = headroom
        self._fitted: set[int] = set()

    def run(self, model: keras.Model, inputs: list[Any]) -> Any:
        """Run ``model`` on ``inputs``, scale the batch norms, and return the model's outputs."""
        graph = model._functional if isinstance(model, keras.Sequential) else model

        def call(operation: keras.Operation, *args: Any, **kwargs: Any) -> Any:
            if isinstance(operation, keras.Model) and is_graph(operation):
                return self.run(operation, tree.flatten((args, kwargs)))
            if isinstance(operation, layers.BatchNormalization):
                self._fit(operation, np.asarray(args[0]))
            return operation(*args, **kwargs)

        return graph._run_through_graph(inputs, call_fn=call)

    def _fit(self, layer: layers.BatchNormalization, values: np.ndarray) -> None:
        if id(layer) in self._fitted:
            return
        self._fitted.add(id(layer))
        channels = np.moveaxis(values, layer.axis, -1)
        mean, variance = (np.asarray(x) for x in (layer.moving_mean, layer.moving_variance))
        with np.errstate(over="ignore", invalid="ignore"):  # an infinite ratio is skipped below
            ratio = float(np.mean((channels - mean) ** 2 / variance, dtype=np.float64))
        if math.isfinite(ratio) and ratio > 0:
            factor = 4.0 ** (round(math.log(ratio, 4)) + self._headroom)
            layer.moving_variance.assign(variance * np.float32(factor))


def make_input(shape: tuple[int, ...], moments: Moments, samples: int, seed: int) -> np.ndarray:
    """Return random float32 samples of an input, of shape ``(samples, *shape)``.

    The values of an image vary equally at all scales, from halves of the image to neighbouring
    pixels. Photographs have the same property (Field, "Relations between the statistics of natural
    images", 1987).

    Args:
        shape: Shape of the input without the batch. An input of three dimensions is an image.
        moments: Mean and variance of the values.
        samples: Number of samples.
        seed: Seed of the random samples.
    """
    whole = (samples, *shape)
    generator = np.random.Generator(np.random.PCG64(seed))
    cells = [0]
    if len(whole) == _IMAGE_RANK:
        cells = [max(shape[:2]) >> octave for octave in range(max(shape[:2]).bit_length())]
    values = np.zeros(whole, np.int32)
    for cell in cells:
        if cell == 0:
            values += draw_integers(generator, whole)
            continue
        rows, columns = (-(-size // cell) for size in shape[:2])
        drawn = draw_integers(generator, (samples, rows, columns, shape[2]))
        drawn = drawn.repeat(cell, axis=1).repeat(cell, axis=2)
        values += drawn[:, : shape[0], : shape[1]]
    scale = math.sqrt(moments.variance / len(cells)) / DRAW_DEVIATION
    return (moments.mean + values * scale).astype(np.float32)


def _sample_count(tensor: keras.KerasTensor) -> int:
    """Return the number of random samples for one input: the batch size, if the batch is fixed."""
    size = max(1, math.prod(tensor.shape[1:]))
    return int(tensor.shape[0] or max(2, min(_MAX_MEASURED_SAMPLES, _MEASURED_VALUES // size)))


def _is_plain(tensor: keras.KerasTensor) -> bool:
    return "float" in str(tensor.dtype) and None not in tensor.shape[1:] and 0 not in tensor.shape
