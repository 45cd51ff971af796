"""Seeded weights answer different pictures with different, unsaturated scores."""

from __future__ import annotations

import numpy as np
import pytest

from edge_partition.model.keras_model import load_keras_model
from edge_partition.model.seeded_weights import keras, seed_weights

layers = keras.layers


@pytest.mark.slow
def test_pixels_that_an_application_leaves_wide_do_not_saturate_it() -> None:
    model = load_keras_model("ResNet50", weights="seeded", input_shapes={"": (64, 64, 3)}).model
    generator = np.random.default_rng(0)
    blocks = generator.uniform(0, 255, (2, 8, 8, 3)).repeat(8, axis=1).repeat(8, axis=2)
    pictures = keras.applications.resnet.preprocess_input(blocks.astype("float32"))
    scores = [np.asarray(model(picture[None]))[0] for picture in pictures]
    for each in scores:
        assert np.unique(each).size > 900
        assert 1e-3 < each.max() < 0.9
    assert np.mean(scores[0] == scores[1]) < 0.01


def test_a_deep_residual_network_stays_in_range() -> None:
    x = start = keras.Input((16,))
    for _ in range(30):
        x = layers.ReLU()(layers.Add()([x, layers.BatchNormalization()(layers.Dense(16)(x))]))
    x = layers.Dense(10, activation="softmax")(x)
    model = keras.Model(start, x)
    seed_weights(model)
    batch = np.random.default_rng(0).standard_normal((20, 16)).astype("float32")
    scores = np.asarray(model(batch))
    assert scores.max() < 0.999
    assert scores.std(axis=0).min() > 1e-4
