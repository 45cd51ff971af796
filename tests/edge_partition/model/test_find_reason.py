"""The reason in real errors of Keras and TensorFlow is the line with the cause."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edge_partition.model.find_reason import find_reason
from edge_partition.model.seeded_weights import keras

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

layers = keras.layers


class OwnLayer(layers.Layer):
    def call(self, x: Any) -> Any:
        return keras.ops.reshape(x, (7, 5))


class Doubled(layers.Layer):
    def call(self, x: Any) -> Any:
        return 2 * x


def dense(units: int, wide: int = 4) -> keras.Model:
    x = keras.Input((wide,))
    return keras.Model(x, layers.Dense(units)(x))


def reason_of(action: Callable[[], Any]) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011 -- each has its own type
        action()
    first = str(caught.value).splitlines()[0] if str(caught.value) else ""
    reason = find_reason(caught.value)
    assert "\n" not in reason
    assert not reason.endswith(".")
    return f"{first} >> {reason}"


def test_a_layer_that_keras_does_not_know_is_named(tmp_path: Path) -> None:
    x = keras.Input((4,))
    keras.Model(x, Doubled()(x)).save(tmp_path / "m.keras")
    told = reason_of(lambda: keras.saving.load_model(tmp_path / "m.keras"))
    first, _, reason = told.partition(" >> ")
    assert "could not be deserialized properly" in first
    assert reason == "Could not locate class 'Doubled'"


def test_the_reason_has_a_shape_that_a_layer_computes_wrongly() -> None:
    told = reason_of(lambda: OwnLayer()(keras.Input((3,), batch_size=2)))
    assert told.startswith("Exception encountered when calling OwnLayer.call(). >> ")
    assert told.endswith(">> Cannot reshape a tensor with 6 elements to shape [7,5] (35 elements)")


def test_the_reason_has_both_shapes_of_a_wrong_input() -> None:
    told = reason_of(lambda: dense(2)(np.zeros((1, 5))))
    assert "expected shape=(None, 4), found shape=(1, 5)" in told.partition(" >> ")[2]


def test_the_reason_has_both_shapes_of_wrong_weights(tmp_path: Path) -> None:
    dense(3).save_weights(tmp_path / "w.weights.h5")
    told = reason_of(lambda: dense(2).load_weights(tmp_path / "w.weights.h5"))
    first, _, reason = told.partition(" >> ")
    assert first.startswith("A total of 1 objects could not be loaded")
    assert "variable.shape=(4, 2), Received: value.shape=(4, 3)" in reason


def test_a_truncated_h5_file_is_named_as_the_reason(tmp_path: Path) -> None:
    dense(2).save(tmp_path / "m.h5")
    (tmp_path / "cut.h5").write_bytes((tmp_path / "m.h5").read_bytes()[:3000])
    told = reason_of(lambda: keras.saving.load_model(tmp_path / "cut.h5"))
    assert "truncated file" in told.partition(" >> ")[2]


def test_a_damaged_zip_file_is_named_as_the_reason(tmp_path: Path) -> None:
    dense(2).save(tmp_path / "m.keras")
    data = bytearray((tmp_path / "m.keras").read_bytes())
    start = data.index(b"model.weights.h5") + 200
    data[start : start + 30] = bytes(byte ^ 0x5A for byte in data[start : start + 30])
    (tmp_path / "bad.keras").write_bytes(data)
    assert reason_of(lambda: keras.saving.load_model(tmp_path / "bad.keras")).endswith(
        ">> Bad CRC-32 for file 'model.weights.h5'"
    )


def test_a_graph_that_fails_while_it_runs_gives_its_last_line() -> None:
    x = keras.Input((None,), dtype="int32")
    model = keras.Model(x, layers.Embedding(10, 2)(x))
    told = reason_of(lambda: model.predict(np.full((1, 3), 99), verbose=0))
    assert "99 is not in [0, 10)" in told.partition(" >> ")[2]


def test_the_cause_replaces_an_error_without_a_message() -> None:
    def fail() -> None:
        try:
            {}["block_3"]
        except KeyError as error:
            raise RuntimeError from error

    assert reason_of(fail).endswith(">> no 'block_3'")
    with contextlib.suppress(ValueError):
        raise ValueError
    assert find_reason(ValueError()) == "ValueError"


def test_a_printout_is_cut_at_a_sentence() -> None:
    error = ValueError("Layer x wants 3 inputs. " + "array([0.1, 0.2]) " * 100)
    assert find_reason(error) == "Layer x wants 3 inputs"
