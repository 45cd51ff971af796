"""The pure steps of reading a model: constants, data flow, MACs and cuts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_partition.tflite.check_order import check_order
from edge_partition.tflite.count_macs import count_macs
from edge_partition.tflite.file_tables import InvalidModelError
from edge_partition.tflite.find_constants import Constants, find_constants
from edge_partition.tflite.find_cuts import find_cuts, live_operators
from edge_partition.tflite.graph import Graph, Operator, Tensor
from edge_partition.tflite.read_operators import FileOperator
from edge_partition.tflite.read_tensors import FileTensors


def tensors_of(*shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(index, f"t{index}", "float32", shape, 4) for index, shape in enumerate(shapes)
    )


def found_tensors(count: int, **fields: object) -> FileTensors:
    nothing: frozenset[int] = frozenset()
    found = FileTensors(tensors_of(*((1, 4),) * count), {}, nothing, nothing, nothing)
    return replace(found, **fields)  # type: ignore[arg-type]


# Tensors: 0 input, 1 stored weight, 2 dequantized weight, 3 output, 4 another weight in 1's buffer.
DEQUANTIZE = FileOperator(0, "DEQUANTIZE", (1,), (2,))
ADD = FileOperator(1, "ADD", (0, 2, 4), (3,))


def dequantized() -> tuple[FileTensors, Constants]:
    found = found_tensors(5, buffers={1: 7, 4: 7})
    return found, find_constants(found, (DEQUANTIZE, ADD), ((0,), (3,)), frozenset())


def test_an_operator_fed_by_constants_alone_makes_constants() -> None:
    _, constants = dequantized()
    assert constants.makers == {2: 0}
    assert constants.tensors == {1, 2, 4}


def test_tensors_of_one_buffer_are_read_once_under_the_first_index() -> None:
    _, constants = dequantized()
    assert constants.read_by(ADD) == (1,)


@pytest.mark.parametrize("kind", ["CUSTOM", "MyOwnOperator", "RANDOM_UNIFORM", "READ_VARIABLE"])
def test_operators_whose_inputs_do_not_determine_their_outputs_make_no_constants(kind: str) -> None:
    found = found_tensors(5, buffers={1: 7})
    operators = (replace(DEQUANTIZE, kind=kind), ADD)
    assert find_constants(found, operators, ((0,), (3,)), frozenset()).makers == {}


def test_an_output_of_the_model_is_no_constant() -> None:
    found = found_tensors(5, buffers={1: 7})
    assert find_constants(found, (DEQUANTIZE, ADD), ((0,), (2, 3)), frozenset()).makers == {}


def test_a_tensor_without_elements_that_nothing_writes_is_an_empty_constant() -> None:
    found = found_tensors(5, zero_size=frozenset({0, 2, 4}), buffers={1: 7})
    assert find_constants(found, (DEQUANTIZE, ADD), ((0,), (3,)), frozenset()).empty == {4}


def test_a_sound_data_flow_is_accepted() -> None:
    found, constants = dequantized()
    check_order("net", found, constants, (0,), (3,))


@pytest.mark.parametrize(
    ("operators", "outputs", "message"),
    [
        ((FileOperator(0, "ABS", (2,), (3,)),), (3,), "operator 0 .ABS. reads tensor 2"),
        ((FileOperator(0, "ABS", (0,), (0,)),), (3,), "operator 0 .ABS. writes tensor 0"),
        ((FileOperator(0, "ABS", (0,), (3,)),), (2,), "output 't2' does not depend"),
    ],
)
def test_a_broken_data_flow_is_refused(
    operators: tuple[FileOperator, ...], outputs: tuple[int, ...], message: str
) -> None:
    constants = Constants(operators, {}, frozenset(), {})
    with pytest.raises(InvalidModelError, match=f"^net cannot be split: {message}"):
        check_order("net", found_tensors(4), constants, (0,), outputs)


def test_the_first_value_of_a_variable_may_come_from_a_constant() -> None:
    found = found_tensors(4, variables=frozenset({2}), buffers={1: 7})
    operators = (DEQUANTIZE, replace(ADD, inputs=(0, 2)))
    check_order("net", found, Constants(operators, {1: 7}, frozenset(), {2: 0}), (0,), (3,))
    with pytest.raises(InvalidModelError, match="writes tensor 2"):
        check_order("net", found, Constants(operators, {1: 7}, frozenset(), {}), (0,), (3,))


@pytest.mark.parametrize(
    ("is_transposed", "left", "macs"), [(False, (3, 5), 3 * 2 * 5), (True, (5, 3), 3 * 2 * 5)]
)
def test_a_batch_matmul_contracts_the_axis_that_its_options_say(
    left: tuple[int, ...], macs: int, *, is_transposed: bool
) -> None:
    op = FileOperator(0, "BATCH_MATMUL", (0, 1), (2,), is_transposed=is_transposed)
    assert count_macs(op, tensors_of(left, (5, 2), (3, 2))) == macs


def test_an_operator_that_moves_values_has_no_macs() -> None:
    assert count_macs(FileOperator(0, "RESHAPE", (0, 1), (2,)), tensors_of((4,), (1,), (4,))) == 0


# A chain of five operators: tensor n goes into operator n, which makes tensor n + 1.
CHAIN = tuple(FileOperator(index, "ABS", (index,), (index + 1,)) for index in range(5))
EVERY = frozenset(range(7))


def chain_graph() -> Graph:
    operators = tuple(Operator(op.index, op.kind, op.inputs, op.outputs) for op in CHAIN)
    return Graph("chain", tensors_of(*((1, 4),) * 7), operators, (0,), (5,), cuts=())


def cuts_of(**fields: object) -> tuple[int, ...]:
    given = {"resource_users": frozenset(), "variables": frozenset(), "can_travel": EVERY, **fields}
    operators = given.pop("operators", CHAIN)
    return find_cuts(chain_graph(), operators, **given)  # type: ignore[arg-type]


def test_a_chain_is_cut_anywhere() -> None:
    assert cuts_of() == (1, 2, 3, 4)


def test_no_cut_separates_the_users_of_a_resource() -> None:
    assert cuts_of(resource_users={1, 3}) == (1, 4)


def test_no_cut_separates_the_readers_of_a_variable() -> None:
    operators = tuple(
        replace(op, inputs=(*op.inputs, 6)) if op.index in {0, 2} else op for op in CHAIN
    )
    assert cuts_of(operators=operators, variables={6}) == (3, 4)


def test_no_cut_is_crossed_by_a_tensor_that_cannot_be_sent() -> None:
    assert cuts_of(can_travel=EVERY - {2}) == (1, 3, 4)


def test_operators_that_nothing_depends_on_are_left_out() -> None:
    loose = FileOperator(5, "ABS", (0,), (6,))
    assert live_operators([*CHAIN, loose], (5,), frozenset()) == [*CHAIN]
    assert live_operators([*CHAIN, loose], (5,), {5}) == [*CHAIN, loose]
    assert live_operators([*CHAIN, loose], (2,), frozenset()) == [*CHAIN[:2]]
