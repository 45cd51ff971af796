"""Count the multiply-accumulates (MACs) of one operator. The functions are pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_partition.tflite.graph import Tensor
    from edge_partition.tflite.read_operators import FileOperator


def count_macs(op: FileOperator, tensors: Sequence[Tensor]) -> int:
    """Return the number of MACs that an operator computes in one inference.

    The formulas are those of Howard et al. 2017, "MobileNets", section 3.1. The shapes of weights
    are those of TensorFlow Lite's reference kernels; ``in`` and ``out`` are the numbers of input
    channels and output channels:

    - convolution: ``[out, height, width, in / groups]``
    - depthwise convolution: ``[1, height, width, out]``
    - fully connected: ``[out, in]``
    - transposed convolution: ``[out, height, width, in]``
    - 3-D convolution: ``[depth, height, width, in, out]``

    Args:
        op: The operator.
        tensors: All tensors of the model, by index.

    Returns:
        The number of MACs; 0 for operators other than convolutions and matrix products.
    """
    shapes = [tensors[tensor].shape for tensor in op.inputs]
    if len(shapes) < 2 or not op.outputs:  # noqa: PLR2004 - every kind below has two inputs
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
        case "TRANSPOSE_CONV" if len(shapes) > 2:  # noqa: PLR2004 - size, weights, data
            macs = math.prod(shapes[2]) * math.prod(weights[:-1])
        case "BATCH_MATMUL":
            macs = made * shapes[0][-2 if op.is_transposed else -1]
        case _:
            macs = 0
    return macs
