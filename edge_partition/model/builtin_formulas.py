"""What TensorFlow has an operator for and TFLite has not, computed by operators that TFLite has.

Each function takes a node of a ``tf.Graph``, for its attributes and shapes, and its inputs, and
returns its output. Inputs that are constants of the graph are constants here. Shapes are static.
Answers are TensorFlow's up to float32 rounding; pooling by maxima, patches, bits and diagonals are
TensorFlow's bit for bit.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Formula: TypeAlias = "Callable[..., Any]"

#: The longest axis whose running product is written out.
_LONGEST_PRODUCT = 4096
#: Of a 32-bit integer.
_BITS = 32
# erf(x) = x P(x^2) / Q(x^2) on [-4, 4], as Eigen has it (unsupported/.../SpecialFunctionsImpl.h).
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
#: Below, series take the place of logarithms: LiteRT's has an error of 1e-7 near 1.
_NEAR = 0.25
#: Where a square still fits float32.
_LARGE = 1e9


class NotReplaceableError(Exception):
    """A node has something that its formula does not cover; the node stays as it is."""


def constant(x: Any) -> np.ndarray[Any, Any]:
    """Return an input's value.

    Raises:
        NotReplaceableError: The value depends on the model's input.
    """
    import tensorflow as tf  # noqa: PLC0415 -- seconds, which `-h` need not take

    value = tf.get_static_value(x)
    if value is None:
        raise NotReplaceableError
    return np.asarray(value)


def multiply_axis(x: Any, matrix: np.ndarray[Any, Any], axis: int) -> Any:
    """Multiply ``x`` along ``axis``, of ``m`` values, by a matrix of shape ``(m, n)``."""
    import tensorflow as tf  # noqa: PLC0415

    order = [place for place in range(len(x.shape)) if place != axis % len(x.shape)]
    order.append(axis % len(x.shape))
    is_last = order == sorted(order)
    moved = x if is_last else tf.transpose(x, order)
    rows = tf.reshape(moved, (-1, matrix.shape[0]))
    product = tf.matmul(rows, tf.constant(matrix, tf.float32))
    y = tf.reshape(product, (*moved.shape[:-1], matrix.shape[1]))
    return y if is_last else tf.transpose(y, np.argsort(order))


# Pooling, patches and resizing.


def _pool_3d(pool_2d: Formula) -> Formula:
    """Pool height and width, then depth: a maximum of maxima, or a mean of means.

    With padding "same" a mean counts real elements alone, whose number is a product as well.
    """

    def pool(node: Any, x: Any) -> Any:
        import tensorflow as tf  # noqa: PLC0415

        if node.get_attr("data_format") != b"NDHWC":
            raise NotReplaceableError
        window, strides = (node.get_attr(name)[1:4] for name in ("ksize", "strides"))
        padding = node.get_attr("padding").decode()
        batch, depth, *area, channels = x.shape.as_list()
        x = tf.reshape(x, (batch * depth, *area, channels))
        x = pool_2d(x, window[1:], strides[1:], padding)
        area = x.shape.as_list()[1:3]
        x = tf.reshape(x, (batch, depth, math.prod(area), channels))
        x = pool_2d(x, (window[0], 1), (strides[0], 1), padding)
        return tf.reshape(x, (batch, x.shape[1], *area, channels))

    return pool


def _max_pool_2d(*arguments: Any) -> Any:
    import tensorflow as tf  # noqa: PLC0415

    return tf.nn.max_pool2d(*arguments)


def _average_pool_2d(*arguments: Any) -> Any:
    import tensorflow as tf  # noqa: PLC0415

    return tf.nn.avg_pool2d(*arguments)


def _extract_patches(node: Any, x: Any) -> Any:
    """Gather each window's rows, then its columns."""
    import tensorflow as tf  # noqa: PLC0415

    sizes, strides, rates = (node.get_attr(name)[1:3] for name in ("ksizes", "strides", "rates"))
    count, *area, channels = x.shape.as_list()
    places, padding = [], [(0, 0)]
    for length, size, stride, rate in zip(area, sizes, strides, rates, strict=True):
        reach = (size - 1) * rate + 1
        if node.get_attr("padding") == b"SAME":
            number = -(-length // stride)
            missing = max((number - 1) * stride + reach - length, 0)
        else:
            number, missing = (length - reach) // stride + 1, 0
        padding.append((missing // 2, missing - missing // 2))
        places.append(np.arange(number)[:, None] * stride + np.arange(size) * rate)
    if any(map(any, padding)):
        x = tf.pad(x, [*padding, (0, 0)])
    for axis, place in enumerate(places, 1):
        if not np.array_equal(place.ravel(), np.arange(x.shape[axis])):
            x = tf.gather(x, place.ravel().astype("int32"), axis=axis)
    (rows, height), (columns, width) = (place.shape for place in places)
    # Of four dimensions, as more of them are not everywhere transposed.
    x = tf.reshape(x, (count * rows, height, columns, width * channels))
    x = tf.transpose(x, (0, 2, 1, 3))
    return tf.reshape(x, (count, rows, columns, height * width * channels))


def _resize(run: Callable[[Any, Any, Any, list[Any]], Any]) -> Formula:
    """Resize height and width by a matrix each: what the operator makes of a unit matrix."""

    def resize(node: Any, x: Any, size: Any, *arguments: Any) -> Any:
        import tensorflow as tf  # noqa: PLC0415
        from tensorflow.python.eager import context  # noqa: PLC0415

        values = [constant(argument) for argument in arguments]
        x = tf.cast(x, tf.float32)
        for axis, length in enumerate(constant(size).tolist(), 1):
            unit = np.eye(x.shape[axis], dtype="float32")[None, :, None]
            along = [np.array([value[axis - 1], neutral], "float32")
                     for value, neutral in zip(values, (1, 0), strict=False)]  # fmt: skip
            with context.eager_mode():
                columns = run(node, unit, np.array([length, 1], "int32"), along).numpy()
            x = multiply_axis(x, columns[0, :, 0].T, axis)
        return x

    return resize


def _run_resize(name: str) -> Formula:
    def run(node: Any, image: Any, size: Any, _: Any) -> Any:
        import tensorflow as tf  # noqa: PLC0415

        options = {"align_corners": node.get_attr("align_corners")}
        if name != "ResizeArea":
            options["half_pixel_centers"] = node.get_attr("half_pixel_centers")
        return getattr(tf.raw_ops, name)(images=image, size=size, **options)

    return run


def _run_scale(node: Any, image: Any, size: Any, along: list[Any]) -> Any:
    import tensorflow as tf  # noqa: PLC0415

    return tf.raw_ops.ScaleAndTranslate(
        images=image,
        size=size,
        scale=along[0],
        translation=along[1],
        kernel_type=node.get_attr("kernel_type"),
        antialias=node.get_attr("antialias"),
    )


# Functions of one number.


def _horner(x: Any, coefficients: Iterable[float]) -> Any:
    """Return a polynomial's value; its coefficients begin with the highest power's."""
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

    root = tf.exp(0.5 * tf.abs(x))  # its square overflows later than exp does
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


# Axes.


def _cumprod(node: Any, x: Any, axis: Any) -> Any:
    """Multiply by what stands 1, 2, 4, ... places before."""
    import tensorflow as tf  # noqa: PLC0415

    place = int(constant(axis)) % len(x.shape)
    length = x.shape[place]
    if not 0 < length <= _LONGEST_PRODUCT:
        raise NotReplaceableError
    if node.get_attr("reverse"):
        x = tf.reverse(x, [place])

    def shifted(y: Any, by: int) -> Any:
        kept = tf.gather(y, np.arange(length - by, dtype="int32"), axis=place)
        sizes = [by if axis == place else size for axis, size in enumerate(x.shape.as_list())]
        return tf.concat([tf.ones(sizes, x.dtype), kept], place)

    if node.get_attr("exclusive"):
        x = shifted(x, 1)
    step = 1
    while step < length:
        x = x * shifted(x, step)
        step *= 2
    return tf.reverse(x, [place]) if node.get_attr("reverse") else x


def _cross(_: Any, a: Any, b: Any) -> Any:
    import tensorflow as tf  # noqa: PLC0415

    def turned(x: Any, order: Sequence[int]) -> Any:
        return tf.gather(x, np.array(order, "int32"), axis=len(x.shape) - 1)

    left = turned(a, (1, 2, 0)) * turned(b, (2, 0, 1))
    return left - turned(a, (2, 0, 1)) * turned(b, (1, 2, 0))


def _diagonal(_: Any, x: Any, offset: Any, __: Any) -> Any:
    import tensorflow as tf  # noqa: PLC0415

    offsets = set(constant(offset).ravel().tolist())
    if len(offsets) != 1:
        raise NotReplaceableError
    *batch, rows, columns = x.shape.as_list()
    places = np.diagonal(np.arange(rows * columns).reshape(rows, columns), offsets.pop())
    flat = tf.reshape(x, (*batch, rows * columns))
    return tf.gather(flat, places.astype("int32"), axis=len(batch))


def _count_below(compare: str) -> Formula:
    """Return how many of a sorted row stand before each value."""

    def count(node: Any, row: Any, values: Any) -> Any:
        import tensorflow as tf  # noqa: PLC0415

        below = getattr(tf, compare)(tf.expand_dims(row, 1), tf.expand_dims(values, 2))
        return tf.reduce_sum(tf.cast(below, node.outputs[0].dtype), axis=2)

    return count


# Bits of 32-bit integers: TFLite has exclusive or, and shifts to the right.


def _invert(_: Any, x: Any) -> Any:
    return -1 - x


def _bitwise_and(_: Any, a: Any, b: Any) -> Any:
    """Add all bits but the last without carry: a + b = (a ^ b) + 2 (a & b)."""
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


# Colours: tensorflow/core/kernels/image/colorspace_op.h.


def _rgb_to_hsv(_: Any, x: Any) -> Any:
    import tensorflow as tf  # noqa: PLC0415

    r, g, b = (x[..., place : place + 1] for place in range(3))
    value = tf.reduce_max(x, -1, keepdims=True)
    spread = value - tf.reduce_min(x, -1, keepdims=True)
    saturation = tf.where(value > 0, spread / tf.where(value > 0, value, tf.ones_like(value)), 0.0)
    norm = 1.0 / (6.0 * tf.where(spread > 0, spread, tf.ones_like(spread)))
    hue = tf.where(
        tf.equal(r, value),
        norm * (g - b),
        tf.where(tf.equal(g, value), norm * (b - r) + 2 / 6, norm * (r - g) + 4 / 6),
    )
    hue = tf.where(spread > 0, hue, 0.0)
    return tf.concat([tf.where(hue < 0, hue + 1.0, hue), saturation, value], -1)


def _hsv_to_rgb(_: Any, x: Any) -> Any:
    import tensorflow as tf  # noqa: PLC0415

    hue, saturation, value = (x[..., place : place + 1] for place in range(3))
    sixth = hue * 6.0
    shares = [
        tf.abs(sixth - 3.0) - 1.0,
        2.0 - tf.abs(sixth - 2.0),
        2.0 - tf.abs(sixth - 4.0),
    ]
    share = tf.clip_by_value(tf.concat(shares, -1), 0.0, 1.0)
    return ((1.0 - saturation) + saturation * share) * value


def _adjust_hue(node: Any, x: Any, delta: Any) -> Any:
    import tensorflow as tf  # noqa: PLC0415

    hsv = _rgb_to_hsv(node, x)
    hue = hsv[..., :1] + delta
    return _hsv_to_rgb(node, tf.concat([hue - tf.floor(hue), hsv[..., 1:]], -1))


def _adjust_saturation(node: Any, x: Any, scale: Any) -> Any:
    import tensorflow as tf  # noqa: PLC0415

    hsv = _rgb_to_hsv(node, x)
    saturation = tf.clip_by_value(hsv[..., 1:2] * scale, 0.0, 1.0)
    return _hsv_to_rgb(node, tf.concat([hsv[..., :1], saturation, hsv[..., 2:]], -1))


def _adjust_contrast(_: Any, x: Any, factor: Any) -> Any:
    import tensorflow as tf  # noqa: PLC0415

    mean = tf.reduce_mean(x, (-3, -2), keepdims=True)
    return (x - mean) * factor + mean


#: Of float32, by TensorFlow's name of the operator.
_OF_FLOATS: Mapping[str, Formula] = {
    "Acos": _acos,
    "Acosh": _acosh,
    "AdjustContrastv2": _adjust_contrast,
    "AdjustHue": _adjust_hue,
    "AdjustSaturation": _adjust_saturation,
    "Asin": _asin,
    "Asinh": _asinh,
    "Atan": _atan,
    "Atanh": _atanh,
    "AvgPool3D": _pool_3d(_average_pool_2d),
    "Cosh": _cosh,
    "Cross": _cross,
    "Cumprod": _cumprod,
    "Erf": _erf,
    "Erfc": _erfc,
    "Erfinv": _erfinv,
    "ExtractImagePatches": _extract_patches,
    "HSVToRGB": _hsv_to_rgb,
    "LowerBound": _count_below("less"),
    "MatrixDiagPartV3": _diagonal,
    "MaxPool3D": _pool_3d(_max_pool_2d),
    "RGBToHSV": _rgb_to_hsv,
    "ResizeArea": _resize(_run_resize("ResizeArea")),
    "ResizeBicubic": _resize(_run_resize("ResizeBicubic")),
    "ScaleAndTranslate": _resize(_run_scale),
    "Sinh": _sinh,
    "Tan": _tan,
    "UpperBound": _count_below("less_equal"),
}
#: Of int32.
_OF_INTEGERS: Mapping[str, Formula] = {
    "BitwiseAnd": _bitwise_and,
    "BitwiseOr": _bitwise_or,
    "Invert": _invert,
    "LeftShift": _left_shift,
}
#: By TensorFlow's name of the operator, and the dtype of its first input.
FORMULAS: Mapping[tuple[str, str], Formula] = {
    (name, dtype): formula
    for dtype, formulas in (("float32", _OF_FLOATS), ("int32", _OF_INTEGERS))
    for name, formula in formulas.items()
}
