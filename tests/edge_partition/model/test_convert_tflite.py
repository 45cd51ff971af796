"""A converted file computes what the Keras model computes, under the same names."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
import textwrap
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edge_partition.facts.find_facts import StatedFacts, find_facts
from edge_partition.model.convert_tflite import (
    ConversionError,
    convert_tflite,
    freeze_function,
    freeze_model,
)
from edge_partition.model.seeded_weights import keras, seed_weights
from edge_partition.model.wrap_operations import wrap_operations
from edge_partition.tflite.read_tflite import read_tflite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

layers = keras.layers
ops = keras.ops


def examples(model: keras.Model, seed: int) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.uniform(0, 1, (1, *x.shape[1:])).astype(x.dtype) for x in model.inputs]


def run_keras(model: keras.Model, inputs: list[np.ndarray]) -> list[np.ndarray]:
    structure = keras.tree.pack_sequence_as(model.input, inputs)
    return [np.asarray(x) for x in keras.tree.flatten(model(structure, training=False))]


def load(content: bytes) -> Interpreter:
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    return interpreter


def run_tflite(interpreter: Interpreter, inputs: list[np.ndarray]) -> list[np.ndarray]:
    for detail, value in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    return [interpreter.get_tensor(x["index"]) for x in interpreter.get_output_details()]


def names(details: list[dict[str, Any]]) -> list[str]:
    return [detail["name"] for detail in details]


def check_equal(model: keras.Model, content: bytes, tolerance: float = 1e-4) -> None:
    interpreter = load(content)
    inputs, others = examples(model, 0), examples(model, 1)
    expected = run_keras(model, inputs)
    for a, b in zip(expected, run_keras(model, others), strict=True):
        assert np.abs(a - b).max() > 10 * tolerance * np.abs(a).max(), "blind comparison"
    for a, b in zip(expected, run_tflite(interpreter, inputs), strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= tolerance * np.abs(a).max()


def small_model() -> keras.Model:
    x = keras.Input((8, 8, 3), name="image")
    y = layers.Conv2D(6, 3, name="stem")(x)
    y = ops.relu6(layers.BatchNormalization(name="norm")(y) + 3.0) * (1.0 / 6.0)
    y = layers.Flatten(name="flat")(layers.Conv2D(32, 3, activation="relu", name="conv")(y))
    model = keras.Model(x, layers.Dense(5, name="scores")(y), name="small")
    seed_weights(model)
    return wrap_operations(model)


def two_in_four_out() -> keras.Model:
    zebra, apple = keras.Input((4, 4, 3), name="zebra"), keras.Input((5,), name="apple")
    y = layers.Flatten(name="flat")(layers.Conv2D(4, 3, name="conv")(zebra))
    z = layers.Dense(16, name="dense")(apple)
    model = keras.Model([zebra, apple], [y - z, layers.Dense(3, name="last")(y), z, y + z])
    seed_weights(model)
    return wrap_operations(model)


@pytest.mark.parametrize(
    ("quantization", "tolerance"),
    [("none", 1e-4), ("float16", 5e-3), ("dynamic", 0.05), ("int8", 0.05)],
)
def test_conversion_keeps_the_answers(quantization: str, tolerance: float) -> None:
    model = small_model()
    calibration = [examples(model, seed) for seed in range(20)] if quantization == "int8" else None
    content = convert_tflite(model, quantization=quantization, calibration=calibration)
    interpreter = load(content)
    inputs = examples(model, 0)
    (a,), (b,) = run_keras(model, inputs), run_tflite(interpreter, inputs)
    (other,) = run_keras(model, examples(model, 1))
    assert np.abs(a - other).max() > 2 * tolerance * np.abs(a).max(), "blind comparison"
    assert np.abs(a - b).max() <= tolerance * np.abs(a).max()
    kinds = {np.dtype(x["dtype"]).name for x in interpreter.get_tensor_details()}
    assert ("int8" in kinds) == (quantization in {"int8", "dynamic"})
    assert ("float16" in kinds) == (quantization == "float16")


def test_int8_computes_in_int8_between_float_inputs_and_outputs() -> None:
    model = small_model()
    content = convert_tflite(
        model, quantization="int8", calibration=[examples(model, seed) for seed in range(4)]
    )
    interpreter = load(content)
    ends = [*interpreter.get_input_details(), *interpreter.get_output_details()]
    assert [(x["name"], x["dtype"]) for x in ends] == [
        ("image", np.float32),
        ("scores", np.float32),
    ]
    inner = [x for x in interpreter.get_tensor_details() if x["name"] not in ("image", "scores")]
    assert {np.dtype(x["dtype"]).name for x in inner} <= {"int8", "int32"}


def test_inputs_and_outputs_keep_keras_order_and_names() -> None:
    model = two_in_four_out()
    content = convert_tflite(model)
    check_equal(model, content)
    interpreter = load(content)
    assert names(interpreter.get_input_details()) == ["zebra", "apple"]
    assert names(interpreter.get_output_details()) == [
        "flat__subtract_1",
        "last",
        "dense",
        "flat__add_1",
    ]


def test_an_unused_input_stays() -> None:
    a, b = keras.Input((3,), name="a"), keras.Input((4,), name="b")
    model = keras.Model([b, a], layers.Dense(2, name="d")(a))
    interpreter = load(convert_tflite(model))
    assert names(interpreter.get_input_details()) == ["b", "a"]


def test_dictionaries_of_inputs_and_outputs_keep_keras_order() -> None:
    a, b = keras.Input((3,), name="zebra"), keras.Input((4,), name="apple")
    outputs = {"z": layers.Dense(2, name="first")(a), "a": layers.Dense(3, name="second")(b)}
    model = keras.Model({"zebra": a, "apple": b}, outputs)
    seed_weights(model)
    content = convert_tflite(model)
    check_equal(model, content)
    assert names(load(content).get_input_details()) == [x.name for x in model.inputs]


def test_tensors_have_the_exact_names_of_their_layers() -> None:
    x = keras.Input((6, 6, 4), name="image")
    inner_x = keras.Input((6, 6, 4), name="inner_image")
    inner = keras.Model(inner_x, ops.exp(layers.Conv2D(4, 1, name="gate")(inner_x)), name="inner")
    y = layers.Conv2D(4, 3, name="head_1")(ops.sin(inner(x)))
    model = wrap_operations(keras.Model(x, ops.floor(y) * y, name="outer"))
    found = names(load(convert_tflite(model)).get_tensor_details())
    for name in ("outer/inner/gate__exp_1/Exp", "outer/inner__sin_1/Sin", "head_1__floor_1/Floor"):
        assert any(name in tensor for tensor in found), (name, found)
    assert not any("gate__exp_1_1" in tensor or "inner_1" in tensor for tensor in found)


def test_tensors_of_a_tensorflow_function_have_the_name_of_its_layer() -> None:
    import tensorflow as tf  # noqa: PLC0415 -- after Keras's settings

    class Inner(layers.Layer):
        def build(self, shape: tuple[int, ...]) -> None:
            self.gain = self.add_weight(shape=(shape[-1], 3), name="gain")

        @tf.function(autograph=False)
        def compute(self, x: Any) -> Any:
            return tf.tanh(tf.matmul(x, self.gain))

        def call(self, x: Any) -> Any:
            return self.compute(x) + 1.0

    x = keras.Input((4,), name="x")
    model = keras.Model(x, layers.Dense(2, name="last")(Inner(name="inner")(x)), name="m")
    seed_weights(model)
    content = convert_tflite(model)
    check_equal(model, content)
    found = names(load(content).get_tensor_details())
    assert any(name.endswith("m/inner/StatefulPartitionedCall/Tanh") for name in found), found
    assert all(part.startswith("m/") for name in found[1:-1] for part in name.split(";")), found


def test_the_conversion_does_not_change_the_model() -> None:
    model = small_model()
    before = [weight.copy() for weight in model.get_weights()]
    first, second = convert_tflite(model), convert_tflite(model)
    assert first == second
    for a, b in zip(before, model.get_weights(), strict=True):
        assert np.array_equal(a, b)
    check_equal(model, first)


@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_a_frozen_model_converts_to_the_same_file_without_its_keras_model(
    quantization: str,
) -> None:
    model = small_model()
    calibration = [examples(model, seed) for seed in range(4)] if quantization == "int8" else None
    content = convert_tflite(model, quantization=quantization, calibration=calibration)
    weights = [weakref.ref(weight.value) for weight in model.weights]
    frozen = freeze_model(model)
    del model
    gc.collect()
    assert not any(weight() is not None for weight in weights)
    assert convert_tflite(frozen, quantization=quantization, calibration=calibration) == content


def test_the_conversion_takes_a_few_copies_of_the_weights_at_most() -> None:
    script = """
        import re
        from pathlib import Path
        from edge_partition.model.convert_tflite import convert_tflite
        from edge_partition.model.seeded_weights import keras, seed_weights

        def resident_bytes(field):
            status = Path("/proc/self/status").read_text()
            return int(re.search(rf"{field}:\\s+(\\d+) kB", status)[1]) * 1024

        def build(size):
            x = y = keras.Input((size,))
            for _ in range(4):
                y = keras.layers.Dense(size)(y)
            return keras.Model(x, y)

        convert_tflite(build(4))  # what TensorFlow loads only then
        model = build(1500)
        seed_weights(model)
        Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM to what is resident now
        before_bytes = resident_bytes("VmRSS")
        content = convert_tflite(model)
        print(len(content), resident_bytes("VmHWM") - before_bytes)
        print(resident_bytes("VmRSS") - before_bytes)
    """
    output = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], check=True, capture_output=True, text=True
    ).stdout
    size_bytes, peak_bytes, kept_bytes = map(int, re.findall(r"-?\d+", output))
    assert size_bytes > 36e6
    assert peak_bytes < 14 * size_bytes
    assert kept_bytes < 4 * size_bytes


@pytest.mark.parametrize("is_built", [True, False])
def test_a_sequential_model_converts(is_built: bool) -> None:
    first = [keras.Input((6, 3), name="steps")] if is_built else []
    inner = keras.Sequential([layers.Dense(4, activation="tanh", name="a")], name="inner")
    model = keras.Sequential([*first, inner, layers.Flatten(), layers.Dense(16, name="b")])
    model(np.zeros((1, 6, 3), np.float32))
    seed_weights(model)
    content = convert_tflite(model)
    interpreter = load(content)
    assert names(interpreter.get_output_details()) == ["b"]
    inputs = examples(model, 0)
    (found,), expected = run_tflite(interpreter, inputs), model(inputs[0]).numpy()
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_tensorflow_function_converts_with_the_given_names() -> None:
    import tensorflow as tf  # noqa: PLC0415 -- after Keras's settings

    class Scale(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = tf.Variable([2.0, 3.0, 5.0])

        @tf.function(autograph=False)
        def serve(self, b: Any, a: Any) -> dict[str, Any]:
            with tf.name_scope("scale"):
                return {"one": b * self.gain, "other": a @ tf.reshape(self.gain, (3, 1))}

    module = Scale()
    spec = tf.TensorSpec((None, 3), tf.float32)
    function = module.serve.get_concrete_function(b=spec, a=spec)
    fixed = tf.TensorSpec((2, 3), tf.float32)
    frozen = freeze_function(
        function,
        name="scaled",
        inputs=[("b", fixed), ("a", fixed)],
        output_names=["other", "one"],
        layers=["scale"],
    )
    interpreter = load(convert_tflite(frozen))
    assert names(interpreter.get_input_details()) == ["b", "a"]
    assert names(interpreter.get_output_details()) == ["other", "one"]
    b, a = np.arange(6, dtype=np.float32).reshape(2, 3), np.eye(2, 3, dtype=np.float32)
    other, one = run_tflite(interpreter, [b, a])
    assert other.tolist() == [[2.0], [3.0]]
    assert one.tolist() == [[0.0, 3.0, 10.0], [6.0, 12.0, 25.0]]
    with pytest.raises(ConversionError, match=r"input 'a' .* --input-shape"):
        freeze_function(
            function, name="scaled", inputs=[("a", spec)], output_names=["other", "one"]
        )


def test_a_keras_2_model_converts() -> None:
    keras2 = pytest.importorskip("tf_keras", reason="the extra for Keras 2 is not installed")
    x = keras2.Input((8, 4), name="ein gang")
    y = keras2.layers.LSTM(6, name="block/memory")(x)
    model = keras2.Model(x, keras2.layers.Dense(3, name="out")(y), name="old")
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(0, 0.8, weight.shape))
    xs = rng.normal(size=(4, 1, 8, 4)).astype(np.float32)
    expected = model.predict(xs[:, 0], verbose=0)
    assert np.ptp(expected, axis=0).min() > 0.1, "blind comparison"
    for quantization, tolerance in (("none", 1e-4), ("int8", 0.1)):
        calibration = [[x] for x in xs] if quantization == "int8" else None
        content = convert_tflite(model, quantization=quantization, calibration=calibration)
        interpreter = load(content)
        assert names(interpreter.get_input_details()) == ["ein gang"]
        found = np.concatenate([run_tflite(interpreter, [x])[0] for x in xs])
        assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()
        details = names(interpreter.get_tensor_details())
        assert any("old/block/memory/" in name for name in details)


def test_tensors_of_a_layer_that_is_called_twice_have_different_names() -> None:
    x = keras.Input((4,), name="x")
    dense = layers.Dense(4, activation="tanh", name="dense")
    model = keras.Model(x, dense(dense(dense(x))))
    seed_weights(model)
    content = convert_tflite(model)
    check_equal(model, content)
    found = names(load(content).get_tensor_details())
    assert len(set(found)) == len(found)


def test_an_operator_that_tflite_lacks_is_named_with_its_layer() -> None:
    x = keras.Input((4,), name="x")
    y = layers.Dense(4, name="encode")(x)
    model = wrap_operations(keras.Model(x, ops.i0(y), name="m"))
    with pytest.raises(ConversionError, match="BesselI0 in layer m/encode__i0_1") as raised:
        convert_tflite(model)
    error = raised.value
    assert error.operators == ("BesselI0",)
    assert error.layers == ("m/encode__i0_1",)
    assert error.log_path is not None
    assert "BesselI0" in error.log_path.read_text()
    assert str(error.log_path) in str(error)
    assert "\n" not in str(error)
    error.log_path.unlink()


class Mine(layers.Layer):
    """Computes a TensorFlow function."""

    def __init__(self, function: Callable[[Any], Any], **options: Any) -> None:
        super().__init__(**options)
        self.function = function

    def call(self, x: Any) -> Any:
        return self.function(x)


def mine(function: Callable[[Any], Any], shape: tuple[int, ...] = (4,)) -> keras.Model:
    x = keras.Input(shape, name="x")
    return keras.Model(x, Mine(function, name="mine")(x), name="m")


def multiplied_as(dtype: str) -> keras.Model:
    def multiply(x: Any) -> Any:
        y = tf.matmul(tf.cast(x, dtype), tf.ones((4, 3), dtype), output_type=wide.get(dtype, dtype))
        return tf.cast(y, "float32")

    import tensorflow as tf  # noqa: PLC0415 -- after Keras's settings

    wide = {"int8": "int32"}
    return mine(multiply)


def in_a_branch() -> keras.Model:
    import tensorflow as tf  # noqa: PLC0415 -- after Keras's settings

    return mine(
        lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: tf.math.erf(x), lambda: tf.math.sin(x))
    )


def in_a_loop() -> keras.Model:
    import tensorflow as tf  # noqa: PLC0415 -- after Keras's settings

    return mine(
        lambda x: tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, tf.math.erf(y)), (0, x))[1]
    )


def branches() -> keras.Model:
    import tensorflow as tf  # noqa: PLC0415 -- after Keras's settings

    return mine(
        lambda x: tf.switch_case(
            tf.cast(tf.reduce_sum(x), "int32"), [lambda: x, lambda: -x, lambda: 2 * x]
        )
    )


def python_function() -> keras.Model:
    import tensorflow as tf  # noqa: PLC0415 -- after Keras's settings

    return mine(lambda x: tf.ensure_shape(tf.numpy_function(np.sin, [x], tf.float32), x.shape))


def random_integers() -> keras.Model:
    import tensorflow as tf  # noqa: PLC0415 -- after Keras's settings

    return mine(lambda x: x + tf.cast(tf.random.uniform((1, 4), 0, 5, dtype="int32"), "float32"))


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: multiplied_as("float64"), "no operator for MatMul of float64 in layer m/mine"),
        (lambda: multiplied_as("int32"), "no operator for MatMul of int32 in layer m/mine"),
        (lambda: multiplied_as("bfloat16"), "no operator for MatMul of bfloat16 in layer m/mine"),
        (lambda: multiplied_as("int8"), "fully_connected does not take int8 in layer m/mine"),
        (in_a_branch, "no operator for Erf in layer m/mine"),
        (in_a_loop, "no operator for Erf in layer m/mine"),
        (branches, r"no operator for Case \(tf.switch_case\) in layer m/mine"),
        (python_function, "no operator for EnsureShape, PyFunc in layer m/mine"),
        (random_integers, "cannot draw the random numbers of RandomUniformInt in layer m/mine"),
    ],
)
def test_an_operation_that_tflite_lacks_is_explained_with_its_layer(
    build: Callable[[], keras.Model], said: str
) -> None:
    with pytest.raises(ConversionError, match=said) as raised:
        convert_tflite(build())
    error = raised.value
    assert error.layers == ("m/mine",)
    assert not re.search(r"loc\(|tensor<|<unknown>|\n", str(error))
    assert error.reason.endswith(".")
    if error.log_path:
        error.log_path.unlink()


def strings_looked_up() -> keras.Model:
    words = keras.Input((3,), dtype="string", name="words")
    ids = layers.StringLookup(vocabulary=["a", "b"], name="lookup")(words)
    return keras.Model(words, layers.Embedding(5, 4, name="embed")(ids), name="m")


def text_vectorized() -> keras.Model:
    text = keras.Input((1,), dtype="string", name="text")
    layer = layers.TextVectorization(
        vocabulary=["a", "b"], output_sequence_length=4, name="vectorize"
    )
    return keras.Model(text, layers.Embedding(5, 4, name="embed")(layer(text)), name="m")


def numbers_looked_up() -> keras.Model:
    ids = keras.Input((3,), dtype="int64", name="ids")
    found = layers.IntegerLookup(vocabulary=[4, 7], name="lookup")(ids)
    return keras.Model(ids, layers.Embedding(5, 4, name="embed")(found), name="m")


@pytest.mark.parametrize(
    ("build", "layer"),
    [
        (strings_looked_up, "m/lookup"),
        (text_vectorized, "m/vectorize"),
        (numbers_looked_up, "m/lookup"),
    ],
)
def test_strings_and_tables_are_named_with_their_layer(
    build: Callable[[], keras.Model], layer: str
) -> None:
    with pytest.raises(ConversionError, match=f"layer {layer} uses strings") as raised:
        convert_tflite(build())
    assert raised.value.layers == (layer,)


@pytest.mark.parametrize("name", ["nonzero", "unique"])
def test_an_output_whose_shape_depends_on_values_is_named(name: str) -> None:
    x = keras.Input((6,), name="x")
    y = ops.cast(layers.Dense(6, name="d")(x), "int32")
    model = wrap_operations(keras.Model(x, getattr(ops, name)(y), name="m"))
    with pytest.raises(ConversionError, match="depends on the input's values") as raised:
        convert_tflite(model)
    assert raised.value.layers == (f"d__{name}_1",)


def test_an_error_in_the_trace_is_named_with_its_layer() -> None:
    x = keras.Input((6,), name="x")
    y = ops.isin(layers.Dense(6, name="d")(x), np.array([1.0, 2.0], "float32"))
    with pytest.raises(ConversionError, match=r"Python `bool`.* in layer d__is_in_1") as raised:
        convert_tflite(wrap_operations(keras.Model(x, y, name="m")))
    error = raised.value
    assert error.layers == ("d__is_in_1",)
    assert "x2=" not in str(error)
    assert error.log_path is not None
    error.log_path.unlink()


def test_an_operator_in_a_users_layer_is_named_with_the_layer() -> None:
    class Spectrum(layers.Layer):
        def call(self, x: Any) -> Any:
            return ops.svd(x, compute_uv=False)

    x = keras.Input((6, 4), name="x")
    model = keras.Model(x, layers.Dense(2, name="d")(Spectrum(name="mine")(x)), name="m")
    with pytest.raises(ConversionError, match="Svd in layer m/mine") as raised:
        convert_tflite(model)
    assert raised.value.log_path is not None
    raised.value.log_path.unlink()


def test_a_tensor_that_is_two_outputs_is_returned_once_with_a_note() -> None:
    x = keras.Input((6,), name="x")
    y, z = layers.Dense(2, name="d")(x), layers.Dense(3, name="e")(x)
    model = keras.Model(x, [y, z, y], name="m")
    seed_weights(model)
    tflite = read_tflite(convert_tflite(model))
    graph = tflite.graph
    assert [graph.tensors[index].shape for index in graph.outputs] == [(1, 2), (1, 3)]
    (note,) = find_facts(tflite, StatedFacts()).notes
    assert note.startswith("Outputs 0, 2 of the model are the same tensor")


def test_outputs_in_a_dictionary_have_its_keys_as_names() -> None:
    x = keras.Input((6,), name="x")
    made = {key: layers.Dense(4, name=name)(x) for key, name in (("b", "a"), ("a", "b"))}
    model = keras.Model(x, made, name="m")
    seed_weights(model)
    given = examples(model, 1)
    interpreter = load(convert_tflite(model))
    answers = run_tflite(interpreter, given)
    expected = model(given[0])
    assert np.abs(expected["a"] - expected["b"]).max() > 1e-3
    for name, answer in zip(names(interpreter.get_output_details()), answers, strict=True):
        np.testing.assert_allclose(answer, expected[name], atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 1), (1, 6, 1), (6, 1, 1), (6,), (2, 6)])
def test_sums_that_keras_computes_with_bias_add_convert(shape: tuple[int, ...]) -> None:
    x = keras.Input(shape, batch_size=1, name="x")
    model = keras.Model(x, layers.Dense(shape[-1], name="d")(x) + x * 2.0, name="m")
    seed_weights(model)
    given = examples(model, 1)
    (answer,) = run_tflite(load(convert_tflite(wrap_operations(model))), given)
    assert np.std(answer) > 1e-3
    np.testing.assert_allclose(answer, np.asarray(model(given[0])), atol=1e-5)


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_argmax_converts_and_handles_signed_zeros(name: str) -> None:
    x = keras.Input((4,), name="x")
    model = keras.Model(x, getattr(ops, name)(x * 2.0, axis=-1), name="m")
    interpreter = load(convert_tflite(wrap_operations(model)))
    for values in ([1, 3, 2, 0], [0.0, -0.0, 0.0, -0.0], [-0.0, 0.0, -1, -2], [-1, -0.0, 0.0, -3]):
        given = [np.array([values], np.float32)]
        (answer,) = run_tflite(interpreter, given)
        assert answer.tolist() == np.asarray(model(given[0])).tolist(), values


def test_the_converter_prints_into_its_log_and_nowhere_else(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    convert_tflite(small_model(), log_path=tmp_path / "convert.log")
    os.write(1, b"to descriptor 1\n")
    print("to stdout")  # noqa: T201
    print("to stderr", file=sys.stderr)  # noqa: T201
    out, err = capfd.readouterr()
    assert out == "to descriptor 1\nto stdout\n"
    assert err == "to stderr\n"
    assert (tmp_path / "convert.log").is_file()


def test_options_that_do_not_fit_are_refused_before_converting() -> None:
    model = small_model()
    with pytest.raises(ConversionError, match="int4"):
        convert_tflite(model, quantization="int4")
    with pytest.raises(ConversionError, match="calibration"):
        convert_tflite(model, quantization="int8")
    x = keras.Input((None, 3), name="steps")
    with pytest.raises(ConversionError, match="--input-shape"):
        convert_tflite(keras.Model(x, layers.Dense(2)(x)))


def test_mobilenet_v3_is_converted_with_its_names() -> None:
    model = keras.applications.MobileNetV3Small(weights=None, input_shape=(64, 64, 3))
    seed_weights(model)
    model = wrap_operations(model)
    content = convert_tflite(model)
    interpreter = load(content)
    image = [255 * x for x in examples(model, 0)]
    (a,), (b,) = run_keras(model, image), run_tflite(interpreter, image)
    (other,) = run_keras(model, [255 * x for x in examples(model, 1)])
    assert np.abs(a - other).max() > 10 * 1e-4 * np.abs(a).max(), "blind comparison"
    assert np.abs(a - b).max() <= 1e-4 * np.abs(a).max()
    found = names(interpreter.get_tensor_details())
    wanted = "/expanded_conv_squeeze_excite_conv_1__multiply_1/"
    assert any(wanted in name for name in found)
    assert names(interpreter.get_output_details()) == ["predictions"]
