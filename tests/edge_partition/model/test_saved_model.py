"""A signature of a SavedModel becomes the model, without the original code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edge_partition.model.keras_model import load_keras_model
from edge_partition.model.load_model import load_model
from edge_partition.model.model_kinds import model_kind
from edge_partition.model.saved_model import load_saved_model, saved_model_name
from edge_partition.model.seeded_weights import keras
from edge_partition.model.source_errors import (
    InputShapeError,
    ModelSourceError,
    WeightsUnavailableError,
)

if TYPE_CHECKING:
    from pathlib import Path

tf = pytest.importorskip("tensorflow")


def make_module() -> Any:
    class Module(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = tf.Variable(np.random.default_rng(0).normal(size=(8, 8)).astype("float32"))

        @tf.function(input_signature=[tf.TensorSpec([None, 8], tf.float32)])
        def encode(self, x: Any) -> Any:
            return {"b": x @ self.w, "a": tf.nn.relu(x)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
        def hear(self, sound: Any) -> Any:
            return {"y": tf.reduce_mean(tf.reshape(sound, (-1, 8)) @ self.w, 1)}

        @tf.function(
            input_signature=[tf.TensorSpec(None, tf.float32), tf.TensorSpec((), tf.float32)]
        )
        def scale(self, x: Any, by: Any) -> Any:
            return {"y": x * by + self.w[0, 0]}

    return Module()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("saved") / "hub" / "3"
    module = make_module()
    names = ("encode", "hear", "scale")
    tf.saved_model.save(module, str(path), signatures={n: getattr(module, n) for n in names})
    return str(path)


def test_a_signature_answers_as_tensorflow_does(folder: str) -> None:
    model, notes = load_saved_model(folder, signature="encode")
    assert (model.name, notes, model.output_names) == ("hub", (), ("a", "b"))
    assert [(x.name, x.dtype, x.shape) for x in model.inputs] == [("x", "float32", (1, 8))]
    x = np.random.default_rng(1).normal(size=(1, 8)).astype("float32")
    wanted = tf.saved_model.load(folder).signatures["encode"](x=tf.constant(x))
    for got, name in zip(model([tf.constant(x)]), ("a", "b"), strict=True):
        assert np.asarray(wanted[name]).std() > 0.1
        np.testing.assert_array_equal(np.asarray(got), np.asarray(wanted[name]))


def test_open_lengths_and_open_shapes_take_the_given_shape(folder: str) -> None:
    model, _ = load_saved_model(folder, signature="hear", input_shapes={"": (80,)})
    assert model.inputs[0].shape == (80,)
    model, _ = load_saved_model(folder, signature="scale", input_shapes={"x": (5,)})
    assert {x.name: x.shape for x in model.inputs} == {"by": (), "x": (1, 5)}
    with pytest.raises(InputShapeError, match=r"'sound' 1 \(with the batch\).*divisible by 8"):
        load_saved_model(folder, signature="hear")
    with pytest.raises(ModelSourceError, match=r"'x' takes any shape.*--input-shape 'x="):
        load_saved_model(folder, signature="scale")


def test_the_error_for_several_signatures_has_their_names(folder: str) -> None:
    with pytest.raises(ModelSourceError, match=r"encode, hear, scale\. Choose.*--signature NAME"):
        load_saved_model(folder)
    with pytest.raises(
        ModelSourceError, match=r"no signature 'see'; its signatures are encode, hear, scale"
    ):
        load_saved_model(folder, signature="see")
    with pytest.raises(WeightsUnavailableError, match="Leave --weights out"):
        load_keras_model(folder, weights="seeded")


def test_the_default_signature_is_used_with_a_note(tmp_path: Path) -> None:
    module = make_module()
    signatures = {"serving_default": module.encode, "hear": module.hear}
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=signatures)
    loaded = load_keras_model(str(tmp_path / "m"))
    assert loaded.model.inputs[0].name == "x"
    assert "hear, serving_default); serving_default is used" in loaded.notes[0]
    tf.saved_model.save(module, str(tmp_path / "none"))
    with pytest.raises(ModelSourceError, match="without signatures"):
        load_saved_model(str(tmp_path / "none"))


def test_keras_export_converts_with_its_layers_names(tmp_path: Path) -> None:
    x = keras.Input((None, None, 3), name="Bild")
    y = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(x)
    model = keras.Model(x, keras.layers.GlobalAveragePooling2D()(y))
    model.export(tmp_path / "m", verbose=False)
    assert model_kind(str(tmp_path / "m")).description == "the folder of a SavedModel"
    assert model_kind(str(tmp_path)).description != "the folder of a SavedModel"
    assert saved_model_name(str(tmp_path / "m")) == "m"
    loaded = load_model(str(tmp_path / "m"), input_shapes={"": (8, 8, 3)})
    assert not [note for note in loaded.facts.notes if "signature" in note]
    graph = loaded.tflite.graph
    assert next(op.layer for op in graph.operators) == "conv"
    assert [graph.tensors[index].name for index in graph.inputs] == ["Bild"]
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

    interpreter = Interpreter(model_content=bytes(loaded.tflite.data))
    interpreter.allocate_tensors()
    values = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype("float32")
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
    interpreter.invoke()
    answer = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    assert np.asarray(model(values)).std() > 1e-3
    np.testing.assert_allclose(answer, np.asarray(model(values)), atol=1e-6)
