"""Converted models with sizes known only from running: cut elsewhere, with exact results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from chained_slices import run_chained

from edge_partition.model.convert_tflite import convert_tflite
from edge_partition.model.seeded_weights import keras, seed_weights
from edge_partition.model.wrap_operations import wrap_operations
from edge_partition.tflite.kept_together import find_kept_together
from edge_partition.tflite.read_tflite import read_tflite

if TYPE_CHECKING:
    from collections.abc import Callable


layers, ops = keras.layers, keras.ops


def counted() -> keras.Model:
    """``WHERE`` lists the positive values: the converted result has the open shape ``[-1, 2]``."""
    import tensorflow as tf  # noqa: PLC0415 -- after Keras's settings

    class Places(layers.Layer):
        def call(self, x: Any) -> Any:
            return tf.reduce_sum(tf.cast(tf.where(x > 0), tf.float32), axis=0, keepdims=True)

    x = keras.Input(batch_shape=(1, 16), name="x")
    places = Places(name="places")(layers.Dense(6, name="d")(x))
    return keras.Model(x, layers.Dense(4, name="last")(places + layers.Dense(2, name="e")(x)))


def aligned() -> keras.Model:
    """A loop's results have no known rank: converted, their shape is that of a scalar."""
    x = keras.Input(batch_shape=(1, 16), name="x")
    scores = layers.Reshape((6, 5))(layers.Dense(30, name="d")(x))
    words = ops.cast(4 * layers.Dense(3, activation="sigmoid", name="e")(x), "int32")
    loss = ops.ctc_loss(words, scores, np.int32([3]), np.int32([6]))
    return keras.Model(x, layers.Dense(4, name="last")(ops.reshape(loss, (1, 1)) + x))


@pytest.mark.parametrize(
    ("build", "loose"),
    [(counted, "Where"), (aligned, "ctc_loss_dense/While")],
)
def test_a_tensor_without_a_fixed_shape_stays_in_one_stage_and_every_cut_is_exact(
    build: Callable[[], keras.Model], loose: str
) -> None:
    model = build()
    seed_weights(model)
    tflite = read_tflite(convert_tflite(wrap_operations(model)), name="loose")
    graph = tflite.graph
    assert 0 < len(graph.cuts) < len(graph.operators) - 1
    for cut in graph.cuts:
        assert tflite.unfixed.isdisjoint(tensor.index for tensor in graph.boundary(cut))
    together = [kept.reason for kept in find_kept_together(tflite)]
    assert any(loose in reason for reason in together), together
    assert all("no fixed shape" in reason for reason in together), together

    generator = np.random.default_rng(0)
    payloads = [generator.uniform(-1, 1, (1, 16)).astype(np.float32).tobytes() for _ in range(3)]
    wholes = [run_chained(tflite, (), payload) for payload in payloads]
    assert len(set(wholes)) == len(payloads), "blind comparison"
    for cut in graph.cuts:
        assert [run_chained(tflite, (cut,), payload) for payload in payloads] == wholes
    assert [run_chained(tflite, graph.cuts, payload) for payload in payloads] == wholes
