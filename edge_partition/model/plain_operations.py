"""Replacements for two functions that Keras calls and that TFLite's converter cannot convert.

The calls are in ``keras/src/backend/tensorflow/numpy.py`` of Keras 3.15:

- ``argmax`` and ``argmin`` call ``signbit`` to sort -0.0 before 0.0. ``signbit`` uses bit
  operations that TFLite lacks.
- ``add`` calls ``bias_add`` if the right operand has exactly one dimension ``n`` that is not 1, as
  in the shape ``(1, n, 1)``. If the last dimension of the left operand is not ``n``, ``add`` asks
  for the layout "channels first". For this layout, the converter makes an invalid transposition
  (TensorFlow 2.21).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def plain_operations() -> Iterator[None]:
    """Within the block, let Keras find signs with arithmetic, and add biases with an addition.

    The results are the same, except that NaN always counts as positive.
    """
    import tensorflow as tf  # noqa: PLC0415 -- takes seconds
    from keras.src.backend.tensorflow import numpy as keras_numpy  # noqa: PLC0415

    find_signs: Any = getattr(keras_numpy, "signbit", None)
    add_bias = tf.nn.bias_add

    def signbit(x: Any) -> Any:
        values = tf.convert_to_tensor(x)
        if values.dtype != tf.float32:
            return find_signs(x)
        # 1 divided by a zero is an infinity with the sign of the zero.
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
