"""Compute the work of an operator: a measure of its time that does not depend on the board.

Work is counted in work units. A unit is the time of one multiply-accumulate (MAC) on the board that
runs the operator. So the time of an operator is its work divided by the board's speed in units per
second. Float operators and quantized operators (int8 or uint8 results) have different units, and a
board has a speed for each of the two. The work of an operator is the sum of three parts:

- The larger of two numbers: the operator's MACs, and a constant times the bytes of weights that the
  operator reads. An operator that uses each weight once, such as a fully connected layer, waits for
  the memory.
- A constant times the bytes that the operator writes. A convolution with a kernel larger than 1 x 1
  also writes the patches of its input that lie under the kernel (im2col).
- A constant for the operator itself.

The constants for written bytes and for the operator itself, and the speeds of the Raspberry Pi 4,
were fitted to times in MLPerf Inference v2.0 (TensorFlow Lite 2.7.1 with ruy). The fit used a third
of the times of MobileNets and EfficientNet-Lites. ``docs/planning.md`` compares the other two
thirds with the times that the constants predict. The constants for weights assume that the memory
delivers 3.6 GB/s.

The agents run XNNPACK, which is faster than predicted. XNNPACK publishes its times on a Raspberry
Pi 4 with 64 bits (github.com/google/XNNPACK, README, 8 February 2022). For float MobileNets, the
published time divided by the predicted time is 0.95 (v1) and 0.6 to 0.7 (v2, v3 Large, v3 Small).
For int8 MobileNets, it is 0.7 to 0.8 (v1, v2). The predicted ratio of int8 time to float time is
about right. If the times come from a profile of the boards, they do not have this error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_partition.tflite.graph import Graph, Operator

#: Speed of quantized operators divided by the speed of float operators, each in its own units per
#: second. It is the ratio of the Raspberry Pi 4, and the default for other boards.
INT8_SPEEDUP = 2.54


@dataclass(frozen=True)
class UnitCosts:
    """The constants from which an operator's work is computed, in work units.

    The module's docstring defines the work unit.

    Attributes:
        weight_byte: Work to read a byte of weights.
        written_byte: Work to write a byte.
        operator: Fixed work of each operator, in addition to MACs, weights and written bytes.
    """

    weight_byte: float
    written_byte: float
    operator: int


FLOAT_COSTS = UnitCosts(weight_byte=3, written_byte=14.5, operator=184_000)
INT8_COSTS = UnitCosts(weight_byte=8, written_byte=45.8, operator=642_000)

_QUANTIZED_DTYPES = frozenset({"int8", "uint8"})


@dataclass(frozen=True)
class WorkTerms:
    """The quantities from which an operator's work is computed.

    Attributes:
        is_quantized: Whether the operator's first result is int8 or uint8.
        macs: Number of multiply-accumulates.
        weight_bytes: Bytes of weights that the operator reads.
        written_bytes: Bytes that the operator writes: its results and, if it is a convolution, the
            patches of its input (im2col).
    """

    is_quantized: bool
    macs: int
    weight_bytes: int
    written_bytes: int

    @property
    def costs(self) -> UnitCosts:
        """The constants for operators of this type: quantized or float."""
        return INT8_COSTS if self.is_quantized else FLOAT_COSTS

    @property
    def compute_macs(self) -> float:
        """The larger of two numbers: the work of the arithmetic, and the work to read weights."""
        return max(self.macs, self.costs.weight_byte * self.weight_bytes)

    @property
    def work_macs(self) -> int:
        """Work of the operator, as the number of MACs of its type that take the same time.

        The types are quantized and float: a board computes their MACs at different speeds.
        """
        written_macs = self.costs.written_byte * self.written_bytes
        return round(self.compute_macs + written_macs + self.costs.operator)


def work_terms(graph: Graph, index: int) -> WorkTerms:
    """Return the quantities from which the work of ``graph.operators[index]`` is computed."""
    operator = graph.operators[index]
    results = [graph.tensors[tensor] for tensor in operator.outputs]
    return WorkTerms(
        is_quantized=bool(results) and results[0].dtype in _QUANTIZED_DTYPES,
        macs=operator.macs,
        weight_bytes=operator.weight_bytes,
        written_bytes=sum(result.size_bytes for result in results) + _patch_bytes(graph, operator),
    )


def operator_work(graph: Graph, start: int, stop: int) -> tuple[list[int], list[int]]:
    """Return the work of operators ``[start, stop)``, in work units.

    Returns:
        Two lists, each with one number for each operator. In the first list, the number is the work
        of a float operator, or 0 for a quantized operator. In the second list, the number is the
        work of a quantized operator, or 0 for a float operator.
    """
    terms = [work_terms(graph, index) for index in range(start, stop)]
    return (
        [0 if term.is_quantized else term.work_macs for term in terms],
        [term.work_macs if term.is_quantized else 0 for term in terms],
    )


def _patch_bytes(graph: Graph, operator: Operator) -> int:
    """Return the size of the input patches that a convolution writes (im2col), in bytes.

    The size is 0 for a 1 x 1 kernel and for operators that are no convolution. There is one patch
    for each output pixel. A patch has as many values as one output value needs MACs.
    """
    if operator.kind != "CONV_2D" or not operator.inputs:
        return 0
    given, made = (graph.tensors[ends[0]] for ends in (operator.inputs, operator.outputs))
    values = math.prod(made.shape)
    if not values or not given.shape or operator.macs <= values * given.shape[-1]:
        return 0
    return operator.macs * made.size_bytes // (values * made.shape[-1])
