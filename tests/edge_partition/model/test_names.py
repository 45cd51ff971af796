"""A name that TensorFlow does not allow is unchanged after the conversion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from chained_slices import run_chained, run_whole

from edge_partition.model.convert_tflite import ConversionError, convert_tflite
from edge_partition.model.escape_names import escape_layer_name, escape_name, restore_names
from edge_partition.model.seeded_weights import keras, seed_weights
from edge_partition.tflite.read_tflite import read_tflite

if TYPE_CHECKING:
    from collections.abc import Callable

layers = keras.layers

NAMES = ["Länge (cm)", "日本", "_x", "-y", "a.-b", "a.-e4-b", "a>b", "a;b", "aus:0", "50 %", "a\\b"]


@pytest.mark.parametrize("name", [*NAMES, "plain_name.1-2", "a/b"])
def test_a_name_is_the_same_after_escaping_and_restoring(name: str) -> None:
    import tensorflow as tf  # noqa: PLC0415 -- after Keras's settings

    for escape in (escape_name, escape_layer_name):
        assert restore_names(f"m/{escape(name)}/MatMul") == f"m/{name}/MatMul"
    graph = tf.compat.v1.GraphDef()
    graph.node.add(name=escape_name(name), op="NoOp")
    with tf.Graph().as_default():
        tf.graph_util.import_graph_def(graph, name="")
    assert "/" not in escape_layer_name(name)
    assert (escape_name(name) == name) == (name in ("plain_name.1-2", "a/b"))


def dense(name: str) -> keras.Model:
    x = keras.Input((4,), name=name)
    y = layers.Dense(3, activation="relu", name=f"{name} eins")(x)
    return keras.Model(x, layers.Dense(2, name=f"{name} aus")(y), name=f"{name} m")


def many() -> keras.Model:
    """One input, one hidden layer and one output of each name."""
    inputs = [keras.Input((4,), name=name) for name in NAMES]
    hidden = [
        layers.Dense(3, activation="relu", name=f"{name} eins")(x)
        for name, x in zip(NAMES, inputs, strict=True)
    ]
    outputs = [
        layers.Dense(2, name=f"{name} aus")(y) for name, y in zip(NAMES, hidden, strict=True)
    ]
    return keras.Model(inputs, outputs, name="_m ö")


def nested() -> keras.Model:
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, activation="tanh", name="in nen"), layers.Dense(3)],
        name="ver schachtelt",
    )
    x = keras.Input((4,), name="ein gang")
    return keras.Model(x, layers.Dense(2, name="aus gang")(inner(x)))


def stateful() -> keras.Model:
    x = keras.Input(batch_shape=(1, 5, 4), name="ein gang")
    y = layers.LSTM(8, stateful=True, name="l l")(x)
    return keras.Model(x, layers.Dense(3, name="aus gang")(y), name="m m")


def dictionaries() -> keras.Model:
    a, b = keras.Input((4,), name="z ä"), keras.Input((3,), name="a ß")
    outputs = {
        "o p": layers.Dense(2, name="erste S")(a),
        "a b": layers.Dense(3, name="zweite S")(b),
    }
    return keras.Model({"z ä": a, "a ß": b}, outputs)


@pytest.mark.parametrize(
    "build",
    [many, lambda: dense("50 %"), nested, stateful, dictionaries],
    ids=["many", "percent", "nested", "stateful", "dictionaries"],
)
def test_inputs_outputs_and_layers_keep_their_names(build: Callable[[], keras.Model]) -> None:
    model = build()
    seed_weights(model)
    names = [layer.name for layer in model._flatten_layers()]
    content = convert_tflite(model)
    assert [layer.name for layer in model._flatten_layers()] == names
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    assert [x["name"] for x in inputs] == [x.name for x in model.inputs]
    given = model._outputs_struct
    expected = sorted(given) if isinstance(given, dict) else model.output_names
    assert [x["name"] for x in outputs] == expected
    parts = {
        part
        for x in interpreter.get_tensor_details()
        for path in x["name"].split(";")
        for part in path.split("/")
    }
    for layer in model.layers:
        if layer.weights and ";" not in layer.name:
            assert layer.name in parts
    rng = np.random.default_rng(0)
    values = [rng.uniform(0.1, 1, x["shape"]).astype(np.float32) for x in inputs]
    for detail, value in zip(inputs, values, strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    expected = keras.tree.flatten(
        model(keras.tree.pack_sequence_as(model._inputs_struct, values), training=False)
    )
    for detail, value in zip(outputs, expected, strict=True):
        assert np.abs(value).max() > 1e-3
        np.testing.assert_allclose(
            interpreter.get_tensor(detail["index"]), value, rtol=1e-4, atol=1e-6
        )


def test_a_model_with_escaped_names_splits_exactly() -> None:
    model = dense("Länge (cm)")
    seed_weights(model)
    content = convert_tflite(model)
    tflite = read_tflite(content, name="named")
    assert "Länge (cm) eins" in {op.layer.rpartition("/")[2] for op in tflite.graph.operators}
    image, other = (
        np.random.default_rng(seed).uniform(0, 1, (1, 4)).astype(np.float32).tobytes()
        for seed in (0, 1)
    )
    whole = run_whole(tflite, image)
    assert whole != run_whole(tflite, other), "blind comparison"
    assert run_chained(tflite, [1], image) == whole


def test_an_error_has_the_exact_name() -> None:
    class Odd(layers.Layer):
        def call(self, x: Any) -> Any:
            return keras.ops.i0(x)

    x = keras.Input((4,), name="x")
    model = keras.Model(x, Odd(name="größte Zahl")(x), name="Modell 1")
    with pytest.raises(
        ConversionError, match=r"^Modell 1 cannot .* BesselI0 in layer Modell 1/größte Zahl"
    ) as raised:
        convert_tflite(model)
    assert raised.value.layers == ("Modell 1/größte Zahl",)
    assert raised.value.log_path is not None
    raised.value.log_path.unlink()
