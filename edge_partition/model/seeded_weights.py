"""Fill a model with random weights that make an untrained network behave like a trained network.

With Keras's own initial weights, a network returns the same output for every input, so a comparison
of outputs cannot fail. Seeded weights keep the variance of every activation near 1, and keep the
activations of two inputs different. Seeded weights are the same on every machine.

The scale of a kernel follows He et al., "Delving Deep into Rectifiers" (2015): the variance of the
kernel is 1 divided by the sum of the second moments of the kernel's inputs. Mean and variance of
the inputs are estimated layer by layer from the graph alone.

A mean that all channels share grows from layer to layer, until a deep network maps all inputs to
one output (Poole et al., "Exponential expressivity in deep neural networks through transient
chaos", 2016). Two measures remove this mean: the values of a kernel sum to zero, and a batch norm
after a depthwise kernel subtracts the mean.
"""

# ruff: noqa: SLF001 -- Keras has no public way to walk a model's nodes.
from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edge_partition.model import keras_setup  # noqa: F401 -- before Keras

# isort: split
import keras
import numpy as np
from keras import layers, tree

from edge_partition.model.activation_moments import (
    Moments,
    activated,
    averaged,
    concatenated,
    multiplied,
    scaled,
    summed,
)
from edge_partition.model.draw_weights import DRAW_DEVIATION, WeightDrawer
from edge_partition.model.fit_batch_norms import fit_batch_norms
from edge_partition.model.operation_layer import OperationLayer
from edge_partition.model.wrap_operations import is_graph

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Variance of the output of a classifier's last layer before the softmax. With this variance, the
#: likeliest of 1,000 classes gets a probability of about 10 to 50 %.
_LOGIT_VARIANCE = 4.0
#: Keras's names of the applications whose function ``preprocess_input`` shifts pixels but does not
#: rescale them (mode ``caffe`` of ``keras.applications.imagenet_utils``). The function is not part
#: of the model.
_SHIFTED_PIXELS = frozenset({"vgg16", "vgg19", "resnet50", "resnet101", "resnet152"})
#: Variance of pixels that are uniformly distributed from 0 to 255.
_PIXEL_VARIANCE = 5400.0


def seed_weights(model: keras.Model, seed: int = 0) -> None:
    """Replace all weights of a model with random values from a seed.

    The values are the same in every run and on every machine. The values of a weight depend on the
    seed and on three properties of the weight: its position among the model's weights, its name and
    its shape. The numbers that Keras adds to names of layers have no influence.

    Args:
        model: A Functional or Sequential model. If the model itself rescales pixels, the weights
            suit pixels from 0 to 255. If the model is an application whose ``preprocess_input``
            does not rescale pixels, the weights suit pixels from 0 to 255 minus their mean. For all
            other models, the weights suit values with a mean of 0 and a variance of 1.
        seed: Seed of the random values.
    """
    inputs = _input_moments(model)
    drawer = WeightDrawer(model, seed)
    _Seeder(model, drawer).follow(model, [inputs for _ in model.inputs])
    for layer in model._flatten_layers(include_self=False):
        drawer.fill_by_name(layer.weights)
    fit_batch_norms(model, inputs, seed)


def _input_moments(model: keras.Model) -> Moments:
    """Return the mean and variance that the model's input values are assumed to have."""
    if any(
        isinstance(layer, layers.Rescaling | layers.Normalization)
        for layer in model._flatten_layers()
    ):
        return Moments(127.5, _PIXEL_VARIANCE)
    return Moments(0.0, _PIXEL_VARIANCE) if model.name in _SHIFTED_PIXELS else Moments()


class _Seeder:
    """Fills the weights of each layer, according to mean and variance of the layer's input.

    Args:
        model: The model. Its last layer with a kernel is treated as the classifier.
        drawer: Fills a weight with random values.
    """

    def __init__(self, model: keras.Model, drawer: WeightDrawer) -> None:
        self._drawer = drawer
        self._last = [layer for layer in model._flatten_layers() if hasattr(layer, "kernel")][-1:]

    def follow(self, model: keras.Model, inputs: list[Moments]) -> Any:
        """Fill the weights of ``model``; return mean and variance of the model's outputs."""
        graph = model._functional if isinstance(model, keras.Sequential) else model

        def call(operation: keras.Operation, *args: Any, **kwargs: Any) -> Any:
            moments = [x for x in tree.flatten((args, kwargs)) if isinstance(x, Moments)]
            if isinstance(operation, keras.Model) and is_graph(operation):
                return self.follow(operation, moments)
            result = self._seed(operation, moments)
            outputs = operation._inbound_nodes[0].output_tensors
            return [replace(result, channels=tensor.shape[-1] or 1) if tensor.shape else result
                    for tensor in outputs]  # fmt: skip

        return graph._run_through_graph(inputs, call_fn=call)

    def _seed(self, operation: keras.Operation, inputs: list[Moments]) -> Moments:  # noqa: PLR0911 -- one for each kind of layer
        """Fill an operation's weights; return mean and variance of the operation's output."""
        first = inputs[0]
        if isinstance(operation, OperationLayer):
            operation = operation.operation
        if getattr(operation, "lora_enabled", False):
            # In a layer with LoRA, the kernel is not a weight but the sum of several weights.
            self._drawer.fill_by_name(operation.weights)
            return Moments()
        match operation:
            case layers.SeparableConv1D() | layers.SeparableConv2D():
                return self._seed_separable(operation, first)
            case layers.DepthwiseConv1D() | layers.DepthwiseConv2D():
                return self._seed_depthwise(operation, first)
            case layers.Dense() | layers.Conv1D() | layers.Conv2D() | layers.Conv3D():
                return self._seed_dense(operation, first)
            case layers.BatchNormalization():
                return self._seed_batch_norm(operation, first)
            case layers.LayerNormalization() | layers.GroupNormalization():
                self._drawer.fill_scale_and_offset(operation)
                return Moments()
            case layers.Normalization():
                # Mean and variance of this layer are part of the preprocessing, and are kept.
                self._drawer.keep(operation.weights)
        computed = _compute_moments(operation, inputs)
        weights = getattr(operation, "weights", [])
        self._drawer.fill_by_name(weights)
        if computed is not None:
            return computed
        return Moments() if weights else first

    def _seed_separable(self, layer: Any, first: Moments) -> Moments:
        """Fill the two kernels of a separable layer. No activation is between the kernels."""
        depth_scale = math.sqrt(1 / first.power / math.prod(layer.kernel_size))
        taps = self._drawer.fill_kernel(layer.depthwise_kernel, depth_scale)
        sums = taps.sum(axis=tuple(range(taps.ndim - 2))).reshape(-1)
        point_scale = math.sqrt(1 / len(sums))
        point = self._drawer.fill_kernel(layer.pointwise_kernel, point_scale)
        # Sums of integers are exact in any order.
        means = sums @ point.reshape(len(sums), -1)
        shift = means * (first.mean * depth_scale * point_scale / DRAW_DEVIATION**2)
        return self._seed_bias(layer, Moments(0.0, first.variance / first.power, shift=shift))

    def _seed_depthwise(self, layer: Any, first: Moments) -> Moments:
        scale = math.sqrt(1 / first.power / math.prod(layer.kernel_size))
        taps = self._drawer.fill_kernel(layer.kernel, scale)
        sums = taps.sum(axis=tuple(range(taps.ndim - 2))).reshape(-1)
        shift = sums * (first.mean * scale / DRAW_DEVIATION)
        return self._seed_bias(layer, Moments(0.0, first.variance / first.power, shift=shift))

    def _seed_dense(self, layer: Any, first: Moments) -> Moments:
        """Fill the kernel of a dense layer or of a convolution over all channels."""
        variance = _LOGIT_VARIANCE if layer in self._last else 1.0
        fan_in = max(1, math.prod(layer.kernel.shape[:-1]))
        scale = math.sqrt(variance / first.variance / fan_in)
        self._drawer.fill_kernel(layer.kernel, scale, centre=True)
        return self._seed_bias(layer, Moments(0.0, variance))

    def _seed_bias(self, layer: Any, x: Moments) -> Moments:
        """Fill the bias with values that cancel ``x.shift``; return the activation's moments."""
        if layer.use_bias:
            self._drawer.fill(layer.bias, -x.shift, 0.03)
            x = replace(x, shift=0.0)
        return activated(x, getattr(layer.activation, "__name__", "linear"))

    def _seed_batch_norm(self, layer: Any, first: Moments) -> Moments:
        mean, variance = first.mean + first.shift, first.variance
        self._drawer.fill(layer.moving_mean, mean, 0.03 * math.sqrt(variance))
        self._drawer.fill(layer.moving_variance, variance, 0.1 * variance)
        self._drawer.fill_scale_and_offset(layer)
        return Moments()


def _compute_moments(operation: keras.Operation, inputs: Sequence[Moments]) -> Moments | None:  # noqa: PLR0911 -- one for each kind of layer
    """Return mean and variance of an operation's output; None if the operation is unknown."""
    first = inputs[0]
    match operation:
        case layers.Normalization():
            mean, variance = (float(np.mean(x)) for x in (operation.mean, operation.variance))
            return Moments((first.mean - mean) / math.sqrt(variance), first.variance / variance)
        case layers.Rescaling():
            scale, offset = (float(np.mean(x)) for x in (operation.scale, operation.offset))
            return scaled(first, scale, offset)
        case layers.Activation() | layers.ReLU() | layers.LeakyReLU() | layers.PReLU():
            function = getattr(operation, "activation", None)
            return activated(first, getattr(function, "__name__", "relu"))
        case layers.GlobalAveragePooling2D() | layers.GlobalAveragePooling1D():
            sizes = operation._inbound_nodes[-1].input_tensors[0].shape[1:-1]
            return averaged(first, math.prod(size or 1 for size in sizes))
        case layers.AveragePooling2D():
            return averaged(first, math.prod(operation.pool_size))
        case layers.Concatenate():
            return concatenated(inputs)
        case layers.Multiply() if len(inputs) > 1:
            return multiplied(first, inputs[-1])
        case layers.Add() | layers.Subtract():
            return summed(inputs)
    is_sum = type(operation).__name__ in {"Add", "CustomScaleLayer"} and len(inputs) > 1
    is_weighted = bool(getattr(operation, "weights", []))
    return summed(inputs) if is_sum and not is_weighted else None
