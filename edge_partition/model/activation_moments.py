"""Estimate mean and variance of activations from the operators that compute the activations.

The estimates assume independent, normally distributed values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

#: Mean and variance of an activation function's output for a standard normal input, by the name of
#: the function; computed by integration. All other functions are treated as the identity.
_ACTIVATIONS = {
    "relu": (0.399, 0.341),
    "relu6": (0.399, 0.341),
    "silu": (0.207, 0.313),
    "hard_silu": (0.167, 0.306),
    "gelu": (0.282, 0.345),
}
_GATES = {"sigmoid", "hard_sigmoid"}
#: Each row has three numbers: the mean of a normal variable of variance 1, and mean and variance of
#: ReLU of this variable. Means above 0 occur in the sums of first-generation residual networks,
#: because the terms of these sums are results of ReLU.
_RELU_OF_MEAN = (
    (0.0, 0.399, 0.341), (0.5, 0.698, 0.553), (1.0, 1.083, 0.751), (1.5, 1.529, 0.888),
    (2.0, 2.008, 0.960), (3.0, 3.0, 1.0),
)  # fmt: skip


@dataclass(frozen=True)
class Moments:
    """Expected mean and variance of a tensor's elements.

    Attributes:
        mean: Mean of all elements.
        variance: Variance of all elements.
        channels: Size of the last axis. :func:`concatenated` uses this size as a weight.
        shift: Difference of each channel's mean from ``mean``, of shape ``(channels,)``; 0 if the
            channels have the same mean.
    """

    mean: float = 0.0
    variance: float = 1.0
    channels: int = 1
    shift: np.ndarray | float = 0.0

    @property
    def power(self) -> float:
        """Second moment: mean of the squared elements."""
        return self.mean**2 + self.variance


def scaled(x: Moments, scale: float, offset: float) -> Moments:
    """Return mean and variance of ``x * scale + offset``."""
    return Moments(x.mean * scale + offset, x.variance * scale**2)


def summed(terms: Sequence[Moments]) -> Moments:
    """Return mean and variance of the sum of independent tensors."""
    return Moments(sum(x.mean for x in terms), sum(x.variance for x in terms))


def multiplied(x: Moments, gate: Moments) -> Moments:
    """Return mean and variance of the element-wise product of two independent tensors."""
    mean = x.mean * gate.mean
    return Moments(mean, x.power * gate.power - mean**2)


def averaged(x: Moments, elements: int) -> Moments:
    """Return mean and variance of averages over ``elements`` neighbouring elements of ``x``.

    Neighbours are correlated, so the variance is not divided by ``elements``. The divisor is
    ``elements / 4``, limited to the range from 1 to 4.
    """
    return Moments(x.mean, x.variance / min(4.0, max(1.0, elements / 4)))


def concatenated(parts: Sequence[Moments]) -> Moments:
    """Return mean and variance of the concatenation of ``parts`` along the last axis."""
    total = sum(x.channels for x in parts)
    mean = sum(x.mean * x.channels for x in parts) / total
    power = sum(x.power * x.channels for x in parts) / total
    return Moments(mean, power - mean**2)


def activated(x: Moments, function: str) -> Moments:
    """Return mean and variance of an activation function's output.

    The estimate for ``relu`` takes the mean of ``x`` into account. The estimates for the other
    functions assume that ``x`` has a mean of 0.

    Args:
        x: Mean and variance of the function's input.
        function: Keras's name of the function, such as ``relu``. An unknown function is treated as
            the identity.
    """
    if function in _GATES:
        return Moments(0.5, 0.04)
    if function not in _ACTIVATIONS:
        return x
    mean, variance = _ACTIVATIONS[function]
    deviation = math.sqrt(x.variance)
    if function == "relu" and deviation:
        mean, variance = _rectified(x.mean / deviation)
    return Moments(mean * deviation, variance * x.variance)


def _rectified(mean: float) -> tuple[float, float]:
    """Return mean and variance of ``relu(x)``.

    The variable ``x`` is normally distributed, with the mean ``mean`` and a variance of 1.
    The results are interpolated linearly in :data:`_RELU_OF_MEAN`.
    """
    for (start, *low), (stop, *high) in pairwise(_RELU_OF_MEAN):
        if mean <= stop:
            part = max(0.0, (mean - start) / (stop - start))
            return low[0] + part * (high[0] - low[0]), low[1] + part * (high[1] - low[1])
    return mean, 1.0
