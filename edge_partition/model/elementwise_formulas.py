"""Formulas that compute element-wise functions and bit operations with TFLite's operators."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from edge_partition.model.formula import Formula

#: Number of bits of an integer.
_BITS = 32
# erf(x) = x P(x^2) / Q(x^2) on [-4, 4], as in Eigen (unsupported/.../SpecialFunctionsImpl.h).
_ERF_P = (
    -2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
    -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02,
)  # fmt: skip
_ERF_Q = (
    -1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03,
    -1.42647390514189e-02,
)  # fmt: skip
# Numerical Recipes, 2nd edition, section 6.2, erfcc: relative error below 1.2e-7.
_ERFC = (
    0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418,
    0.37409196, 1.00002368, -1.26551223,
)  # fmt: skip
# Giles, "Approximating the erfinv function", GPU Computing Gems 2011, single precision.
_ERFINV_MIDDLE = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
    -0.00125372503, -0.00417768164, 0.246640727, 1.50140941,
)  # fmt: skip
_ERFINV_ENDS = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
    -0.0076224613, 0.00943887047, 1.00167406, 2.83297682,
)  # fmt: skip
_SINH = tuple(1 / math.factorial(power) for power in (11, 9, 7, 5, 3, 1))
_ATANH = tuple(1 / power for power in (11, 9, 7, 5, 3, 1))
_ASINH = (35 / 1152, -5 / 112, 3 / 40, -1 / 6, 1)
#: For arguments of smaller magnitude, a power series replaces the logarithm. Near 1, LiteRT's
#: logarithm has an error of 1e-7.
_NEAR = 0.25
#: Largest magnitude that the formulas square. Its square does not overflow float32.
_LARGE = 1e9


def _horner(x: Any, coefficients: Iterable[float]) -> Any:
    """Return a polynomial's value at ``x``; the coefficients go from highest to lowest power."""
    y: Any = 0.0
    for place, coefficient in enumerate(coefficients):
        y = y * x + coefficient if place else coefficient
    return y


def _erf(_: Any, x: Any) -> Any:
    import tensorflow as tf  # noqa: PLC0415

    x = tf.clip_by_value(x, -4.0, 4.0)
    square = x * x
    return x * _horner(square, _ERF_P) / _horner(square, _ERF_Q)


def _erfc(node: Any, x: Any) -> Any:
    import tensorflow as tf  # noqa: PLC0415

    size = tf.abs(x)
    t = 1.0 / (1.0 + 0.5 * size)
    tail = t * tf.exp(_horner(t, _ERFC) - x * x)
    return tf.where(size < 0.5, 1.0 - _erf(node, x), tf.where(x < 0, 2.0 - tail, tail))  # noqa: PLR2004


def _erfinv(_: Any, x: Any) -> Any:
    import tensorflow as tf  # noqa: PLC0415

    inner = tf.clip_by_value(x, -1 + 2.0**-24, 1 - 2.0**-24)
    w = -tf.math.log((1.0 - inner) * (1.0 + inner))
    middle = _horner(w - 2.5, _ERFINV_MIDDLE)
    ends = _horner(tf.sqrt(w) - 3.0, _ERFINV_ENDS)
    y = tf.where(w < 5.0, middle, ends) * x  # noqa: PLR2004
    y = tf.where(tf.equal(tf.abs(x), 1.0), x * math.inf, y)
    return tf.where(tf.abs(x) > 1.0, tf.fill(x.shape, math.nan), y)


def _atan(_: Any, x: Any) -> Any:
    import tensorflow as tf  # noqa: PLC0415

    return tf.atan2(x, tf.ones_like(x))


def _asin(_: Any, x: Any) -> Any:
    import tensorflow as tf  # noqa: PLC0415

    return tf.atan2(x, tf.sqrt((1.0 - x) * (1.0 + x)))


def _acos(_: Any, x: Any) -> Any:
    import tensorflow as tf  # noqa: PLC0415

    return tf.atan2(tf.sqrt((1.0 - x) * (1.0 + x)), x)


def _atanh(_: Any, x: Any) -> Any:
    import tensorflow as tf  # noqa: PLC0415

    near = x * _horner(x * x, _ATANH)
    return tf.where(tf.abs(x) < _NEAR, near, 0.5 * tf.math.log((1.0 + x) / (1.0 - x)))


def _asinh(_: Any, x: Any) -> Any:
    import tensorflow as tf  # noqa: PLC0415

    size = tf.abs(x)
    inner = tf.minimum(size, _LARGE)
    far = tf.math.log(inner + tf.sqrt(inner * inner + 1.0))
    far = tf.sign(x) * tf.where(size > _LARGE, tf.math.log(size) + math.log(2), far)
    return tf.where(size < _NEAR, x * _horner(x * x, _ASINH), far)


def _acosh(_: Any, x: Any) -> Any:
    import tensorflow as tf  # noqa: PLC0415

    above = tf.minimum(x, _LARGE) - 1.0
    y = tf.math.log(1.0 + (above + tf.sqrt(above) * tf.sqrt(above + 2.0)))
    return tf.where(x > _LARGE, tf.math.log(x) + math.log(2), y)


def _cosh(_: Any, x: Any) -> Any:
    import tensorflow as tf  # noqa: PLC0415

    root = tf.exp(0.5 * tf.abs(x))  # exp(x) may overflow although 0.5 * exp(x) does not
    return 0.5 * root * root + 0.5 / root / root


def _sinh(_: Any, x: Any) -> Any:
    import tensorflow as tf  # noqa: PLC0415

    size = tf.abs(x)
    root = tf.exp(0.5 * size)
    near = x * _horner(x * x, _SINH)
    return tf.where(size < 1.0, near, tf.sign(x) * (0.5 * root * root - 0.5 / root / root))


def _tan(_: Any, x: Any) -> Any:
    import tensorflow as tf  # noqa: PLC0415

    return tf.sin(x) / tf.cos(x)


# Bit operations on 32-bit integers. TFLite has only the exclusive or and the right shift.


def _invert(_: Any, x: Any) -> Any:
    return -1 - x


def _bitwise_and(_: Any, a: Any, b: Any) -> Any:
    """Return ``a & b``.

    Let x be a without its last bit (``a >> 1``), and y be b without its last bit. All bits of the
    result but the last are 2 (x & y) = x + y - (x ^ y). This sum cannot overflow, but a + b can.
    The last bit of the result is the product of the last bits of a and b.
    """
    import tensorflow as tf  # noqa: PLC0415

    x, y = (tf.bitwise.right_shift(value, tf.ones_like(value)) for value in (a, b))
    return x + y - tf.bitwise.bitwise_xor(x, y) + (a - 2 * x) * (b - 2 * y)


def _bitwise_or(node: Any, a: Any, b: Any) -> Any:
    import tensorflow as tf  # noqa: PLC0415

    return tf.bitwise.bitwise_xor(tf.bitwise.bitwise_xor(a, b), _bitwise_and(node, a, b))


def _left_shift(_: Any, x: Any, count: Any) -> Any:
    import tensorflow as tf  # noqa: PLC0415

    powers = np.left_shift(np.int32(1), np.arange(_BITS, dtype="int32"))
    return x * tf.gather(powers, tf.clip_by_value(count, 0, _BITS - 1))


#: Formulas for float32, by TensorFlow's operator name.
ELEMENTWISE_FORMULAS: Mapping[str, Formula] = {
    "Acos": _acos,
    "Acosh": _acosh,
    "Asin": _asin,
    "Asinh": _asinh,
    "Atan": _atan,
    "Atanh": _atanh,
    "Cosh": _cosh,
    "Erf": _erf,
    "Erfc": _erfc,
    "Erfinv": _erfinv,
    "Sinh": _sinh,
    "Tan": _tan,
}
#: Formulas for int32, by TensorFlow's operator name.
BIT_FORMULAS: Mapping[str, Formula] = {
    "BitwiseAnd": _bitwise_and,
    "BitwiseOr": _bitwise_or,
    "Invert": _invert,
    "LeftShift": _left_shift,
}
