"""Files and models of Keras 2 are read by Keras 2 if installed, or else refused with advice."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from checkout import CHECKOUT

from edge_partition.model.convert_tflite import convert_tflite, freeze_model
from edge_partition.model.keras_model import (
    InputShapeError,
    ModelSourceError,
    input_specs,
    load_keras_model,
)
from edge_partition.model.legacy_keras import is_keras2_version, keras_version
from edge_partition.model.seeded_weights import keras

if TYPE_CHECKING:
    from pathlib import Path

tf_keras = pytest.importorskip("tf_keras")
layers = tf_keras.layers


def picture_model(make: Any) -> Any:
    x = tf_keras.Input((16, 16, 3), name="picture")
    return tf_keras.Model(x, make(x), name="legacy")


def image(seed: int = 0, size: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, size, size, 3)).astype("float32")


#: Models that Keras 3 cannot read, or reads differently.
KINDS = {
    "groups": lambda x: layers.Dense(3)(
        layers.GlobalAveragePooling2D()(layers.DepthwiseConv2D(3)(x))
    ),
    "time_major": lambda x: layers.LSTM(4)(layers.Reshape((16, 48))(x)),
    "operators": lambda x: layers.Conv2D(4, 3)(x / 127.5 - 1.0)[:, 1:3],
    "slash": layers.Conv2D(4, 3, name="block1/conv"),
    "batch_norm": lambda x: layers.BatchNormalization()(layers.Conv2D(4, 3)(x)),
    "nested": tf_keras.Sequential([layers.Conv2D(4, 3), layers.Flatten()]),
    "leaky": lambda x: layers.LeakyReLU()(layers.ELU()(layers.Conv2DTranspose(4, 3)(x))),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_file_of_keras_2_answers_as_keras_2_does(tmp_path: Path, kind: str, suffix: str) -> None:
    if kind == "operators" and suffix == ".h5":
        pytest.skip("tf_keras itself cannot read slices back")
    model = picture_model(KINDS[kind])
    file = tmp_path / f"m{suffix}"
    model.save(file)
    assert is_keras2_version(keras_version(str(file)))
    loaded = load_keras_model(str(file))
    assert [(x.name, x.shape) for x in input_specs(loaded.model)] == [("picture", (1, 16, 16, 3))]
    wanted = model(image(), training=False).numpy()
    assert np.abs(wanted - model(image(1), training=False).numpy()).max() > 1e-4
    (answer,) = loaded.model([image()])
    np.testing.assert_array_equal(np.asarray(answer), wanted)


def test_a_model_that_a_function_returns_converts_and_names_its_operations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def make(x: Any) -> Any:
        return layers.Flatten()(layers.Conv2D(4, 3, name="a/b", padding="same")(x / 127.5 - 1.0))

    model = picture_model(make)
    monkeypatch.setitem(sys.modules, "made", SimpleNamespace(model=lambda: model))
    loaded = load_keras_model("made:model")
    assert [(x.operation, x.constants) for x in loaded.operations] == [
        ("tf.math.truediv", ("y=127.5",)),
        ("tf.math.subtract", ("y=1.0",)),
    ]
    content = convert_tflite(freeze_model(loaded.model))
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], 100 * image())
    interpreter.invoke()
    answer = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    wanted = model(100 * image(), training=False).numpy()
    assert wanted.std() > 0.1
    np.testing.assert_allclose(answer, wanted, atol=1e-5)


def test_open_and_unbuilt_models_take_a_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    x = tf_keras.Input((None, None, 3), name="any")
    is_open = tf_keras.Model(x, layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3)(x)))
    unbuilt = tf_keras.Sequential([layers.Flatten(), layers.Dense(2)])
    for model in (is_open, unbuilt):
        monkeypatch.setitem(sys.modules, "made", SimpleNamespace(model=lambda it=model: it))
        with pytest.raises(InputShapeError, match="--input-shape"):
            load_keras_model("made:model")
        loaded = load_keras_model("made:model", input_shapes={"": (16, 16, 3)}).model
        assert input_specs(loaded)[0].shape == (1, 16, 16, 3)
        np.testing.assert_array_equal(
            np.asarray(loaded([image()])[0]), model(image(), training=False).numpy()
        )


@pytest.mark.parametrize("policy", ["mixed_float16", "float64"])
def test_other_precisions_are_rebuilt_in_float32(
    monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    tf_keras.mixed_precision.set_global_policy(policy)
    try:
        model = picture_model(KINDS["batch_norm"])
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")
    twin = picture_model(KINDS["batch_norm"])
    twin.set_weights(model.get_weights())
    wanted = twin(image(), training=False).numpy()
    assert wanted.std() > 1e-2
    monkeypatch.setitem(sys.modules, "made", SimpleNamespace(model=lambda: model))
    loaded = load_keras_model("made:model")
    assert policy in loaded.notes[0]
    np.testing.assert_array_equal(np.asarray(loaded.model([image()])[0]), wanted)


def test_seeded_weights_of_keras_2_distinguish_inputs_and_are_the_same_in_every_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = []
    for _ in range(2):
        made = SimpleNamespace(model=lambda: picture_model(KINDS["batch_norm"]))
        monkeypatch.setitem(sys.modules, "made", made)
        loaded = load_keras_model("made:model", weights="seeded")
        answers.append([np.asarray(loaded.model([image(seed)])[0]) for seed in (0, 1)])
    np.testing.assert_array_equal(answers[0], answers[1])
    assert np.abs(answers[0][0] - answers[0][1]).max() > 0.1
    assert loaded.weights == "seeded"


@pytest.mark.parametrize("kind", ["groups", "time_major", "slash"])
def test_without_keras_2_the_error_for_its_files_has_both_alternatives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    picture_model(KINDS[kind]).save(tmp_path / "m.h5")
    monkeypatch.setitem(
        sys.modules, "tf_keras", None
    )  # None marks a module that cannot be imported
    with pytest.raises(ModelSourceError) as caught:
        load_keras_model(str(tmp_path / "m.h5"))
    text = str(caught.value)
    assert "was written by Keras 2" in text
    assert "`pip install tf-keras`" in text
    assert "model.export(FOLDER)" in text
    assert "\n" not in text


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_without_keras_2_a_function_that_keras_3_changed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    model = tf_keras.Sequential(
        [tf_keras.Input((16, 16, 3), name="picture"), layers.Activation("hard_sigmoid")]
    )
    file = str(tmp_path / f"m{suffix}")
    model.save(file)
    wanted = model(image(), training=False).numpy()
    (answer,) = load_keras_model(file).model([image()])
    np.testing.assert_array_equal(np.asarray(answer), wanted)
    read_by_keras3 = keras.saving.load_model(file, compile=False)
    assert np.abs(np.asarray(read_by_keras3(image())) - wanted).max() > 0.05
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    with pytest.raises(ModelSourceError, match=r"Keras 2.*computes hard_sigmoid differently"):
        load_keras_model(file)


def test_without_keras_2_a_command_fails_and_a_saved_model_is_read(tmp_path: Path) -> None:
    model = picture_model(KINDS["groups"])
    model.save(tmp_path / "m.h5")
    model.save(tmp_path / "folder", save_format="tf")
    script = (
        "import sys; sys.modules['tf_keras'] = None\n"
        "from edge_partition.model.keras_model import load_keras_model as load\n"
        "print(load('folder').model.inputs)\n"
        "load('m.h5')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )  # fmt: skip
    assert "name='picture', dtype='float32', shape=(1, 16, 16, 3)" in done.stdout
    assert "was written by Keras 2" in done.stderr.splitlines()[-1]


def test_a_file_that_keras_3_can_read_is_read_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = picture_model(KINDS["batch_norm"])
    model.save(tmp_path / "m.h5")
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    loaded = load_keras_model(str(tmp_path / "m.h5"))
    assert "written by Keras 2" in loaded.notes[0]
    np.testing.assert_allclose(
        np.asarray(loaded.model(image())), model(image(), training=False).numpy(), atol=1e-6
    )
