"""A model of another precision becomes float32, with the outputs of an equal float32 model."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edge_partition.model.float32_model import make_float32
from edge_partition.model.keras_model import input_specs, load_keras_model
from edge_partition.model.seeded_weights import keras

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

layers = keras.layers


@pytest.fixture(autouse=True)
def _global_policy() -> Iterator[None]:
    yield
    keras.mixed_precision.set_global_policy("float32")


def build(policy: str, *, inner_cast: str = "float32") -> keras.Model:
    """Return a model with one layer for each way of keeping a dtype."""
    keras.mixed_precision.set_global_policy(policy)
    x = keras.Input((12, 12, 3), name="pixels")
    adapted = layers.Normalization()
    adapted.build((None, 12, 12, 3))
    y = adapted(layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0])(x))
    y = layers.Conv2D(8, 3, activation="relu")(layers.Rescaling(0.5, 0.1)(y))
    y = layers.BatchNormalization()(y) * 2.0 + keras.ops.relu(y)
    y = keras.Sequential([layers.SeparableConv2D(8, 3), layers.LayerNormalization()])(y)
    inner = keras.Input((8, 8, 8))
    cast = keras.ops.cast(layers.Conv2D(8, 1)(inner), inner_cast)
    y = keras.Model(inner, cast)(y)
    rows = layers.Reshape((8, 64))(y)
    rows = layers.Bidirectional(layers.GRU(5, recurrent_initializer="glorot_uniform"))(rows)
    cells = layers.Reshape((64, 8))(y)
    cells = layers.GlobalAveragePooling1D()(layers.MultiHeadAttention(2, 4)(cells, cells))
    y = layers.Concatenate()([rows, cells, layers.GlobalAveragePooling2D()(y)])
    model = keras.Model(x, [layers.Activation("softmax", dtype="float32")(layers.Dense(5)(y)),
                            layers.Dense(3)(y)])  # fmt: skip
    keras.mixed_precision.set_global_policy("float32")
    return model


def randomize(model: keras.Model) -> None:
    rng = np.random.default_rng(5)
    for weight in model.weights:
        values = rng.normal(0, 0.4, weight.shape)
        weight.assign(np.abs(values) + 0.5 if "variance" in weight.path else values)
    finalize(model)


def finalize(model: keras.Model) -> None:
    for layer in model._flatten_layers():
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()


def answers(model: keras.Model, x: np.ndarray) -> list[np.ndarray]:
    return [np.asarray(y, "float64") for y in keras.tree.flatten(model(x, training=False))]


@pytest.mark.parametrize(
    ("policy", "rounding"),
    [("mixed_float16", 1e-2), ("mixed_bfloat16", 1e-1), ("float16", 1e-2), ("bfloat16", 1e-1),
     ("float64", 1e-3)],
)  # fmt: skip
def test_a_model_of_another_policy_answers_as_its_float32_twin(
    monkeypatch: pytest.MonkeyPatch, policy: str, rounding: float
) -> None:
    model = build(policy, inner_cast=policy.removeprefix("mixed_"))
    randomize(model)
    twin = build("float32")
    twin.set_weights([np.asarray(weight, "float32") for weight in model.get_weights()])
    finalize(twin)
    x = np.random.default_rng(0).normal(size=(1, 12, 12, 3)).astype("float32")
    own, wanted = answers(model, x), answers(twin, x)
    difference = max(np.abs(a - b).max() for a, b in zip(own, wanted, strict=True))
    assert 1e-7 < difference < rounding  # the original precision is visible

    monkeypatch.setitem(sys.modules, "made", SimpleNamespace(model=lambda: model))
    loaded = load_keras_model("made:model")
    for got, want in zip(answers(loaded.model, x), wanted, strict=True):
        assert want.std() > 1e-2
        np.testing.assert_allclose(got, want, atol=1e-6)
    (note,) = loaded.notes
    assert f"computes in {policy}. edge-partition changed the model to float32" in note
    assert {weight.dtype for weight in loaded.model.trainable_weights} == {"float32"}


def test_a_saved_mixed_model_and_an_unbuilt_one_are_rebuilt(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keras.mixed_precision.set_global_policy("mixed_float16")
    x = keras.Input((6,))
    keras.Model(x, layers.Dense(3)(x)).save(tmp_path / "m.keras")
    unbuilt = keras.Sequential([layers.Dense(4, activation="tanh"), layers.Dense(3)])
    keras.mixed_precision.set_global_policy("float32")
    monkeypatch.setitem(sys.modules, "made", SimpleNamespace(model=lambda: unbuilt))
    for loaded in (
        load_keras_model(str(tmp_path / "m.keras")),
        load_keras_model("made:model", input_shapes={"": (6,)}),
    ):
        assert "mixed_float16" in loaded.notes[0]
        assert input_specs(loaded.model)[0].dtype == "float32"
        assert {layer.compute_dtype for layer in loaded.model.layers} == {"float32"}
        assert loaded.model.outputs[0].dtype == "float32"


def test_constants_and_inputs_of_other_precisions_become_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    half = keras.Input((4,), dtype="float16", name="half")
    wide = keras.Input((4,), name="wide")
    model = keras.Model([half, wide], layers.Add()([half, wide * np.float64([1, 2, 3, 4])]))
    assert "float64" in {tensor.dtype for tensor in _tensors(model)}
    monkeypatch.setitem(sys.modules, "made", SimpleNamespace(model=lambda: model))
    loaded = load_keras_model("made:model").model
    assert {tensor.dtype for tensor in _tensors(loaded)} == {"float32"}
    ones = np.ones((1, 4), "float32")
    np.testing.assert_array_equal(np.asarray(loaded([ones, ones])), [[2, 3, 4, 5]])


def test_a_float32_model_does_not_change() -> None:
    model = build("float32")
    before = [id(variable.value) for variable in model.variables]
    assert make_float32(model) == ()
    assert [id(variable.value) for variable in model.variables] == before


def _tensors(model: keras.Model) -> list[Any]:
    return [tensor for operation in model.operations for node in operation._inbound_nodes
            for tensor in node.outputs]  # fmt: skip
