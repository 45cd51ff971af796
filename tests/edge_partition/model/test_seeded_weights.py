"""Seeded weights answer different pictures with different, unsaturated scores."""

from __future__ import annotations

import numpy as np
import pytest

from edge_partition.model.keras_model import load_keras_model
from edge_partition.model.seeded_weights import keras, seed_weights

layers = keras.layers


@pytest.mark.slow
def test_pixels_that_an_application_does_not_rescale_do_not_saturate_the_scores() -> None:
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


def squeezing_network(blocks: int) -> keras.Model:
    """Return inverted residual blocks with squeeze and excite, as in EfficientNet."""
    x = start = keras.Input((32, 32, 3))
    for number in range(blocks):
        y = layers.Activation("silu")(layers.BatchNormalization()(layers.Conv2D(48, 1)(x)))
        y = layers.DepthwiseConv2D(3, padding="same")(y)
        y = layers.Activation("silu")(layers.BatchNormalization()(y))
        gate = layers.GlobalAveragePooling2D(keepdims=True)(y)
        gate = layers.Conv2D(48, 1, activation="sigmoid")(layers.Conv2D(4, 1)(gate))
        y = layers.BatchNormalization()(layers.Conv2D(16, 1)(layers.multiply([y, gate])))
        x = layers.add([x, y]) if number % 4 else y
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(start, layers.Dense(10, activation="softmax")(x))


def test_a_hundred_layers_neither_grow_nor_amplify_rounding() -> None:
    model = squeezing_network(24)
    seed_weights(model)
    blocks = np.random.default_rng(0).standard_normal((2, 4, 4, 3)).astype("float32")
    pictures = blocks.repeat(8, axis=1).repeat(8, axis=2)
    scores, moved = (np.asarray(model(x)) for x in (pictures, pictures * np.float32(1 + 1e-6)))
    assert 0 < np.abs(scores - moved).max() < 1e-5
    assert np.abs(scores[0] - scores[1]).max() > 0.01
    sums = keras.Model(model.inputs, model.layers[-3].output)
    assert np.asarray(sums(pictures)).std() < 4


def test_seeded_weights_are_the_same_each_time() -> None:
    first, second = squeezing_network(6), squeezing_network(6)
    seed_weights(first)
    seed_weights(second)
    seed_weights(second)
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        assert one.tobytes() == other.tobytes()


def test_inputs_of_different_sizes_are_measured_together() -> None:
    picture, numbers = keras.Input((16, 16, 3)), keras.Input((3,))
    x = layers.GlobalAveragePooling2D()(layers.BatchNormalization()(layers.Conv2D(4, 3)(picture)))
    y = layers.BatchNormalization()(layers.Dense(4)(numbers))
    model = keras.Model([picture, numbers], layers.Dense(2)(layers.Concatenate()([x, y])))
    seed_weights(model)
    for batch_norm in (model.layers[3], model.layers[4]):
        if isinstance(batch_norm, layers.BatchNormalization):
            assert 0.01 < np.mean(batch_norm.moving_variance) < 100
