"""Any Keras model becomes one Functional model with the same outputs."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras.src.models.functional import Functional

from edge_partition.model.convert_tflite import convert_tflite
from edge_partition.model.keras_model import InputShapeError, input_specs, load_keras_model
from edge_partition.model.seeded_weights import keras
from edge_partition.model.wrap_operations import wrap_operations

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Load = Callable[..., Any]

layers = keras.layers
Sequential = keras.Sequential


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load a model as the result of ``made:model``."""

    def load_made(model: Any, **options: Any) -> Any:
        monkeypatch.setitem(sys.modules, "made", SimpleNamespace(model=lambda: model))
        return load_keras_model("made:model", **options)

    return load_made


def parts() -> list[Any]:
    return [
        layers.Conv2D(4, 3, activation="relu"),
        layers.BatchNormalization(),
        layers.Flatten(),
        layers.Dense(3, name="scores"),
    ]


def doubled() -> keras.Model:
    """A functional model with a bare operation."""
    x = keras.Input((5,), name="five")
    return keras.Model(x, keras.ops.relu(layers.Dense(5)(x)) * 2.0, name="doubled")


def called(model: keras.Model, *shape: int) -> keras.Model:
    model(np.zeros(shape, "float32"))
    return model


def subclassed() -> keras.Model:
    class Backbone(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            x = keras.Input((4,), name="x")
            super().__init__(inputs=x, outputs=layers.Dense(2)(x))

    return Backbone()


class Opaque(keras.Model):  # type: ignore[misc]
    """A model whose graph is in its Python code only."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = layers.Dense(6, name="first"), layers.Dense(3, name="last")

    def call(self, inputs: Any, training: bool = False) -> Any:
        x = inputs["b"] + inputs["a"][:, :2] if isinstance(inputs, dict) else inputs
        return self.last(keras.ops.tanh(self.first(x)) * (2.0 if training else 3.0))


class Pair(keras.Model):  # type: ignore[misc]
    def call(self, x: Any, other: Any) -> Any:
        return x + other


def opaque() -> keras.Model:
    return called(Opaque(), 2, 5)


def shared_sequential() -> keras.Model:
    x = keras.Input((5,))
    inner = Sequential([layers.Dense(5), doubled(), layers.Dense(5)])
    return keras.Model(x, layers.Add()([inner(x), inner(x * 2.0)]))


def many_called() -> keras.Model:
    x = keras.Input((6, 5))
    return keras.Model(x, layers.TimeDistributed(Sequential([layers.Dense(4)]))(x))


def added() -> keras.Model:
    model = Sequential()
    model.add(keras.Input((6,), name="six"))
    model.add(layers.Dense(4))
    return model


def built_dense() -> Any:
    dense = layers.Dense(3)
    dense.build((None, 7))
    return dense


def parts_model() -> keras.Model:
    return Sequential([keras.Input((8, 8, 1)), *parts()])


def lora_model() -> keras.Model:
    dense = layers.Dense(3)
    model = Sequential([keras.Input((4,)), dense])
    dense.enable_lora(2)
    return model


#: Name, function that builds the model, and the shape of its input with the batch.
BUILT: list[tuple[str, Callable[[], Any], tuple[int, ...]]] = [
    ("with_input", parts_model, (1, 8, 8, 1)),
    ("added", added, (1, 6)),
    ("input_shape", lambda: Sequential([layers.Dense(4, input_shape=(6,))]), (1, 6)),
    ("called", lambda: called(Sequential(parts()), 2, 8, 8, 1), (1, 8, 8, 1)),
    ("nested", lambda: Sequential([
        Sequential([keras.Input((8, 8, 1)), layers.Conv2D(4, 3)]), Sequential(parts()[2:])]),
        (1, 8, 8, 1)),
    ("of_functional", lambda: Sequential([doubled(), layers.Dense(2)]), (1, 5)),
    ("of_one_functional", lambda: Sequential([doubled()]), (1, 5)),
    ("of_one_sequential", lambda: Sequential([Sequential([layers.Dense(2, input_shape=(5,))])]),
     (1, 5)),
    ("of_built_layer", lambda: Sequential([built_dense(), layers.Dense(2)]), (1, 7)),
    ("shared", shared_sequential, (1, 5)),
    ("time_distributed", many_called, (1, 6, 5)),
    ("subclass_of_functional", subclassed, (1, 4)),
    ("functional", doubled, (1, 5)),
    ("subclassed", opaque, (1, 5)),
]  # fmt: skip


@pytest.mark.parametrize(("build", "shape"), [x[1:] for x in BUILT], ids=[x[0] for x in BUILT])
def test_a_model_becomes_functional_and_answers_the_same(
    load: Load, build: Callable[[], Any], shape: tuple[int, ...]
) -> None:
    model = build()
    loaded = load(model).model
    assert type(loaded) is Functional
    assert [spec.shape for spec in input_specs(loaded)] == [shape]
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype("float32")
    wanted = [np.asarray(model(each, training=False)) for each in x]
    assert np.abs(wanted[0] - wanted[1]).max() > 1e-4  # a constant output would equal any other
    for each, want in zip(x, wanted, strict=True):
        np.testing.assert_array_equal(np.asarray(loaded(each, training=False)), want)
        wrapped = wrap_operations(loaded)
        np.testing.assert_allclose(np.asarray(wrapped(each)), want, atol=1e-6)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", ["with_input", "called", "nested"])
def test_a_saved_sequential_is_read(tmp_path: Path, name: str, suffix: str) -> None:
    build, shape = next(rest for known, *rest in BUILT if known == name)
    model = build()
    model.save(tmp_path / f"m{suffix}")
    loaded = load_keras_model(str(tmp_path / f"m{suffix}")).model
    assert type(loaded) is Functional
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    assert np.asarray(model(x)).std() > 1e-4
    np.testing.assert_array_equal(np.asarray(loaded(x)), np.asarray(model(x)))


def test_a_plain_sequential_converts_with_its_layers_names(tmp_path: Path) -> None:
    model = Sequential([keras.Input((8, 8, 1), name="image"), *parts()])
    model.save(tmp_path / "m.keras")
    loaded = load_keras_model(str(tmp_path / "m.keras"))
    content = convert_tflite(wrap_operations(loaded.model))
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 1)).astype("float32")
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    answer = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    assert np.asarray(model(x)).std() > 1e-4
    np.testing.assert_allclose(answer, np.asarray(model(x)), atol=1e-5)
    assert [x["name"] for x in interpreter.get_output_details()] == ["scores"]


def test_a_subclassed_model_takes_a_dictionary_and_converts_with_its_layers_names(
    load: Load,
) -> None:
    model = Opaque()
    given = {"b": np.ones((1, 2), "float32"), "a": np.arange(4, dtype="float32")[None]}
    wanted = np.asarray(model(given))
    loaded = load(model).model
    assert [(spec.name, spec.shape) for spec in input_specs(loaded)] == [
        ("a", (1, 4)),
        ("b", (1, 2)),
    ]
    content = convert_tflite(wrap_operations(loaded))
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], given[detail["name"]])
    interpreter.invoke()
    answer = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    assert wanted.std() > 1e-2
    np.testing.assert_allclose(answer, wanted, atol=1e-5)
    names = " ".join(detail["name"] for detail in interpreter.get_tensor_details())
    assert "/first/" in names


def test_states_of_several_sequences_in_one_batch_are_refused(load: Load) -> None:
    x = keras.Input(batch_shape=(4, 5, 3))
    model = keras.Model(x, layers.LSTM(2, stateful=True, name="memory")(x))
    with pytest.raises(InputShapeError, match=r"batches of 4.*memory.*batch_shape=\(1"):
        load(model)
    plain = keras.Model(x, layers.LSTM(2)(x))
    assert input_specs(load(plain).model)[0].shape == (1, 5, 3)


def test_a_subclassed_model_that_was_never_built_asks_for_its_shape(load: Load) -> None:
    with pytest.raises(InputShapeError, match=r"never built.*--input-shape"):
        load(Opaque())
    assert input_specs(load(Opaque(), input_shapes={"": (7,)}).model)[0].shape == (1, 7)
    with pytest.raises(InputShapeError, match=r"takes the arguments x, other.*model\.export"):
        load(Pair())


def test_an_unbuilt_sequential_asks_for_its_shape_and_takes_it(load: Load) -> None:
    with pytest.raises(InputShapeError, match=r"first layer.*--input-shape 28,28,1"):
        load(Sequential(parts()))
    with pytest.raises(InputShapeError, match="without layers"):
        load(Sequential([]))
    loaded = load(Sequential(parts()), input_shapes={"": (8, 8, 1)}).model
    assert [(x.name, x.shape) for x in input_specs(loaded)] == [("input", (1, 8, 8, 1))]
    loaded = load(Sequential(parts()), input_shapes={"photo": (8, 8, 1)}).model
    assert [x.name for x in input_specs(loaded)] == ["photo"]


def test_an_unbuilt_sequential_with_an_embedding_takes_integers(load: Load) -> None:
    model = Sequential([layers.Embedding(20, 4), layers.GlobalAveragePooling1D()])
    (spec,) = input_specs(load(model, input_shapes={"": (7,)}).model)
    assert (spec.dtype, spec.shape) == ("int32", (1, 7))


def test_an_unbuilt_sequential_takes_a_weights_file(load: Load, tmp_path: Path) -> None:
    donor = Sequential([keras.Input((6,)), layers.Dense(4), layers.Dense(2)])
    donor.save_weights(tmp_path / "w.weights.h5")
    taker = Sequential([layers.Dense(4), layers.Dense(2)])
    loaded = load(taker, input_shapes={"": (6,)}, weights=str(tmp_path / "w.weights.h5")).model
    x = np.ones((1, 6), "float32")
    np.testing.assert_array_equal(np.asarray(loaded(x)), np.asarray(donor(x)))


def test_a_function_of_keras_is_a_model(load: Load) -> None:
    x = keras.Input((4,), name="x")
    function = keras.Function(x, layers.Dense(3)(x) + 1.0)
    loaded = load(function).model
    assert type(loaded) is Functional
    values = np.random.default_rng(0).normal(size=(1, 4)).astype("float32")
    np.testing.assert_array_equal(np.asarray(loaded(values)), np.asarray(function(values)))


def test_inputs_in_a_dictionary_keep_names_that_tensorflow_refuses(load: Load) -> None:
    inputs = {name: keras.Input((None,), name=name) for name in ("Länge (cm)", "a b")}
    total = layers.Add(name="Summe aller")(list(inputs.values()))
    loaded = load(keras.Model(inputs, total), input_shapes={"": (3,)}).model
    assert [(x.name, x.shape) for x in input_specs(loaded)] == [
        ("Länge (cm)", (1, 3)),
        ("a b", (1, 3)),
    ]
    ones = np.ones((1, 3), "float32")
    answer = loaded({"Länge (cm)": ones, "a b": 2 * ones})
    np.testing.assert_array_equal(np.asarray(answer), 3 * ones)


def test_the_error_for_a_refused_shape_has_the_layers_reason(load: Load) -> None:
    model = Sequential([keras.Input((None, None, 3)), layers.Conv2D(2, 7), layers.Flatten()])
    with pytest.raises(InputShapeError, match=r"built for input 4,4,3: Computed output size"):
        load(model, input_shapes={"": (4, 4, 3)})


@pytest.mark.parametrize("mode", ["int8", "float8"])
def test_the_error_for_keras_own_quantization_names_layers_and_the_alternative(
    load: Load, mode: str
) -> None:
    x = keras.Input((16,))
    model = keras.Model(x, layers.Dense(3, name="last")(layers.Dense(64, name="first")(x)))
    model.quantize(mode)
    with pytest.raises(Exception, match=rf"{mode}: layer first, last.*--quantize int8 or dynamic"):
        load(model)


def test_lora_layers_keep_what_they_were_tuned_to(load: Load) -> None:
    x = keras.Input((6,))
    dense, einsum = layers.Dense(5), layers.EinsumDense("ab,bc->ac", 4)
    model = keras.Model(x, einsum(dense(x)))
    values = np.ones((1, 6), "float32")
    untuned = np.asarray(model(values))
    for layer in (dense, einsum):
        layer.enable_lora(2)
        layer.lora_kernel_b.assign(np.ones(layer.lora_kernel_b.shape))
    assert np.abs(np.asarray(model(values)) - untuned).max() > 1e-2
    np.testing.assert_array_equal(np.asarray(load(model).model(values)), np.asarray(model(values)))


@pytest.mark.parametrize("build", [parts_model, lora_model, shared_sequential, many_called])
def test_seeded_weights_distinguish_inputs(load: Load, build: Callable[[], Any]) -> None:
    loaded = load(build(), weights="seeded").model
    rng = np.random.default_rng(0)
    a, b = (
        np.asarray(loaded(rng.normal(size=loaded.inputs[0].shape).astype("float32")))
        for _ in range(2)
    )
    assert a.std() > 1e-2
    assert np.abs(a - b).max() > 0.1
