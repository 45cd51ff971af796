"""Count the multiply-accumulates (MACs) of one operator. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_partition.tflite.graph import Tensor
    from edge_partition.tflite.read_operators import FileOperator


def count_macs(op: FileOperator, tensors: Sequence[Tensor]) -> int:
    """Return the MACs of one inference (Howard et al. 2017, "MobileNets", section 3.1).

    The axes of weights are those of the reference kernels of TensorFlow Lite: convolutions
    ``[out, ..., in / groups]``, depthwise ``[1, height, width, out]``, fully connected
    ``[out, in]``, transposed convolutions ``[out, height, width, in]``, 3-D
    ``[depth, height, width, in, out]``.

    Args:
        op: The operator.
        tensors: All tensors of the model, by index.

    Returns:
        The count; 0 for operators that mainly move or map values.
    """
    shapes = [tensors[tensor].shape for tensor in op.inputs]
    if len(shapes) < 2 or not op.outputs:  # noqa: PLR2004 - every kind below reads two tensors
        return 0
    made = math.prod(tensors[op.outputs[0]].shape)
    weights = shapes[1]
    match op.kind:
        case "CONV_2D" | "FULLY_CONNECTED":
            macs = made * math.prod(weights[1:])
        case "DEPTHWISE_CONV_2D":
            macs = made * math.prod(weights[1:-1])
        case "CONV_3D":
            macs = made * math.prod(weights[:-1])
        case "TRANSPOSE_CONV" if len(shapes) > 2:  # noqa: PLR2004 - sizes, weights, input
            macs = math.prod(shapes[2]) * math.prod(weights[:-1])
        case "BATCH_MATMUL":
            macs = made * shapes[0][-2 if op.is_transposed else -1]
        case _:
            macs = 0
    return macs
