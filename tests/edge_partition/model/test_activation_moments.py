"""Estimated moments are those of the values that the operators compute."""

from __future__ import annotations

import numpy as np
import pytest

from edge_partition.model.activation_moments import (
    Moments,
    activated,
    averaged,
    concatenated,
    multiplied,
    scaled,
    summed,
)


def normal(moments: Moments, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(200_000)
    return moments.mean + np.sqrt(moments.variance) * values


def check(found: Moments, values: np.ndarray) -> None:
    assert found.mean == pytest.approx(values.mean(), abs=0.02)
    assert found.variance == pytest.approx(values.var(), rel=0.03)


@pytest.mark.parametrize("mean", [0.0, 0.7, 2.0, 5.0])
def test_relu_of_a_shifted_input(mean: float) -> None:
    x = Moments(mean, 1.0)
    check(activated(x, "relu"), np.maximum(normal(x), 0))


def test_relu_scales_with_the_deviation_of_its_input() -> None:
    x = Moments(0.0, 9.0)
    found = activated(x, "relu")
    assert found.mean == pytest.approx(np.maximum(normal(x), 0).mean(), rel=0.02)
    assert found.variance == pytest.approx(np.maximum(normal(x), 0).var(), rel=0.02)


def test_silu_and_gelu_of_a_standard_normal_input() -> None:
    x = normal(Moments())
    check(activated(Moments(), "silu"), x / (1 + np.exp(-x)))
    tanh = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
    check(activated(Moments(), "gelu"), 0.5 * x * (1 + tanh))


def test_an_unknown_activation_is_the_identity() -> None:
    x = Moments(0.3, 2.0, channels=4)
    assert activated(x, "linear") is x


def test_scaling_sums_and_products() -> None:
    x, y = Moments(0.5, 2.0), Moments(-1.0, 0.5)
    check(scaled(x, 0.5, 1.0), normal(x) * 0.5 + 1)
    check(summed([x, y]), normal(x) + normal(y, seed=1))
    check(multiplied(x, y), normal(x) * normal(y, seed=1))


def test_a_concatenation_weighs_its_parts_by_their_channels() -> None:
    parts = [Moments(0.0, 1.0, channels=1), Moments(4.0, 1.0, channels=3)]
    values = np.concatenate([normal(parts[0]), *(normal(parts[1], seed) for seed in (1, 2, 3))])
    check(concatenated(parts), values)


def test_an_average_keeps_the_mean_and_a_quarter_of_the_variance_at_least() -> None:
    x = Moments(0.5, 2.0)
    assert averaged(x, 1) == x
    assert averaged(x, 8) == Moments(0.5, 1.0)
    assert averaged(x, 1000) == Moments(0.5, 0.5)
