"""The work of single operators, on graphs of one operator."""

from __future__ import annotations

import math

import pytest

from edge_partition.planning.cost_model import (
    invoke_ms,
    model_speed_gmac_s,
    operator_work_macs,
    total_work_macs,
)
from edge_partition.planning.fleet import Device
from edge_partition.planning.operator_work import (
    FLOAT_COSTS,
    INT8_COSTS,
    INT8_SPEEDUP,
    WorkTerms,
    work_terms,
)
from edge_partition.tflite.graph import Graph, Operator, Tensor

ITEM_SIZES = {"float32": 4, "int8": 1, "uint8": 1}


def one_operator(
    kind: str, given: tuple[int, ...], made: tuple[int, ...], *, macs: int = 0, dtype: str
) -> Graph:
    tensors = tuple(
        Tensor(index, f"t{index}", dtype, shape, math.prod(shape) * ITEM_SIZES[dtype])
        for index, shape in enumerate((given, made))
    )
    operator = Operator(0, kind, (0,), (1,), macs=macs, weight_bytes=1000)
    return Graph(kind, tensors, (operator,), (0,), (1,), ())


@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8"])
def test_a_convolution_writes_the_patches_under_its_kernel_except_for_a_kernel_of_1_x_1(
    dtype: str,
) -> None:
    given, made = (1, 8, 8, 16), (1, 8, 8, 32)
    results = 8 * 8 * 32
    wide = one_operator("CONV_2D", given, made, macs=results * 9 * 16, dtype=dtype)
    patches = 8 * 8 * (9 * 16)
    assert work_terms(wide, 0).written_bytes == (results + patches) * ITEM_SIZES[dtype]
    point = one_operator("CONV_2D", given, made, macs=results * 16, dtype=dtype)
    assert work_terms(point, 0).written_bytes == results * ITEM_SIZES[dtype]
    grouped = one_operator("CONV_2D", given, made, macs=results * 9, dtype=dtype)
    assert work_terms(grouped, 0).written_bytes == results * ITEM_SIZES[dtype]
    depthwise = one_operator("DEPTHWISE_CONV_2D", given, given, macs=9216, dtype=dtype)
    assert work_terms(depthwise, 0).written_bytes == 8 * 8 * 16 * ITEM_SIZES[dtype]


def test_an_operator_that_uses_each_weight_once_waits_for_the_weights() -> None:
    once = WorkTerms(is_quantized=False, macs=1000, weight_bytes=4000, written_bytes=0)
    assert once.compute_macs == 4000 * FLOAT_COSTS.weight_byte
    often = WorkTerms(is_quantized=False, macs=10**6, weight_bytes=4000, written_bytes=0)
    assert often.compute_macs == 10**6


def test_the_result_decides_whether_an_operator_is_quantized() -> None:
    found = {
        dtype: work_terms(one_operator("ADD", (1, 4), (1, 4), dtype=dtype), 0).is_quantized
        for dtype in ITEM_SIZES
    }
    assert found == {"float32": False, "int8": True, "uint8": True}


def test_quantized_operators_take_the_time_of_the_int8_speed() -> None:
    graph = one_operator("CONV_2D", (1, 9, 9, 32), (1, 9, 9, 64), macs=10**9, dtype="int8")
    written = 9 * 9 * 64 + 10**9 // 64
    work = 10**9 + INT8_COSTS.written_byte * written + INT8_COSTS.operator
    board = Device("pi", speed_gmac_s=10, int8_speedup=2)
    assert invoke_ms(graph, board, 0, 1) == pytest.approx(work / (10 * 2) / 1e6)
    usual = Device("pi", speed_gmac_s=10)
    assert invoke_ms(graph, usual, 0, 1) == pytest.approx(work / (10 * INT8_SPEEDUP) / 1e6)
    assert operator_work_macs(graph) == [pytest.approx(work / INT8_SPEEDUP)]
    as_float = one_operator("CONV_2D", (1, 9, 9, 32), (1, 9, 9, 64), macs=10**9, dtype="float32")
    assert invoke_ms(as_float, usual, 0, 1) == invoke_ms(as_float, board, 0, 1)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_the_speed_of_a_model_on_a_board_gives_the_boards_time(dtype: str) -> None:
    graph = one_operator("CONV_2D", (1, 9, 9, 32), (1, 9, 9, 64), macs=10**9, dtype=dtype)
    board = Device("pi", speed_gmac_s=10, int8_speedup=4)
    speed_gmac_s = model_speed_gmac_s(graph, board)
    assert (speed_gmac_s == 10) == (dtype == "float32")
    time_ms = total_work_macs(graph) / speed_gmac_s / 1e6
    assert time_ms == pytest.approx(invoke_ms(graph, board, 0, 1), rel=1e-6)
