"""Keras's ways to compute that TFLite's converter has no operator for, or stumbles over.

Both stand in ``keras/src/backend/tensorflow/numpy.py`` of Keras 3.15:

- ``argmax`` and ``argmin`` ask for the sign of zeros by bit operations, so that -0.0 comes before
  0.0.
- ``add`` calls ``bias_add`` with channels first where its right operand has one dimension that is
  not 1, as any tensor of shape ``(1, n, 1)`` has with a batch of one. The converter makes an
  invalid transposition of that (TensorFlow 2.21).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def plain_operations() -> Iterator[None]:
    """Have Keras find signs of floats by arithmetic, and add biases by adding, for a while.

    Results are the same but for the sign of NaN, which counts as plus.
    """
    import tensorflow as tf  # noqa: PLC0415 -- seconds, which `-h` need not take
    from keras.src.backend.tensorflow import numpy as keras_numpy  # noqa: PLC0415

    find_signs: Any = getattr(keras_numpy, "signbit", None)
    add_bias = tf.nn.bias_add

    def signbit(x: Any) -> Any:
        values = tf.convert_to_tensor(x)
        if values.dtype != tf.float32:
            return find_signs(x)
        # Of zeros the inverse has the sign: it is an infinity.
        return tf.logical_or(values < 0, 1 / values < 0)

    def bias_add(value: Any, bias: Any, data_format: str | None = None, name: Any = None) -> Any:
        if not (data_format or "").startswith("NC"):
            return add_bias(value, bias, data_format, name)
        rank = len(value.shape)
        return tf.add(value, tf.reshape(bias, (-1, *[1] * (rank - 2))), name)

    if find_signs is not None:
        keras_numpy.signbit = signbit
    tf.nn.bias_add = bias_add
    try:
        yield
    finally:
        tf.nn.bias_add = add_bias
        if find_signs is not None:
            keras_numpy.signbit = find_signs
