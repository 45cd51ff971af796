"""Formulas for running products, diagonals and other TensorFlow operators that work along axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edge_partition.model.formula import NotReplaceableError, constant

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge_partition.model.formula import Formula

#: Largest number of elements along the axis of a running product that is replaced.
_LONGEST_PRODUCT = 4096


def _cumprod(node: Any, x: Any, axis: Any) -> Any:
    """Return the running product of ``x`` along an axis.

    The first step multiplies each element by the element 1 position earlier. The second step
    multiplies each result of the first step by the result 2 positions earlier. The distance doubles
    in each further step.
    """
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
    """Return a formula that counts the elements of a sorted row that come before a value.

    Args:
        compare: Comparison of an element with the value: ``less`` or ``less_equal``.
    """

    def count(node: Any, row: Any, values: Any) -> Any:
        import tensorflow as tf  # noqa: PLC0415

        below = getattr(tf, compare)(tf.expand_dims(row, 1), tf.expand_dims(values, 2))
        return tf.reduce_sum(tf.cast(below, node.outputs[0].dtype), axis=2)

    return count


#: Formulas for float32, by TensorFlow's operator name.
AXIS_FORMULAS: Mapping[str, Formula] = {
    "Cross": _cross,
    "Cumprod": _cumprod,
    "LowerBound": _count_below("less"),
    "MatrixDiagPartV3": _diagonal,
    "UpperBound": _count_below("less_equal"),
}
