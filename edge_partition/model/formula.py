"""Tools of all formulas: the error, values of constants, and products along an axis.

A formula takes a node of a ``tf.Graph`` and the node's inputs, and returns the node's output. The
node gives attributes and shapes. Inputs that are constants of the graph are constants for the
formula. Shapes are static.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

Formula: TypeAlias = "Callable[..., Any]"


class NotReplaceableError(Exception):
    """The formula does not cover the node; the node stays in the graph."""


def constant(x: Any) -> np.ndarray[Any, Any]:
    """Return the value of a constant input.

    Raises:
        NotReplaceableError: The value depends on the model's input.
    """
    import tensorflow as tf  # noqa: PLC0415 -- takes seconds

    value = tf.get_static_value(x)
    if value is None:
        raise NotReplaceableError
    return np.asarray(value)


def multiply_axis(x: Any, matrix: np.ndarray[Any, Any], axis: int) -> Any:
    """Multiply ``x`` along ``axis``, of size ``m``, by a matrix of shape ``(m, n)``."""
    import tensorflow as tf  # noqa: PLC0415

    order = [place for place in range(len(x.shape)) if place != axis % len(x.shape)]
    order.append(axis % len(x.shape))
    is_last = order == sorted(order)
    moved = x if is_last else tf.transpose(x, order)
    rows = tf.reshape(moved, (-1, matrix.shape[0]))
    product = tf.matmul(rows, tf.constant(matrix, tf.float32))
    y = tf.reshape(product, (*moved.shape[:-1], matrix.shape[1]))
    return y if is_last else tf.transpose(y, np.argsort(order))
