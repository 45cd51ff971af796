"""Files and models of Keras 2, written by the package ``tf-keras``."""

from __future__ import annotations

from typing import Any

import numpy as np

from people_models.spec import KERAS2, Lazy, people_model

K, L, tf = Lazy("tf_keras"), Lazy("tf_keras.layers"), Lazy("tensorflow")


def _keras2(**details: Any) -> Any:
    details = {"form": "h5", "needs": (KERAS2,), "keras2": True, **details}
    return people_model("Keras 2", KERAS2, **details)


@_keras2()
def k2_sequential() -> Any:
    """A Sequential .h5 without Input, batch normalization inside."""
    return K.Sequential(
        [
            L.Conv2D(8, 3, activation="relu", input_shape=(28, 28, 1)),
            L.BatchNormalization(),
            L.MaxPooling2D(),
            L.Flatten(),
            L.Dense(10, activation="softmax"),
        ]
    )


@_keras2()
def k2_depthwise() -> Any:
    """DepthwiseConv2D, whose saved groups=1 Keras 3 refuses, .h5."""
    inputs = K.Input((32, 32, 3))
    x = L.ReLU(6.0)(L.BatchNormalization()(L.DepthwiseConv2D(3, padding="same")(inputs)))
    return K.Model(inputs, L.Dense(3)(L.GlobalAveragePooling2D()(x)))


@_keras2(form="keras")
def k2_lstm_keras_file() -> Any:
    """Bidirectional LSTM in Keras 2's .keras file."""
    inputs = K.Input((10, 4))
    return K.Model(inputs, L.Dense(2)(L.Bidirectional(L.LSTM(8))(inputs)))


@_keras2(low=0, high=255)
def k2_tf_operations() -> Any:
    """TFOpLambda: pixels scaled by bare operators, .h5."""
    inputs = K.Input((32, 32, 3))
    x = L.Conv2D(4, 3, activation="relu")(inputs / 127.5 - 1.0)
    return K.Model(inputs, L.Dense(4)(L.Flatten()(tf.nn.avg_pool2d(x, 2, 2, "VALID"))))


@_keras2()
def k2_slashes() -> Any:
    """Slashes in layer names, as ported models have, .h5."""
    x = inputs = K.Input((32, 32, 3))
    for block in ("block1", "block2"):
        x = L.Conv2D(8, 3, strides=2, name=f"{block}/conv")(x)
        x = L.Activation("relu", name=f"{block}/relu")(x)
    return K.Model(inputs, L.Dense(5, name="head/fc")(L.GlobalMaxPooling2D()(x)))


@_keras2(form="saved_model")
def k2_saved_model() -> Any:
    """A SavedModel folder, as model.save(FOLDER) wrote it until 2.15."""
    inputs = K.Input((24, 24, 3), name="picture")
    x = L.SeparableConv2D(8, 3, activation="swish")(inputs)
    x = L.GlobalAveragePooling2D()(x)
    return K.Model(inputs, [L.Dense(3, name="kind")(x), L.Dense(2, name="place")(x)])


@_keras2(form="saved_model")
def k2_gru_saved_model() -> Any:
    """A recurrent SavedModel folder: GRU over a series."""
    inputs = K.Input((12, 5), batch_size=1)
    return K.Model(inputs, L.Dense(3)(L.GRU(8, return_sequences=True)(inputs)))


@_keras2(low=-1, high=1)
def k2_mobilenet() -> Any:
    """Keras 2's own MobileNet (alpha 0.25) saved as .h5."""
    return K.applications.MobileNet((96, 96, 3), alpha=0.25, weights=None, classes=7)


@_keras2(form="function")
def k2_function() -> Any:
    """A tf_keras model that a function returns: multi-head attention."""
    inputs = K.Input((8, 16))
    x = L.LayerNormalization()(inputs + L.MultiHeadAttention(2, 8)(inputs, inputs))
    return K.Model(inputs, L.Dense(2)(L.GlobalAveragePooling1D()(x)))


@_keras2(form="function", refused=True)
def k2_subclassed() -> Any:
    """A subclassed tf_keras model, called once."""

    class Small(K.Model):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.out = L.Dense(8, activation="relu"), L.Dense(3)

        def call(self, x: Any) -> Any:
            return self.out(self.hidden(x))

    model = Small()
    model(np.ones((1, 6), "float32"))
    return model


@people_model("Keras 2", "after TensorFlow's guide to SavedModel", form="saved_model")
def plain_module() -> Any:
    """A tf.Module without Keras: matrix products under tf.function."""
    generator = np.random.default_rng(0)

    class Module(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = [
                tf.Variable(generator.normal(size=size).astype("float32"))
                for size in ((8, 16), (16, 4))
            ]

        @tf.function(input_signature=[tf.TensorSpec([None, 8], tf.float32, "features")])
        def __call__(self, features: Any) -> Any:
            hidden = tf.nn.relu(features @ self.weights[0])
            return {"scores": tf.nn.softmax(hidden @ self.weights[1])}

    return Module()


@people_model("Keras 2", "after Keras's guide to export", form="saved_model")
def keras3_export() -> Any:
    """A Keras 3 model exported with model.export(FOLDER), for serving."""
    keras = Lazy("keras")
    inputs = keras.Input((20, 6))
    x = keras.layers.Conv1D(8, 3, activation="relu")(inputs)
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalMaxPooling1D()(x)))
