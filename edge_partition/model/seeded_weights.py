"""Weights drawn from a seed that make an untrained network behave like a network.

Keras's own initial weights give the same answer to every input, so that nothing compared with them
can fail. These keep every activation near unit variance, and two inputs' activations apart. They
are the same on every machine: integers from a seeded generator, scaled with operations that
IEEE 754 defines to the bit (no exponentials, no floating-point sums).

The scale follows He et al., "Delving Deep into Rectifiers" (2015): a kernel's variance is the
inverse of its inputs' total second moment. For that, mean and variance are estimated layer by layer
from the graph alone. The mean that all channels share is taken out wherever it can be, by kernels
that sum to zero and by the batch norms behind depthwise kernels; left in, it grows until a deep
network maps all inputs to one output (Poole et al., "Exponential expressivity in deep neural
networks through transient chaos", 2016).

Estimates alone do not hold in networks of a hundred layers: batch norms then let activations grow
from block to block until the answer depends on rounding. So the network is run once, and each batch
norm's variance is scaled to what arrives there, by a power of four: a factor that rounding on
another machine does not change.
"""

# ruff: noqa: SLF001 -- Keras has no public way to walk a model's nodes.
from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from edge_partition.model import keras_setup  # noqa: F401 -- before Keras

# isort: split
import keras
import numpy as np
from keras import layers, tree

from edge_partition.model.wrap_operations import OperationLayer, is_graph

if TYPE_CHECKING:
    from collections.abc import Iterable

_HALF_RANGE = 1 << 15
_IMAGE_RANK = 4
#: So many values of each input, or two samples of a larger input, tell a layer's variance.
_MEASURED_VALUES = 1 << 17
_MAX_MEASURED_SAMPLES = 256
#: Networks of more batch norms are deep: there a batch norm gives half of unit deviation, so that
#: swish and gates stay near their linear part. Nearer to 1, an input somewhat larger than those
#: measured grows from block to block.
_DEEP_BATCH_NORMS = 24
#: Of integers drawn evenly from [-_HALF_RANGE, _HALF_RANGE).
_DRAW_DEVIATION = math.sqrt((4 * _HALF_RANGE**2 - 1) / 12)

#: What a classifier's last layer aims at: the likeliest of 1000 classes then gets some 10 to 50 %.
_LOGIT_VARIANCE = 4.0

#: Mean and variance of an activation of a standard normal variable, from its integral. What is not
#: listed passes on what it gets.
_ACTIVATIONS = {
    "relu": (0.399, 0.341),
    "relu6": (0.399, 0.341),
    "silu": (0.207, 0.313),
    "hard_silu": (0.167, 0.306),
    "gelu": (0.282, 0.345),
}
_GATES = {"sigmoid", "hard_sigmoid"}
#: Mean, and then mean and variance after ReLU, of a normal variable of variance 1. Residual
#: networks of the first kind add to what a ReLU made, so that the next one gets a mean above 0.
_RELU_OF_MEAN = (
    (0.0, 0.399, 0.341), (0.5, 0.698, 0.553), (1.0, 1.083, 0.751), (1.5, 1.529, 0.888),
    (2.0, 2.008, 0.960), (3.0, 3.0, 1.0),
)  # fmt: skip

#: Keras's names of the applications whose ``preprocess_input`` shifts pixels and keeps their scale
#: (mode ``caffe`` of ``keras.applications.imagenet_utils``); it is no part of the model.
_SHIFTED_PIXELS = frozenset({"vgg16", "vgg19", "resnet50", "resnet101", "resnet152"})
#: Variance of pixels spread evenly over 0 to 255.
_PIXEL_VARIANCE = 5400.0


@dataclass(frozen=True)
class _Moments:
    """What is expected of a tensor's elements.

    Attributes:
        mean: Of all elements.
        variance: Of all elements.
        channels: Along the last axis; what is concatenated counts by it.
        shift: What each channel's mean differs by from ``mean``, where a layer's kernel tells.
    """

    mean: float = 0.0
    variance: float = 1.0
    channels: int = 1
    shift: np.ndarray | float = 0.0

    @property
    def power(self) -> float:
        """The second moment."""
        return self.mean**2 + self.variance


def seed_weights(model: keras.Model, seed: int = 0) -> None:
    """Replace all of ``model``'s weights, the same way in every run and on every machine.

    A weight's values follow from ``seed``, its place among the model's weights, its name and its
    shape, so that numbers Keras makes up for layers' names have no part in them.

    Args:
        model: A Functional or Sequential model; its inputs are taken to have unit variance, or
            values of 0 to 255 where the model rescales them itself, or where its application's
            ``preprocess_input`` leaves pixels that wide.
        seed: Another seed gives other weights.
    """
    _Seeder(model, seed).run()


class _Seeder:
    def __init__(self, model: keras.Model, seed: int) -> None:
        self._model = model
        self._seed = seed
        self._places = {id(weight): place for place, weight in enumerate(model.weights)}
        self._done: set[int] = set()
        self._fitted: set[int] = set()
        self._headroom = 0
        self._last = [layer for layer in model._flatten_layers() if hasattr(layer, "kernel")][-1:]

    def run(self) -> None:
        rescales = any(
            isinstance(layer, layers.Rescaling | layers.Normalization)
            for layer in self._model._flatten_layers()
        )
        start = _Moments()
        if rescales:
            start = _Moments(127.5, _PIXEL_VARIANCE)
        elif self._model.name in _SHIFTED_PIXELS:
            start = _Moments(0.0, _PIXEL_VARIANCE)
        self._follow(self._model, [replace(start) for _ in self._model.inputs])
        for layer in self._model._flatten_layers(include_self=False):
            self._seed_plain(layer.weights)
        found = self._model._flatten_layers()
        batch_norms = sum(isinstance(layer, layers.BatchNormalization) for layer in found)
        if batch_norms and all(_is_plain(tensor) for tensor in self._model.inputs):
            self._headroom = int(batch_norms > _DEEP_BATCH_NORMS)
            samples = min(map(_sample_count, self._model.inputs))
            inputs = [self._make_input(tensor, start, samples) for tensor in self._model.inputs]
            self._run_and_fit(self._model, inputs)

    def _make_input(self, tensor: keras.KerasTensor, moments: _Moments, samples: int) -> np.ndarray:
        """Return float32 samples for ``tensor`` with ``moments``.

        Images vary as much from one half to the other as from one pixel to the next, as
        photographs do (Field, "Relations between the statistics of natural images", 1987).
        """
        shape = (samples, *tensor.shape[1:])
        generator = np.random.Generator(np.random.PCG64(self._seed))

        def draw(size: tuple[int, ...]) -> np.ndarray:
            return generator.integers(-_HALF_RANGE, _HALF_RANGE, size=size, dtype=np.int32)

        cells = [0]
        if len(shape) == _IMAGE_RANK:
            cells = [max(shape[1:3]) >> octave for octave in range(max(shape[1:3]).bit_length())]
        values = np.zeros(shape, np.int32)
        for cell in cells:
            if cell == 0:
                values += draw(shape)
                continue
            rows, columns = (-(-size // cell) for size in shape[1:3])
            drawn = draw((samples, rows, columns, shape[3]))
            drawn = drawn.repeat(cell, axis=1).repeat(cell, axis=2)
            values += drawn[:, : shape[1], : shape[2]]
        scale = math.sqrt(moments.variance / len(cells)) / _DRAW_DEVIATION
        return (moments.mean + values * scale).astype(np.float32)

    def _run_and_fit(self, model: keras.Model, inputs: list[Any]) -> Any:
        """Run ``model``, and scale each batch norm's variance to what arrives there."""
        graph = model._functional if isinstance(model, keras.Sequential) else model

        def call(operation: keras.Operation, *args: Any, **kwargs: Any) -> Any:
            if isinstance(operation, keras.Model) and is_graph(operation):
                return self._run_and_fit(operation, tree.flatten((args, kwargs)))
            if isinstance(operation, layers.BatchNormalization):
                self._fit_variance(operation, np.asarray(args[0]))
            return operation(*args, **kwargs)

        return graph._run_through_graph(inputs, call_fn=call)

    def _fit_variance(self, layer: layers.BatchNormalization, values: np.ndarray) -> None:
        if id(layer) in self._fitted:
            return
        self._fitted.add(id(layer))
        channels = np.moveaxis(values, layer.axis, -1)
        mean, variance = (np.asarray(x) for x in (layer.moving_mean, layer.moving_variance))
        with np.errstate(over="ignore", invalid="ignore"):  # such a layer stays as it is
            ratio = float(np.mean((channels - mean) ** 2 / variance, dtype=np.float64))
        if math.isfinite(ratio) and ratio > 0:
            factor = 4.0 ** (round(math.log(ratio, 4)) + self._headroom)
            layer.moving_variance.assign(variance * np.float32(factor))

    def _follow(self, model: keras.Model, inputs: list[_Moments]) -> Any:
        """Seed ``model``'s layers in order and return its outputs' moments."""
        graph = model._functional if isinstance(model, keras.Sequential) else model

        def call(operation: keras.Operation, *args: Any, **kwargs: Any) -> Any:
            moments = [x for x in tree.flatten((args, kwargs)) if isinstance(x, _Moments)]
            if isinstance(operation, keras.Model) and is_graph(operation):
                return self._follow(operation, moments)
            result = self._pass(operation, moments)
            outputs = operation._inbound_nodes[0].output_tensors
            return [replace(result, channels=tensor.shape[-1] or 1) if tensor.shape else result
                    for tensor in outputs]  # fmt: skip

        return graph._run_through_graph(inputs, call_fn=call)

    def _pass(self, operation: keras.Operation, inputs: list[_Moments]) -> _Moments:  # noqa: C901, PLR0911, PLR0912 -- one a layer
        first = inputs[0]
        if isinstance(operation, OperationLayer):
            operation = operation.operation
        if getattr(operation, "lora_enabled", False):
            # Its kernel is no weight but a sum of some.
            self._seed_plain(operation.weights)
            return _Moments()
        match operation:
            case layers.SeparableConv1D() | layers.SeparableConv2D():
                return self._seed_separable(operation, first)
            case layers.DepthwiseConv1D() | layers.DepthwiseConv2D():
                scale = math.sqrt(1 / first.power / math.prod(operation.kernel_size))
                taps = self._seed_kernel(operation.kernel, scale)
                sums = taps.sum(axis=tuple(range(taps.ndim - 2))).reshape(-1)
                shift = sums * (first.mean * scale / _DRAW_DEVIATION)
                return self._finish_kernel_layer(
                    operation, _Moments(0.0, first.variance / first.power, shift=shift)
                )
            case layers.Dense() | layers.Conv1D() | layers.Conv2D() | layers.Conv3D():
                target = _LOGIT_VARIANCE if operation in self._last else 1.0
                fan_in = max(1, math.prod(operation.kernel.shape[:-1]))
                scale = math.sqrt(target / first.variance / fan_in)
                self._seed_kernel(operation.kernel, scale, centre=True)
                return self._finish_kernel_layer(operation, _Moments(0.0, target))
            case layers.BatchNormalization():
                variance = first.variance
                self._set(
                    operation.moving_mean, first.mean + first.shift, 0.03 * math.sqrt(variance)
                )
                self._set(operation.moving_variance, variance, 0.1 * variance)
                self._seed_affine(operation)
                return _Moments()
            case layers.LayerNormalization() | layers.GroupNormalization():
                self._seed_affine(operation)
                return _Moments()
            case layers.Normalization():
                # Keras's statistics of ImageNet, where it has any, are part of the preprocessing.
                self._done |= {id(weight) for weight in operation.weights}
                mean, variance = (float(np.mean(x)) for x in (operation.mean, operation.variance))
                return _Moments(
                    (first.mean - mean) / math.sqrt(variance), first.variance / variance
                )
            case layers.Rescaling():
                scale, offset = (float(np.mean(x)) for x in (operation.scale, operation.offset))
                return _Moments(first.mean * scale + offset, first.variance * scale**2)
            case layers.Activation() | layers.ReLU() | layers.LeakyReLU() | layers.PReLU():
                function = getattr(operation, "activation", None)
                self._seed_plain(operation.weights)
                return _activate(getattr(function, "__name__", "relu"), first)
            case layers.GlobalAveragePooling2D() | layers.GlobalAveragePooling1D():
                sizes = operation._inbound_nodes[-1].input_tensors[0].shape[1:-1]
                return _average(first, math.prod(size or 1 for size in sizes))
            case layers.AveragePooling2D():
                return _average(first, math.prod(operation.pool_size))
            case layers.Concatenate():
                return _mix(inputs)
            case layers.Multiply() if len(inputs) > 1:
                gate = inputs[-1]
                mean = first.mean * gate.mean
                return _Moments(mean, first.power * gate.power - mean**2)
            case layers.Add() | layers.Subtract():
                return _Moments(sum(x.mean for x in inputs), sum(x.variance for x in inputs))
        self._seed_plain(getattr(operation, "weights", []))
        if getattr(operation, "weights", []):
            return _Moments()
        if type(operation).__name__ in {"Add", "CustomScaleLayer"} and len(inputs) > 1:
            return _Moments(sum(x.mean for x in inputs), sum(x.variance for x in inputs))
        return first

    def _seed_separable(self, layer: Any, first: _Moments) -> _Moments:
        """Seed a depthwise and a pointwise kernel with nothing between them."""
        depth_scale = math.sqrt(1 / first.power / math.prod(layer.kernel_size))
        taps = self._seed_kernel(layer.depthwise_kernel, depth_scale)
        sums = taps.sum(axis=tuple(range(taps.ndim - 2))).reshape(-1)
        point_scale = math.sqrt(1 / len(sums))
        point = self._seed_kernel(layer.pointwise_kernel, point_scale)
        # Whole numbers: their sums are exact in any order.
        means = sums @ point.reshape(len(sums), -1)
        shift = means * (first.mean * depth_scale * point_scale / _DRAW_DEVIATION**2)
        return self._finish_kernel_layer(
            layer, _Moments(0.0, first.variance / first.power, shift=shift)
        )

    def _finish_kernel_layer(self, layer: Any, x: _Moments) -> _Moments:
        if layer.use_bias:
            self._set(layer.bias, -x.shift, 0.03)
            x = replace(x, shift=0.0)
        return _activate(getattr(layer.activation, "__name__", "linear"), x)

    def _seed_affine(self, layer: keras.layers.Layer) -> None:
        if layer.gamma is not None:
            self._set(layer.gamma, 1.0, 0.1)
        if layer.beta is not None:
            self._set(layer.beta, 0.0, 0.03)

    def _seed_kernel(
        self, kernel: keras.Variable, scale: float, *, centre: bool = False
    ) -> np.ndarray:
        """Fill ``kernel`` with the standard deviation ``scale``; return the whole numbers drawn.

        With ``centre``, what each channel of the last axis is made from sums to zero.
        """
        drawn = self._draw(kernel).astype(np.int64)
        values: np.ndarray = drawn
        fan_in = math.prod(kernel.shape[:-1])
        if centre and fan_in > 1:
            values = drawn - drawn.reshape(fan_in, -1).sum(axis=0) / fan_in
        self._assign(kernel, values * (scale / _DRAW_DEVIATION))
        return drawn

    def _seed_plain(self, weights: Iterable[keras.Variable]) -> None:
        """Fill the weights of a layer about which only their names and shapes are known."""
        for weight in weights:
            name, shape = weight.name, tuple(weight.shape)
            if "gamma" in name or "scale" in name or "variance" in name:
                self._set(weight, 1.0, 0.1)
            elif len(shape) > 1:
                self._set(weight, 0.0, 1 / math.sqrt(math.prod(shape[:-1])))
            else:
                self._set(weight, 0.0, 0.1)

    def _set(self, weight: keras.Variable, mean: np.ndarray | float, deviation: float) -> None:
        self._assign(weight, mean + self._draw(weight) * (deviation / _DRAW_DEVIATION))

    def _draw(self, weight: keras.Variable) -> np.ndarray:
        place = self._places[id(weight)]
        key = zlib.crc32(f"{self._seed}/{place}/{weight.name}/{weight.shape}".encode())
        generator = np.random.Generator(np.random.PCG64(key))
        return generator.integers(
            -_HALF_RANGE, _HALF_RANGE, size=tuple(weight.shape), dtype=np.int32
        )

    def _assign(self, weight: keras.Variable, values: np.ndarray) -> None:
        if id(weight) in self._done:
            return
        self._done.add(id(weight))
        if keras.backend.is_float_dtype(weight.dtype):
            weight.assign(values.astype(np.float32))


def _sample_count(tensor: keras.KerasTensor) -> int:
    """Return how many samples of an input the measurement takes."""
    size = max(1, math.prod(tensor.shape[1:]))
    return int(tensor.shape[0] or max(2, min(_MAX_MEASURED_SAMPLES, _MEASURED_VALUES // size)))


def _is_plain(tensor: keras.KerasTensor) -> bool:
    return "float" in str(tensor.dtype) and None not in tensor.shape[1:] and 0 not in tensor.shape


def _activate(name: str, x: _Moments) -> _Moments:
    """Return an activation's moments for a normal input, around zero but for ReLU."""
    if name in _GATES:
        return _Moments(0.5, 0.04)
    if name not in _ACTIVATIONS:
        return x
    mean, variance = _ACTIVATIONS[name]
    deviation = math.sqrt(x.variance)
    if name == "relu" and deviation:
        mean, variance = _rectify(x.mean / deviation)
    return _Moments(mean * deviation, variance * x.variance)


def _rectify(mean: float) -> tuple[float, float]:
    """Return :data:`_RELU_OF_MEAN` at ``mean``, between its entries on straight lines."""
    for (start, *low), (stop, *high) in pairwise(_RELU_OF_MEAN):
        if mean <= stop:
            part = max(0.0, (mean - start) / (stop - start))
            return low[0] + part * (high[0] - low[0]), low[1] + part * (high[1] - low[1])
    return mean, 1.0


def _average(x: _Moments, elements: int) -> _Moments:
    """Return the moments of averages of ``elements`` neighbours, which vary together in part."""
    return _Moments(x.mean, x.variance / min(4.0, max(1.0, elements / 4)))


def _mix(inputs: list[_Moments]) -> _Moments:
    total = sum(x.channels for x in inputs)
    mean = sum(x.mean * x.channels for x in inputs) / total
    power = sum(x.power * x.channels for x in inputs) / total
    return _Moments(mean, power - mean**2)
