"""Shared parts of all formulas: an error, the values of constants, and products along an axis.

A formula is a function that computes a TensorFlow operator with TFLite's operators. The first
argument is the operator's node in a ``tf.Graph``, which gives attributes and shapes. The other
arguments are the input tensors. The result is the output tensor. All shapes are fixed. If an input
is a small constant in the graph, the formula gets a constant tensor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

Formula: TypeAlias = "Callable[..., Any]"


class NotReplaceableError(Exception):
    """The formula cannot compute this node. The node stays in the graph."""


def constant(x: Any) -> np.ndarray[Any, Any]:
    """Return the value of a constant input tensor.

    Raises:
        NotReplaceableError: The tensor is not constant.
    """
    import tensorflow as tf  # noqa: PLC0415 -- takes seconds

    value = tf.get_static_value(x)
    if value is None:
        raise NotReplaceableError
    return np.asarray(value)


def multiply_axis(x: Any, matrix: np.ndarray[Any, Any], axis: int) -> Any:
    """Return ``x`` multiplied by a matrix along one axis.

    Args:
        x: A float32 tensor.
        matrix: Matrix of shape ``(m, n)``. The size of the axis is ``m`` in ``x``, and ``n`` in the
            result.
        axis: Index of the axis.
    """
    import tensorflow as tf  # noqa: PLC0415

    order = [place for place in range(len(x.shape)) if place != axis % len(x.shape)]
    order.append(axis % len(x.shape))
    is_last = order == sorted(order)
    moved = x if is_last else tf.transpose(x, order)
    rows = tf.reshape(moved, (-1, matrix.shape[0]))
    product = tf.matmul(rows, tf.constant(matrix, tf.float32))
    y = tf.reshape(product, (*moved.shape[:-1], matrix.shape[1]))
    return y if is_last else tf.transpose(y, np.argsort(order))
