from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_partition.tflite.find_layers import AmbiguousLayerError, UnknownLayerError
from edge_partition.tflite.graph import Graph, Operator, Tensor, layer_label


def chain(*names: str) -> Graph:
    """Return a chain of operators, one for each name."""
    tensors = [Tensor(0, "image", "float32", (4,), 16)]
    tensors += [
        Tensor(index, name, "float32", (4,), 16) for index, name in enumerate(names, start=1)
    ]
    operators = [
        Operator(index, "ADD", (index,), (index + 1,), layer=layer_label(name))
        for index, name in enumerate(names)
    ]
    cuts = tuple(range(1, len(names)))
    return Graph("model", tuple(tensors), tuple(operators), (0,), (len(names),), cuts)


#: A layer and a nested model's layer of one name, as the converter names them.
NESTED = chain("net/dense/MatMul", "net/inner/dense/MatMul", "net/inner/dense2/MatMul", "out")


@pytest.mark.parametrize(
    ("name", "position"),
    [("dense", 1), ("inner/dense", 2), ("inner", 3), ("dense2", 3), ("net/dense", 1), ("out", 4)],
)
def test_an_exact_name_takes_precedence_over_the_end_of_a_path(name: str, position: int) -> None:
    assert NESTED.position_after(name) == position


@pytest.mark.parametrize(
    ("names", "name", "choices"),
    [
        (
            ("m/a/dense/MatMul", "m/b/dense/MatMul", "m/out/MatMul"),
            "dense",
            ("a/dense", "b/dense"),
        ),
        # A name is no beginning of another one.
        (
            ("m/a/fc/MatMul", "m/a_b/fc/MatMul", "m/a/fc_1/MatMul", "y"),
            "fc",
            ("a/fc", "a_b/fc"),
        ),
        # Of two models side by side the choices begin with the model.
        (("one/dense/MatMul", "two/dense/MatMul"), "dense", ("one/dense", "two/dense")),
        (
            ("m/a/x/dense/MatMul", "m/b/x/dense/MatMul", "y"),
            "x/dense",
            ("a/x/dense", "b/x/dense"),
        ),
    ],
)
def test_an_ambiguous_name_is_refused_with_unambiguous_choices(
    names: tuple[str, ...], name: str, choices: tuple[str, ...]
) -> None:
    graph = chain(*names)
    with pytest.raises(AmbiguousLayerError) as caught:
        graph.position_after(name)
    assert caught.value.choices == choices
    assert f"model has 2 layers named {name!r}: {', '.join(choices)}. Name one" in str(caught.value)
    found = [graph.position_after(choice) for choice in choices]
    assert len(set(found)) == len(choices)
    for choice, position in zip(choices, found, strict=True):
        assert choice in graph.tensors[position].name


def test_a_shared_layer_ends_with_its_last_call() -> None:
    graph = chain("m/dense/MatMul", "m/dense_1/MatMul", "m/dense/MatMul_1", "out")
    assert graph.position_after("dense") == 3
    assert graph.position_after("dense_1") == 2
    assert graph.position_after("m/dense/MatMul") == 1


def test_a_name_may_omit_scopes_that_all_layers_share() -> None:
    graph = chain(
        "StatefulPartitionedCall/model/dense/MatMul",
        "StatefulPartitionedCall/model/inner/dense/MatMul",
        "StatefulPartitionedCall/model/out/MatMul",
    )
    for name in ("dense", "model/dense", "StatefulPartitionedCall/model/dense"):
        assert graph.position_after(name) == 1
    assert graph.position_after("inner/dense") == 2
    assert graph.position_after("model") == 3


def test_every_layer_fused_into_an_operator_denotes_it() -> None:
    graph = chain("m/conv/convolution;m/bn/batchnorm/add;m/act/Relu", "m/last/MatMul")
    for name in ("conv", "bn", "act", graph.tensors[1].name):
        assert graph.position_after(name) == 1


def test_an_error_lists_eight_choices_and_counts_the_rest() -> None:
    graph = chain(*(f"m/block_{number}/dense/MatMul" for number in range(20)))
    with pytest.raises(AmbiguousLayerError, match=r"block_0/dense, .*block_7/dense and 12 more\."):
        graph.position_after("dense")


def test_an_unknown_name_gets_similar_names() -> None:
    with pytest.raises(UnknownLayerError, match="Did you mean dense") as caught:
        NESTED.position_after("denze")
    assert caught.value.layer_name == "denze"
    # Without the scope that all share.
    assert set(caught.value.near_matches) == {"dense", "dense2", "inner/dense"}


PARTS = st.sampled_from(["m", "a", "b", "a_1", "dense", "ü 1"])
PATHS = st.lists(PARTS, min_size=1, max_size=5).map("/".join)
TENSOR_NAMES = st.lists(PATHS, min_size=1, max_size=2).map(";".join)


@given(st.lists(TENSOR_NAMES, min_size=1, max_size=12, unique=True))
def test_every_cut_name_denotes_its_own_cut(names: list[str]) -> None:
    graph = chain(*names)
    for position, operator in enumerate(graph.operators, start=1):
        made = graph.tensors[operator.outputs[0]].name
        name = graph.layer_names.name_of(operator, [made])
        if name is not None:
            assert graph.position_after(name) == position
        else:
            # What it made is also called as a layer that ends later.
            assert graph.position_after(made) > position


@given(st.lists(TENSOR_NAMES, min_size=1, max_size=12, unique=True))
def test_a_name_denotes_one_operator_or_is_refused(names: list[str]) -> None:
    graph = chain(*names)
    for name in {part for text in names for part in (text, *text.split("/"), layer_label(text))}:
        try:
            position = graph.position_after(name)
        except (AmbiguousLayerError, UnknownLayerError) as error:
            for choice in getattr(error, "choices", ()):
                assert 1 <= graph.position_after(choice) <= len(names)
            continue
        operator = graph.operators[position - 1]
        made = graph.tensors[operator.outputs[0]].name
        assert name in {made, operator.layer} or f"/{name}/" in f"/{made.replace(';', '/')}/"


def test_layers_of_a_converted_model_are_found_despite_repeated_names() -> None:
    from edge_partition.model.convert_tflite import convert_tflite  # noqa: PLC0415 - seconds
    from edge_partition.model.seeded_weights import keras  # noqa: PLC0415
    from edge_partition.model.wrap_operations import wrap_operations  # noqa: PLC0415
    from edge_partition.tflite.read_tflite import read_tflite  # noqa: PLC0415

    def dense(name: str) -> keras.layers.Layer:
        return keras.layers.Dense(8, activation="relu", name=name)

    inner = keras.Sequential([keras.Input((8,)), dense("dense"), dense("dense2")], name="inner")
    other = keras.Sequential([keras.Input((8,)), dense("dense"), dense("dense2")], name="inner_1")
    shared = dense("dense_1")
    x = keras.Input((8,))
    y = shared(other(inner(shared(dense("dense")(x)))))
    graph = read_tflite(
        convert_tflite(wrap_operations(keras.Model(x, dense("out")(y), name="net")))
    ).graph
    assert len(graph.operators) == 8
    found = {
        name: graph.position_after(name)
        for name in ("dense", "inner", "inner/dense", "inner_1/dense", "inner_1", "dense_1", "out")
    }
    assert found == {
        "dense": 1, "inner": 4, "inner/dense": 3, "inner_1/dense": 5, "inner_1": 6, "dense_1": 7,
        "out": 8,
    }  # fmt: skip
    with pytest.raises(AmbiguousLayerError, match=r"inner/dense2, inner_1/dense2\. Name one"):
        graph.position_after("dense2")
    for position, operator in enumerate(graph.operators, start=1):
        name = graph.layer_names.name_of(
            operator, (graph.tensors[index].name for index in operator.outputs)
        )
        assert name is not None
        assert graph.position_after(name) == position
