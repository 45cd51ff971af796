"""The forms of ``keras.Sequential`` in tutorials and in users' files."""

from __future__ import annotations

from typing import Any

import numpy as np

from people_models.spec import Lazy, people_model

keras, L = Lazy("keras"), Lazy("keras.layers")
_KIND = "Sequential"
_TUTORIALS = "after TensorFlow's tutorial"
_EXAMPLES = "after keras.io's example"


@people_model(_KIND, f"{_TUTORIALS} quickstart for beginners")
def quickstart_mlp() -> Any:
    """Handwritten digits, a plain Sequential of [28, 28]."""
    return keras.Sequential(
        [
            keras.Input((28, 28)),
            L.Flatten(),
            L.Dense(128, activation="relu"),
            L.Dropout(0.2),
            L.Dense(10),
        ]
    )


@people_model(_KIND, f"{_EXAMPLES} mnist_convnet", form="h5")
def mnist_convnet() -> Any:
    """Handwritten digits, convolutions and pooling, saved as .h5."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            L.Conv2D(32, 3, activation="relu"),
            L.MaxPooling2D(),
            L.Conv2D(64, 3, activation="relu"),
            L.MaxPooling2D(),
            L.Flatten(),
            L.Dropout(0.5),
            L.Dense(10, activation="softmax"),
        ]
    )


@people_model(_KIND, f"{_TUTORIALS} CNN (CIFAR images)", form="h5")
def cifar_cnn() -> Any:
    """Small pictures; the first layer has input_shape, as in Keras 2's tutorials."""
    return keras.Sequential(
        [
            L.Conv2D(32, (3, 3), activation="relu", input_shape=(32, 32, 3)),
            L.MaxPooling2D((2, 2)),
            L.Conv2D(64, (3, 3), activation="relu"),
            L.MaxPooling2D((2, 2)),
            L.Conv2D(64, (3, 3), activation="relu"),
            L.Flatten(),
            L.Dense(64, activation="relu"),
            L.Dense(10),
        ]
    )


@people_model(_KIND, "after keras.io's guide to Sequential models")
def called_on_data() -> Any:
    """No Input: built by calling it on data, then saved."""
    model = keras.Sequential(
        [L.Dense(16, activation="relu"), L.Dense(8, activation="relu"), L.Dense(3)]
    )
    model(np.ones((2, 12), "float32"))
    return model


@people_model(_KIND, "after keras.io's guide to Sequential models", form="h5")
def added_one_by_one() -> Any:
    """Layers added one at a time, built by build()."""
    model = keras.Sequential(name="my_sequential")
    for units in (64, 32):
        model.add(L.Dense(units, activation="relu"))
        model.add(L.BatchNormalization())
    model.add(L.Dense(10, activation="softmax"))
    model.build((None, 784))
    return model


@people_model(
    _KIND, "after keras.io's guide to Sequential models", form="function", shapes={"": (12,)}
)
def never_built() -> Any:
    """Neither Input nor a call; the command line gives the shape."""
    return keras.Sequential([L.Dense(16, activation="relu"), L.Dense(8), L.Dense(3)])


@people_model(_KIND, "after Keras's guide to transfer learning")
def nested_sequential() -> Any:
    """A Sequential of Sequentials."""
    features = keras.Sequential(
        [L.Conv2D(8, 3, strides=2, activation="relu"), L.Conv2D(16, 3, activation="relu")],
        name="features",
    )
    head = keras.Sequential([L.GlobalAveragePooling2D(), L.Dense(4)], name="head")
    return keras.Sequential([keras.Input((32, 32, 3)), L.Rescaling(1 / 255), features, head])


@people_model(_KIND, f"{_TUTORIALS} transfer learning", low=0, high=255)
def functional_inside() -> Any:
    """A Sequential with MobileNetV2 (alpha 0.35), a functional model, inside."""
    base = keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, include_top=False, weights=None)
    return keras.Sequential(
        [
            keras.Input((96, 96, 3)),
            L.Rescaling(1 / 127.5, offset=-1),
            base,
            L.GlobalAveragePooling2D(),
            L.Dropout(0.2),
            L.Dense(2),
        ]
    )


@people_model(_KIND, f"{_TUTORIALS} image classification (flowers)", low=0, high=255)
def flowers_augmented() -> Any:
    """Random flips, rotations and zooms in front, as the tutorial saves it."""
    augment = keras.Sequential(
        [L.RandomFlip("horizontal"), L.RandomRotation(0.1), L.RandomZoom(0.1)]
    )
    layers = [keras.Input((90, 90, 3)), augment, L.Rescaling(1.0 / 255)]
    for filters in (16, 32, 64):
        layers += [L.Conv2D(filters, 3, padding="same", activation="relu"), L.MaxPooling2D()]
    layers += [L.Dropout(0.2), L.Flatten(), L.Dense(64, activation="relu"), L.Dense(5)]
    return keras.Sequential(layers)


@people_model(_KIND, f"{_TUTORIALS} regression (fuel efficiency)")
def fuel_regression() -> Any:
    """Tabular, with a Normalization adapted to data in front."""
    data = np.random.default_rng(0).normal(5, 3, (64, 9)).astype("float32")
    normalize = L.Normalization(axis=-1)
    normalize.adapt(data)
    model = keras.Sequential(
        [normalize, L.Dense(64, activation="relu"), L.Dense(64, activation="relu"), L.Dense(1)]
    )
    model.predict(data[:10], verbose=0)
    return model


@people_model(_KIND, "after Keras's guide to the functional API", form="h5")
def sequential_in_functional() -> Any:
    """A functional model that calls a Sequential twice, once for each input."""
    shared = keras.Sequential([keras.Input((16,)), L.Dense(8, activation="relu"), L.Dense(4)])
    left, right = keras.Input((16,), name="left"), keras.Input((16,), name="right")
    return keras.Model([left, right], L.Dense(2)(L.Concatenate()([shared(left), shared(right)])))


@people_model(_KIND, f"{_EXAMPLES} addition_rnn")
def addition_rnn() -> Any:
    """Addition of numbers written as characters: LSTM, RepeatVector, LSTM, Dense."""
    return keras.Sequential(
        [
            keras.Input((7, 12)),
            L.LSTM(32),
            L.RepeatVector(4),
            L.LSTM(32, return_sequences=True),
            L.Dense(12, activation="softmax"),
        ]
    )
