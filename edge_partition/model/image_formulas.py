"""Formulas for TensorFlow's image operators: pooling, patches, resizing and colours."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_partition.model.formula import NotReplaceableError, constant, multiply_axis

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edge_partition.model.formula import Formula


def _pool_3d(pool_2d: Formula) -> Formula:
    """Return a formula that pools height and width first, and then depth.

    The result equals 3D pooling: the maximum of maxima is the maximum, and the mean of the means of
    equally large groups is the mean. The groups are equally large with padding "same", too,
    although a mean then leaves out padded elements.

    Args:
        pool_2d: Function that pools two axes.
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
    """Return the patches of images: gather the rows of all patches, and then the columns."""
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
    # The tensor has only four dimensions, because some runtimes cannot transpose more.
    x = tf.reshape(x, (count * rows, height, columns, width * channels))
    x = tf.transpose(x, (0, 2, 1, 3))
    return tf.reshape(x, (count, rows, columns, height * width * channels))


def _resize(run: Callable[[Any, Any, Any, list[Any]], Any]) -> Formula:
    """Return a formula that resizes images with one matrix for the height and one for the width.

    Each matrix is the result of the TensorFlow operator for an identity matrix.

    Args:
        run: Function that runs the TensorFlow operator.
    """

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


# Formulas for colours. Their source is tensorflow/core/kernels/image/colorspace_op.h.


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


#: Formulas for float32, by TensorFlow's operator name.
IMAGE_FORMULAS: Mapping[str, Formula] = {
    "AdjustContrastv2": _adjust_contrast,
    "AdjustHue": _adjust_hue,
    "AdjustSaturation": _adjust_saturation,
    "AvgPool3D": _pool_3d(_average_pool_2d),
    "ExtractImagePatches": _extract_patches,
    "HSVToRGB": _hsv_to_rgb,
    "MaxPool3D": _pool_3d(_max_pool_2d),
    "RGBToHSV": _rgb_to_hsv,
    "ResizeArea": _resize(_run_resize("ResizeArea")),
    "ResizeBicubic": _resize(_run_resize("ResizeBicubic")),
    "ScaleAndTranslate": _resize(_run_scale),
}
