from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_partition.tflite.find_layers import UnknownLayerError
from edge_partition.tflite.graph import Graph, Operator, Tensor, layer_label


def tensor(index: int, name: str, size_bytes: int, *, is_constant: bool = False) -> Tensor:
    return Tensor(index, name, "uint8", (size_bytes,), size_bytes, is_constant)


def gated_graph() -> Graph:
    """Stem -> (squeeze, early output), excite x stem -> out; the input is read again at the end."""
    tensors = (
        tensor(0, "image", 100),
        tensor(1, "model/stem/conv", 40),
        tensor(2, "model/squeeze/mean", 4),
        tensor(3, "early", 7),
        tensor(4, "model/gate/mul;model/excite/conv/Sigmoid", 40),
        tensor(5, "late", 10),
        tensor(6, "weights", 1000, is_constant=True),
    )
    operators = (
        Operator(0, "CONV_2D", (0,), (1,), macs=5, weight_bytes=1000, constants=(6,)),
        Operator(1, "MEAN", (1,), (2,), layer="squeeze"),
        Operator(2, "LOGISTIC", (2,), (3,)),
        Operator(3, "MUL", (1, 2), (4,), macs=7, weight_bytes=1000, constants=(6,)),
        Operator(4, "ADD", (4, 0), (5,)),
    )
    return Graph("gated", tensors, operators, (0,), (5, 3), cuts=(1, 2, 3, 4))


def names(tensors: tuple[Tensor, ...]) -> list[str]:
    return [tensor.name for tensor in tensors]


def test_boundary_holds_everything_a_later_stage_or_the_caller_needs() -> None:
    graph = gated_graph()
    assert names(graph.boundary(0)) == ["image"]
    assert names(graph.boundary(1)) == ["image", "model/stem/conv"]
    assert names(graph.boundary(2)) == ["image", "model/stem/conv", "model/squeeze/mean"]
    # The finished output "early" travels on, the gate's input is no longer needed.
    assert names(graph.boundary(4)) == [
        "image",
        "early",
        "model/gate/mul;model/excite/conv/Sigmoid",
    ]


def test_last_boundary_is_the_outputs_in_file_order() -> None:
    assert names(gated_graph().boundary(5)) == ["late", "early"]


def test_boundary_bytes_is_the_sum_over_the_boundary() -> None:
    graph = gated_graph()
    for position in range(6):
        expected = sum(tensor.size_bytes for tensor in graph.boundary(position))
        assert graph.boundary_bytes(position) == expected


def test_an_input_that_nothing_reads_crosses_only_the_first_boundary() -> None:
    graph = gated_graph()
    extra = tensor(7, "unused", 3)
    graph = replace(graph, tensors=(*graph.tensors, extra), inputs=(0, 7))
    assert names(graph.boundary(0)) == ["image", "unused"]
    assert graph.boundary_bytes(0) == 103
    assert "unused" not in names(graph.boundary(1))


def test_shared_weights_count_once_per_stage() -> None:
    graph = gated_graph()
    assert graph.weight_bytes(0, 5) == 1000
    assert graph.weight_bytes(0, 1) + graph.weight_bytes(1, 5) == 2000
    assert graph.weight_bytes(1, 3) == 0


def test_macs_add_up() -> None:
    graph = gated_graph()
    assert graph.macs(0, 5) == 12
    assert graph.macs(1, 3) == 0


def test_peak_counts_inputs_for_the_whole_stage_and_no_forwarded_tensor() -> None:
    graph = gated_graph()
    assert graph.peak_activation_bytes(0, 1) == 100 + 40
    # "image" only passes here: stem 40 + squeeze 4.
    assert graph.peak_activation_bytes(1, 2) == 44
    # image, kept throughout; stem, squeeze, early and the gate's output at operator 3.
    assert graph.peak_activation_bytes(0, 5) == 100 + 40 + 4 + 7 + 40


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2), (0, 6)])
def test_ranges_outside_the_model_are_refused(start: int, stop: int) -> None:
    with pytest.raises(IndexError, match="5 operators"):
        gated_graph().macs(start, stop)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Draw a graph whose operators read available tensors and share constants."""
    size = st.integers(1, 50)
    tensors = [tensor(0, "in", draw(size)), tensor(1, "in2", draw(size))]
    constants = list(range(2, 5))
    tensors += [tensor(index, f"w{index}", draw(size), is_constant=True) for index in constants]
    activations = [0, 1]
    operators = []
    for position in range(draw(st.integers(1, 8))):
        reads = draw(st.lists(st.sampled_from(activations), unique=True, max_size=3))
        weights = draw(st.lists(st.sampled_from(constants), unique=True, max_size=2))
        made = []
        for _ in range(draw(st.integers(1, 2))):
            tensors.append(tensor(len(tensors), f"t{len(tensors)}", draw(size)))
            made.append(len(tensors) - 1)
        operators.append(
            Operator(position, "ANY", tuple(reads), tuple(made), constants=tuple(weights))
        )
        activations += made
    outputs = draw(st.lists(st.sampled_from(activations), unique=True, min_size=1, max_size=3))
    cuts = tuple(range(1, len(operators)))
    return Graph("any", tuple(tensors), tuple(operators), (0, 1), tuple(outputs), cuts)


def simulated_peak(graph: Graph, start: int, stop: int) -> int:
    """Simulate the arena of a stage with a set of live tensors."""
    stage = graph.operators[start:stop]
    read = {index for op in stage for index in op.inputs}
    before = {tensor.index for tensor in graph.boundary(start)} if start else set(graph.inputs)
    after = {tensor.index for tensor in graph.boundary(stop)}
    held = read & before
    peak = 0
    for position, op in enumerate(stage):
        held |= set(op.outputs)
        peak = max(peak, sum(graph.tensors[index].size_bytes for index in held))
        needed = {index for later in stage[position + 1 :] for index in later.inputs}
        held = {index for index in held if index in needed | after | (read & before)}
    return peak


@given(graphs())
def test_tables_single_values_and_a_simulation_agree(graph: Graph) -> None:
    n = len(graph.operators)
    peaks, weights = graph.peak_activation_table(), graph.weight_table()
    assert peaks.shape == weights.shape == (n + 1, n + 1)
    for start in range(n):
        for stop in range(start + 1, n + 1):
            assert peaks[start, stop] == graph.peak_activation_bytes(start, stop)
            assert peaks[start, stop] == simulated_peak(graph, start, stop)
            assert weights[start, stop] == graph.weight_bytes(start, stop)
    assert not np.tril(peaks).any()
    assert not np.tril(weights).any()


def test_a_layer_is_found_by_its_path_in_a_fused_name() -> None:
    graph = gated_graph()
    assert graph.position_after("stem") == 1
    assert graph.position_after("gate") == 4
    assert graph.position_after("excite") == 4
    assert graph.position_after("excite/conv") == 4
    assert graph.position_after("early") == 3


def test_an_operation_inside_a_layer_is_not_a_layer() -> None:
    with pytest.raises(UnknownLayerError):
        gated_graph().position_after("mul")


def test_an_unknown_layer_gets_near_matches() -> None:
    with pytest.raises(UnknownLayerError, match=r"gated has no layer.*squeeze") as caught:
        gated_graph().position_after("sqeeze")
    assert caught.value.near_matches[0] == "squeeze"
    with pytest.raises(UnknownLayerError, match="edge-partition inspect"):
        gated_graph().position_after("0123456789")


@pytest.mark.parametrize(
    ("tensor_name", "label"),
    [
        ("net/re_lu/Relu;net/bn/batchnorm/add_1;net/conv/convolution1", "conv"),
        ("net/bn/batchnorm/add_1", "bn"),
        ("net/block/dense/MatMul", "block/dense"),
        ("net/Add_2", "Add_2"),
        ("predictions", "predictions"),
        (";", ";"),
    ],
)
def test_labels_name_the_layer(tensor_name: str, label: str) -> None:
    assert layer_label(tensor_name) == label
