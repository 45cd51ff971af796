"""The MODEL argument becomes a model with fixed shapes, or the cause is one clear sentence."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge_partition.model.keras_model import (
    InputShapeError,
    ModelSourceError,
    WeightsUnavailableError,
    input_specs,
    load_keras_model,
)
from edge_partition.model.seeded_weights import keras, seed_weights

if TYPE_CHECKING:
    from pathlib import Path

layers = keras.layers


def small_model(size: int | None = 8) -> keras.Model:
    x = keras.Input((size, size, 3), name="image")
    y = layers.Conv2D(6, 3, strides=2, use_bias=False)(x)
    y = layers.ReLU(6.0)(layers.BatchNormalization()(y) + 3.0) * (1.0 / 6.0)
    y = layers.GlobalAveragePooling2D()(layers.SeparableConv2D(8, 2)(y))
    return keras.Model(x, layers.Dense(5, activation="softmax", name="scores")(y), name="small")


def random_image(model: keras.Model, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(model.inputs[0].shape).astype("float32")


def outputs_for_two_inputs(model: keras.Model) -> list[np.ndarray]:
    return [np.asarray(model(random_image(model, seed), training=False)) for seed in (0, 1)]


@pytest.mark.parametrize(
    ("name", "size"), [("MobileNetV3Large", 224), ("MobileNetV3Small", 224), ("InceptionV3", 299)]
)
def test_an_application_gets_its_documented_size_and_a_batch_of_one(name: str, size: int) -> None:
    loaded = load_keras_model(name, weights="seeded")
    (spec,) = input_specs(loaded.model)
    assert spec.shape == (1, size, size, 3)
    assert (loaded.name, loaded.weights, loaded.labels) == (name, "seeded", ())


def test_seeded_weights_distinguish_inputs_and_are_the_same_in_every_run() -> None:
    first = load_keras_model(
        "MobileNetV3Small", weights="seeded", input_shapes={"": (96, 96, 3)}
    ).model
    a, b = (np.asarray(first(255 * random_image(first, seed)))[0] for seed in (0, 1))
    assert a.std() > 1e-4
    assert np.abs(a - b).max() > 1e-4
    # Keras gives the second model's layers other numbers, which must not change the weights.
    second = load_keras_model(
        "MobileNetV3Small", weights="seeded", input_shapes={"": (96, 96, 3)}
    ).model
    for x, y in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)


def test_seeded_weights_are_the_same_numbers_on_every_machine() -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    seed_weights(model)
    kernel, bias = model.get_weights()
    assert [hex(bits) for bits in kernel.reshape(-1).view("uint32")] == [
        "0x3e009aab", "0xbf9a16ab", "0xbe539555", "0x3fa7a355", "0x3da5f555", "0xbdd8caab",
    ]  # fmt: skip
    assert [hex(bits) for bits in bias.view("uint32")] == ["0x3d28773c", "0x3cc1ac70"]


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_file_keeps_its_weights_and_brings_its_labels(tmp_path: Path, suffix: str) -> None:
    # Keras itself cannot read bare operations from .h5 files.
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(5)]
    )
    seed_weights(model, seed=3)
    path = tmp_path / f"garden.v2{suffix}"
    model.save(path)
    (tmp_path / "garden.v2.labels.txt").write_text("rose\ntulip\nmoss\nfern\nivy\n")
    loaded = load_keras_model(str(path))
    a, b = outputs_for_two_inputs(loaded.model)
    assert np.abs(a - b).max() > 1e-4
    for x, y in zip(loaded.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)
    assert (loaded.name, loaded.weights) == ("garden.v2", "trained")
    assert loaded.labels == ("rose", "tulip", "moss", "fern", "ivy")
    assert input_specs(loaded.model)[0].shape == (1, 8, 8, 3)


def test_seeded_replaces_the_weights_of_a_file(tmp_path: Path) -> None:
    small_model().save(tmp_path / "m.keras")
    loaded = load_keras_model(str(tmp_path / "m.keras"), weights="seeded")
    reference = small_model()
    seed_weights(reference)
    assert loaded.weights == "seeded"
    for x, y in zip(loaded.model.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", ["w.weights.h5", "w.keras"])
def test_a_weights_file_is_loaded(tmp_path: Path, name: str) -> None:
    trained = small_model()
    seed_weights(trained, seed=7)
    (trained.save if name.endswith(".keras") else trained.save_weights)(tmp_path / name)
    small_model().save(tmp_path / "m.keras")
    loaded = load_keras_model(str(tmp_path / "m.keras"), weights=str(tmp_path / name))
    for x, y in zip(loaded.model.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)


def test_open_sizes_take_the_given_input_shape(tmp_path: Path) -> None:
    model = small_model(size=None)
    seed_weights(model)
    model.save(tmp_path / "m.keras")
    with pytest.raises(InputShapeError, match="--input-shape"):
        load_keras_model(str(tmp_path / "m.keras"))
    loaded = load_keras_model(str(tmp_path / "m.keras"), input_shapes={"": (10, 12, 3)}).model
    assert input_specs(loaded)[0].shape == (1, 10, 12, 3)
    x = random_image(loaded, 0)
    np.testing.assert_array_equal(np.asarray(loaded(x)), np.asarray(model(x)))
    with pytest.raises(InputShapeError, match="2 dimensions"):
        load_keras_model(str(tmp_path / "m.keras"), input_shapes={"": (10, 12)})
    with pytest.raises(InputShapeError, match="10,12,4"):
        load_keras_model(str(tmp_path / "m.keras"), input_shapes={"": (10, 12, 4)})


def test_a_function_in_the_working_directory_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "garden_models.py").write_text(
        "import keras\n"
        "number = 3\n"
        "def tiny():\n"
        "    return keras.Sequential([keras.layers.Dense(2)])\n"
        "def broken():\n"
        "    raise OSError('no disk')\n"
        "class Opaque(keras.Model):\n"
        "    def call(self, x):\n"
        "        return x\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    loaded = load_keras_model("garden_models:tiny", input_shapes={"": (4,)})
    assert loaded.name == "tiny"
    assert input_specs(loaded.model)[0].shape == (1, 4)
    with pytest.raises(InputShapeError, match="--input-shape"):
        load_keras_model("garden_models:tiny")
    with pytest.raises(ModelSourceError, match="OSError: no disk"):
        load_keras_model("garden_models:broken")
    with pytest.raises(ModelSourceError, match="absent"):
        load_keras_model("garden_models:absent")
    with pytest.raises(ModelSourceError, match="is a int"):
        load_keras_model("garden_models:number")
    with pytest.raises(InputShapeError, match=r"subclassed model.*never built.*--input-shape"):
        load_keras_model("garden_models:Opaque")
    with pytest.raises(ModelSourceError, match="no_such_module"):
        load_keras_model("no_such_module:tiny")


def test_the_error_for_a_wrong_name_has_the_nearest_names() -> None:
    with pytest.raises(ModelSourceError, match="MobileNetV3Large"):
        load_keras_model("MobileNetV3Larg")
    with pytest.raises(ModelSourceError, match="MobileNetV2"):
        load_keras_model("mobilenetv2")


def test_files_without_a_model_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.keras").write_text("hello")
    (tmp_path / "text.h5").write_text("hello")
    model = small_model()
    model.save(tmp_path / "cut.keras")
    whole = (tmp_path / "cut.keras").read_bytes()
    (tmp_path / "cut.keras").write_bytes(whole[: len(whole) // 2])
    model.save_weights(tmp_path / "only.weights.h5")
    for name in ("absent.keras", "text.keras", "text.h5", "cut.keras", "only.weights.h5"):
        with pytest.raises(ModelSourceError) as raised:
            load_keras_model(str(tmp_path / name))
        assert name in str(raised.value)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore")
def test_code_in_a_file_is_not_run(tmp_path: Path, suffix: str) -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Lambda(lambda x: x + 1.0)])
    model.save(tmp_path / f"m{suffix}")
    with pytest.raises(ModelSourceError, match="Lambda"):
        load_keras_model(str(tmp_path / f"m{suffix}"))


def test_the_error_for_unavailable_weights_has_both_alternatives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An empty cache and a refusing proxy simulate a machine without a network.
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path), raising=False)
    with pytest.raises(WeightsUnavailableError, match=r"--weights FILE.*--weights seeded"):
        load_keras_model("MobileNetV3Small")
    with pytest.raises(WeightsUnavailableError, match=r"absent\.h5"):
        load_keras_model("MobileNetV3Small", weights=str(tmp_path / "absent.h5"))


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    other = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    other.save_weights(tmp_path / "other.weights.h5")
    small_model().save(tmp_path / "m.keras")
    with pytest.raises(WeightsUnavailableError, match="do not fit"):
        load_keras_model(str(tmp_path / "m.keras"), weights=str(tmp_path / "other.weights.h5"))


def test_the_error_for_an_h5_file_with_bare_operations_names_the_limit(tmp_path: Path) -> None:
    x = keras.Input((6,))
    residual = keras.Model(x, keras.layers.LayerNormalization()(x) + x)
    for model in (small_model(), residual):
        model.save(tmp_path / "bare.h5")
        with pytest.raises(
            ModelSourceError, match=r"An \.h5 file cannot store.*Save the model as \.keras"
        ):
            load_keras_model(str(tmp_path / "bare.h5"))


def test_a_file_of_a_newer_keras_names_both_versions(tmp_path: Path) -> None:
    """A newer Keras adds arguments to layers, which this Keras does not know."""
    plain, newer = tmp_path / "plain.keras", tmp_path / "newer.keras"
    small_model().save(plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(newer, "w") as new:
        for entry in old.namelist():
            text = old.read(entry)
            if entry == "metadata.json":
                text = json.dumps(json.loads(text) | {"keras_version": "3.99.0"}).encode()
            if entry == "config.json":
                text = text.replace(b'"use_bias":', b'"of_the_future": 1, "use_bias":')
            new.writestr(entry, text)

    with pytest.raises(ModelSourceError) as raised:
        load_keras_model(str(newer))
    assert "was written by Keras 3.99.0" in str(raised.value)
    assert f"Keras {keras.__version__} is older and cannot read" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert load_keras_model(str(plain)) is not None


def test_a_file_that_is_absent_is_no_application(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits.keras").touch()
    with pytest.raises(ModelSourceError, match=r"no such file.*; did you mean digits\.keras\?$"):
        load_keras_model("digits.kers")
    with pytest.raises(ModelSourceError, match="no such file or folder"):
        load_keras_model("models/absent")
