"""Nodes get the names of their layers, each name once."""

from __future__ import annotations

from edge_partition.model.rename_nodes import layer_of_node, make_unique


def test_repeated_and_taken_names_get_numbers() -> None:
    assert make_unique(["a", "b", "a", "a"]) == ["a", "b", "a_1", "a_2"]
    assert make_unique(["a", "b"], taken=["a", "a_1"]) == ["a_2", "b"]
    assert make_unique(["a_1", "a", "a"]) == ["a_1", "a", "a_2"]


def test_the_layer_of_a_node_is_found_through_inlined_calls_and_numbers() -> None:
    layers = {"m", "dense", "caf.-e9-"}
    assert layer_of_node("m/dense/MatMul", layers) == "m/dense"
    assert layer_of_node("StatefulPartitionedCall/m_1/dense_1/MatMul", layers) == "m/dense"
    assert layer_of_node("m/caf.-e9-/Relu", layers) == "m/café"
    assert layer_of_node("Const", layers) == ""
