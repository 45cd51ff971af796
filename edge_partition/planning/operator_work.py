"""The work of an operator: its share of an inference's time, in units that boards have in common.

A unit is the time of one multiply-accumulate (MAC) on the board that runs the operator, so a
board's speed in units per second turns work into time. The units of float operators and of
quantized operators (int8 or uint8 results) differ, and a board has a speed for each. The work of an
operator is the sum of:

- the larger of its MACs and a number for each byte of weights that it reads: an operator that uses
  each weight once, such as a fully connected layer, waits for the memory;
- a number for each byte that it writes. A convolution with a kernel larger than 1 x 1 first writes
  the patches under its kernel side by side;
- a number for the operator itself.

The numbers for written bytes and for an operator were fitted, together with the speeds of the
Raspberry Pi 4, to a third of the times of MobileNets and EfficientNet-Lites in MLPerf Inference
v2.0 (TensorFlow Lite 2.7.1 with ruy). ``docs/planning.md`` compares the other two thirds with their
forecast. The numbers for weights are an assumption: 3.6 GB/s from the memory.

The forecast is slower than XNNPACK, which the agents run. The times that XNNPACK publishes for the
64-bit Raspberry Pi 4 (github.com/google/XNNPACK, README, 8 February 2022) are 0.95 of the forecast
for MobileNet v1 in float, 0.6 to 0.7 for v2, v3 Large and v3 Small in float, and 0.7 to 0.8 for v1
and v2 in int8. The ratio of int8 to float is about the same. A profile of the boards has no such
error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_partition.tflite.graph import Graph, Operator

#: Speed of quantized operators over the speed of float operators, in units per second, on a board
#: that gives no other: that of the Raspberry Pi 4.
INT8_SPEEDUP = 2.54


@dataclass(frozen=True)
class UnitCosts:
    """Work of an operator beside its MACs, in units.

    Attributes:
        weight_byte: Work of a byte of weights.
        written_byte: Work of a byte that is written.
        operator: Work of an operator.
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
        macs: Multiply-accumulates.
        weight_bytes: Bytes of weights that are read.
        written_bytes: Bytes of results and of the patches of a convolution.
    """

    is_quantized: bool
    macs: int
    weight_bytes: int
    written_bytes: int

    @property
    def costs(self) -> UnitCosts:
        """The costs of the operator's units."""
        return INT8_COSTS if self.is_quantized else FLOAT_COSTS

    @property
    def compute_macs(self) -> float:
        """Work of the arithmetic or of reading the weights, whichever is larger."""
        return max(self.macs, self.costs.weight_byte * self.weight_bytes)

    @property
    def work_macs(self) -> int:
        """The whole work of the operator, in its own units."""
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
    """Return the work of operators ``[start, stop)`` in units of float and of quantized operators.

    One of the two is 0 for each operator.
    """
    terms = [work_terms(graph, index) for index in range(start, stop)]
    return (
        [0 if term.is_quantized else term.work_macs for term in terms],
        [term.work_macs if term.is_quantized else 0 for term in terms],
    )


def _patch_bytes(graph: Graph, operator: Operator) -> int:
    """Return the bytes of the patches under a convolution's kernel; 0 for a 1 x 1 kernel.

    The MACs of one result are the values of its patch.
    """
    if operator.kind != "CONV_2D" or not operator.inputs:
        return 0
    given, made = (graph.tensors[ends[0]] for ends in (operator.inputs, operator.outputs))
    values = math.prod(made.shape)
    if not values or not given.shape or operator.macs <= values * given.shape[-1]:
        return 0
    return operator.macs * made.size_bytes // (values * made.shape[-1])
