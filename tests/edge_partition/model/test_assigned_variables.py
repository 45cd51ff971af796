"""A model that assigns variables at inference gives the outputs of ``predict`` in every call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edge_partition.model.convert_tflite import ConversionError, convert_tflite, freeze_function
from edge_partition.model.seeded_weights import keras, seed_weights
from edge_partition.tflite.read_tflite import read_tflite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

layers = keras.layers
_CALLS = 3


class Count(layers.Layer):
    """Multiplies by the number of calls so far."""

    def __init__(self, dtype_of_count: str, **options: Any) -> None:
        super().__init__(**options)
        self.dtype_of_count = dtype_of_count

    def build(self, _: tuple[int, ...]) -> None:
        self.calls = self.add_weight(
            shape=(), initializer="zeros", dtype=self.dtype_of_count, trainable=False
        )

    def call(self, x: Any) -> Any:
        self.calls.assign(self.calls + 1)
        return x * keras.ops.cast(self.calls, "float32")


class Trained(layers.Layer):
    """A normalization that runs in training mode, also at inference."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.norm = layers.BatchNormalization()

    def call(self, x: Any) -> Any:
        return self.norm(x, training=True)


class Average(layers.Layer):
    """Adds a constant variable to a variable that the layer assigns."""

    def build(self, shape: tuple[int, ...]) -> None:
        self.kept = self.add_weight(shape=shape[1:], initializer="ones", trainable=False)
        self.mean = self.add_weight(shape=shape[1:], initializer="zeros", trainable=False)

    def call(self, x: Any) -> Any:
        self.mean.assign(0.5 * self.mean + 0.5 * x[0])
        return self.mean + self.kept + x


class Sample(layers.Layer):
    """The sampling layer of a variational autoencoder."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.generator = keras.random.SeedGenerator(3)

    def call(self, x: Any) -> Any:
        return x + keras.random.normal(keras.ops.shape(x), seed=self.generator)


def steps(*, bidirectional: bool = False, kind: type[layers.Layer] = layers.LSTM) -> keras.Model:
    x = keras.Input(batch_shape=(1, 3, 4), name="x")
    recurrent = kind(8, stateful=True, name="recurrent")
    layer = layers.Bidirectional(recurrent, name="both") if bidirectional else recurrent
    return keras.Model(x, layers.Dense(3, name="out")(layer(x)), name="m")


def two_states() -> keras.Model:
    x = keras.Input(batch_shape=(1, 3, 4), name="x")
    y = layers.GRU(6, stateful=True, return_sequences=True, name="first")(x)
    z = layers.LSTM(8, stateful=True, name="second")(y)
    # The order of the outputs is not the order of their names.
    return keras.Model(x, [layers.Dense(2, name="b")(z), layers.Dense(3, name="a")(y)], name="m")


def of(layer: Callable[[], layers.Layer], shape: tuple[int, ...] = (4,)) -> keras.Model:
    x = keras.Input(shape, name="x")
    return keras.Model(x, layer()(x), name="m")


def images(*make: Callable[[], layers.Layer]) -> keras.Model:
    x = y = keras.Input((12, 12, 3), name="x")
    for layer in make:
        y = layer()(y)
    return keras.Model(x, layers.Flatten()(layers.Conv2D(2, 3)(y)), name="m")


def inputs_of(model: keras.Model) -> list[np.ndarray]:
    shape = (_CALLS, 1, *model.inputs[0].shape[1:])
    return list(np.random.default_rng(5).uniform(0, 1, shape).astype(np.float32))


def run_keras(model: keras.Model, inputs: list[np.ndarray]) -> list[list[np.ndarray]]:
    """Return the model's outputs for consecutive inputs; the state is restored afterwards."""
    state = [x.numpy().copy() for x in model.non_trainable_variables]
    found = [[np.asarray(y) for y in keras.tree.flatten(model(x, training=False))] for x in inputs]
    for variable, before in zip(model.non_trainable_variables, state, strict=True):
        variable.assign(before)
    return found


def run_tflite(content: bytes, inputs: list[np.ndarray]) -> list[list[np.ndarray]]:
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    found = []
    for x in inputs:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        found.append([interpreter.get_tensor(y["index"]) for y in interpreter.get_output_details()])
    return found


def operators(content: bytes) -> set[str]:
    return {x["op_name"] for x in Interpreter(model_content=content)._get_ops_details()}


@pytest.mark.parametrize(
    "build",
    [
        steps,
        lambda: steps(kind=layers.GRU),
        lambda: steps(bidirectional=True),
        two_states,
        lambda: of(lambda: Count("float32", name="count")),
        lambda: of(lambda: Count("int32", name="count")),
        lambda: of(lambda: Average(name="average")),
    ],
    ids=["lstm", "gru", "bidirectional", "two", "count", "count_int32", "average"],
)
def test_a_state_is_kept_from_call_to_call(build: Callable[[], keras.Model]) -> None:
    model = build()
    seed_weights(model)
    state = [x.numpy().copy() for x in model.non_trainable_variables]
    content = convert_tflite(model)
    for x, before in zip(model.non_trainable_variables, state, strict=True):
        assert np.array_equal(x.numpy(), before), "the conversion changed the state"
    fresh = Interpreter(model_content=content)
    assert [x["name"] for x in fresh.get_output_details()] == model.output_names
    assert fresh.get_input_details()[0]["name"] == "x"
    assert {"VAR_HANDLE", "ASSIGN_VARIABLE"} <= operators(content)
    inputs = inputs_of(model)
    expected = run_keras(model, inputs)
    (without_state,) = run_keras(model, inputs[-1:])
    assert any(
        np.abs(x - y).max() > 2e-3 for x, y in zip(expected[-1], without_state, strict=True)
    ), "blind comparison"
    for a, b in zip(run_tflite(content, inputs), expected, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def test_a_state_is_kept_as_predict_keeps_it() -> None:
    model = steps()
    seed_weights(model)
    content = convert_tflite(model)
    inputs = inputs_of(model)
    expected = [model.predict(x, verbose=0) for x in inputs]
    model.layers[1].reset_states()
    assert np.abs(model.predict(inputs[-1], verbose=0) - expected[-1]).max() > 2e-3
    for (a,), b in zip(run_tflite(content, inputs), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_layers_around_a_state_can_be_cut_off() -> None:
    x = keras.Input(batch_shape=(1, 3, 4), name="x")
    y = layers.Dense(6, activation="tanh", name="before")(x)
    y = layers.LSTM(8, stateful=True, name="memory")(y)
    y = layers.Dense(3, name="out")(layers.Dense(9, activation="relu", name="after")(y))
    model = keras.Model(x, y, name="m")
    seed_weights(model)
    content = convert_tflite(model)
    graph = read_tflite(content, name="m").graph
    kinds = [op.kind for op in graph.operators]
    variables = [n for n, kind in enumerate(kinds) if kind in ("VAR_HANDLE", "ASSIGN_VARIABLE")]
    assert {kind for kind in kinds[variables[0] : variables[-1]] if "VARIABLE" not in kind} == {
        "VAR_HANDLE",
        "WHILE",
    }
    assert any(cut <= variables[0] for cut in graph.cuts)
    assert any(cut > variables[-1] for cut in graph.cuts)
    inputs = inputs_of(model)
    expected = run_keras(model, inputs)
    for (a,), (b,) in zip(run_tflite(content, inputs), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_saved_function_keeps_its_state(tmp_path: Path) -> None:
    import tensorflow as tf  # noqa: PLC0415 -- after Keras's settings

    class Step(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sum = tf.Variable([[1.0, 2.0]])
            self.gain = tf.Variable([[3.0, 5.0]])

        @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32)], autograph=False)
        def step(self, x: Any) -> dict[str, Any]:
            self.sum.assign_add(x)
            return {"y": self.sum * self.gain}

    module = Step()
    tf.saved_model.save(module, str(tmp_path), signatures=module.step)
    loaded = tf.saved_model.load(str(tmp_path))
    frozen = freeze_function(
        loaded.signatures["serving_default"],
        name="step",
        inputs=[("x", tf.TensorSpec((1, 2), tf.float32))],
        output_names=["y"],
    )
    ones = [np.ones((1, 2), np.float32)] * 3
    found = [y.tolist() for (y,) in run_tflite(convert_tflite(frozen), ones)]
    assert found == [[[6.0, 15.0]], [[9.0, 20.0]], [[12.0, 25.0]]]


def test_int8_keeps_the_state_too() -> None:
    model = steps()
    seed_weights(model)
    rng = np.random.default_rng(0)
    examples = [[rng.uniform(0, 1, (1, 3, 4)).astype(np.float32)] for _ in range(8)]
    content = convert_tflite(model, quantization="int8", calibration=examples)
    inputs = inputs_of(model)
    found, expected = run_tflite(content, inputs), run_keras(model, inputs)
    assert np.abs(expected[0][0] - expected[-1][0]).max() > 0.1
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a[0], b[0], atol=0.05 * np.abs(b[0]).max() + 0.02)


@pytest.mark.parametrize(
    "build",
    [
        lambda: images(lambda: layers.RandomHue(0.1)),
        lambda: images(lambda: layers.RandomGrayscale(0.1), lambda: layers.RandomSaturation(0.1)),
        lambda: images(layers.RandomFlip, lambda: layers.RandomRotation(0.1)),
        lambda: images(lambda: Trained(name="norm")),
        lambda: of(lambda: layers.Dropout(0.5)),
    ],
    ids=["hue", "saturation", "flip", "norm", "dropout"],
)
def test_variables_that_no_output_depends_on_are_removed(build: Callable[[], keras.Model]) -> None:
    model = build()
    seed_weights(model)
    content = convert_tflite(model)
    assert not operators(content) & {"VAR_HANDLE", "ASSIGN_VARIABLE", "RANDOM_UNIFORM"}
    inputs = inputs_of(model)
    found, expected = run_tflite(content, inputs), run_keras(model, inputs)
    assert np.abs(expected[0][0] - expected[1][0]).max() > 1e-2, "blind comparison"
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a[0], b[0], rtol=1e-4, atol=1e-5)


def test_random_numbers_that_tflite_cannot_draw_are_named_with_their_layer() -> None:
    x = keras.Input((4,), name="x")
    model = keras.Model(x, layers.Dense(2)(Sample(name="sampling")(x)), name="vae")
    with pytest.raises(
        ConversionError,
        match="cannot draw the random numbers of StatelessRandomNormalV2 in layer vae/sampling",
    ) as raised:
        convert_tflite(model)
    assert raised.value.layers == ("vae/sampling",)
    assert raised.value.log_path is not None
    raised.value.log_path.unlink()
