"""The sign bit of floats without bit operations, which TFLite has none of for them.

Keras's ``argmax`` and ``argmin`` ask for the sign of zeros, so that -0.0 comes before 0.0
(``keras/src/backend/tensorflow/numpy.py``, Keras 3.15).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def signs_by_division() -> Iterator[None]:
    """Have Keras find the signs of floats by arithmetic for a while.

    The results are the same but for NaN, whose sign counts as plus.
    """
    import tensorflow as tf  # noqa: PLC0415 -- seconds, which `-h` need not take
    from keras.src.backend.tensorflow import numpy as keras_numpy  # noqa: PLC0415

    original = getattr(keras_numpy, "signbit", None)
    if original is None:
        yield
        return

    def signbit(x: Any) -> Any:
        values = tf.convert_to_tensor(x)
        if values.dtype != tf.float32:
            return original(x)
        # Of zeros the inverse has the sign: it is an infinity.
        return tf.logical_or(values < 0, 1 / values < 0)

    keras_numpy.signbit = signbit
    try:
        yield
    finally:
        keras_numpy.signbit = original
