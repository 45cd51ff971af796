from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from tflite_models import FlatModel, chain_of_adds

from edge_core.contract.manifest import TensorSpec
from edge_core.runtime.stage_interpreter import StageInterpreter
from edge_partition.model.load_model import ModelArgumentError, load_model
from edge_partition.tflite.fix_shapes import OpenShapeError, fix_shapes
from edge_partition.tflite.probe_model import CannotRunError, probe_model
from edge_partition.tflite.read_tflite import read_tflite
from edge_partition.tflite.slice_model import slice_model

if TYPE_CHECKING:
    from pathlib import Path


def open_model(*, second_is_open: bool = False) -> bytes:
    """``out = (x + x) @ weight`` over the last of three dimensions, the first two of them open."""
    flat = FlatModel()
    x = flat.tensor("x", (1, 1, 4), signature=(-1, -1, 4))
    doubled = flat.tensor("doubled", (1, 1, 4), signature=(-1, -1, 4))
    flat.operator("ADD", [x, x], [doubled], schema.AddOptionsT())
    rows = flat.tensor("rows", (1, 4), signature=(-1, 4))
    shape = flat.constant("shape", np.array([-1, 4], np.int32))
    flat.operator("RESHAPE", [doubled, shape], [rows], schema.ReshapeOptionsT())
    weight = flat.constant("weight", np.arange(12, dtype=np.float32).reshape(3, 4))
    out = flat.tensor("out", (1, 3), signature=(-1, 3))
    flat.operator("FULLY_CONNECTED", [rows, weight, -1], [out], schema.FullyConnectedOptionsT())
    if second_is_open:
        y = flat.tensor("y", (1, 1), signature=(1, -1))
        summed = flat.tensor("summed", (1, 1), signature=(1, -1))
        flat.operator("ADD", [y, y], [summed], schema.AddOptionsT())
        return flat.to_bytes([x, y], [out, summed])
    return flat.to_bytes([x], [out])


def test_an_input_shape_fixes_every_tensor_and_parts_equal_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "open.tflite"
    path.write_bytes(open_model())
    model = load_model(str(path), input_shapes={"": (5, 4)}).tflite
    graph = model.graph
    shapes = {tensor.name: tensor.shape for tensor in graph.tensors}
    # rows and out have an open first dimension that is no batch.
    assert shapes["x"] == shapes["doubled"] == (1, 5, 4)
    assert (shapes["rows"], shapes["out"]) == ((5, 4), (5, 3))
    assert graph.cuts == (1, 2)

    x = np.random.default_rng(1).standard_normal((1, 5, 4)).astype(np.float32)
    payload = x.tobytes()
    for start, stop in ((0, 1), (1, 2), (2, 3)):
        ends = (
            [TensorSpec(t.name, t.dtype, t.shape) for t in graph.boundary(position)]
            for position in (start, stop)
        )
        part = slice_model(model, start, stop)
        payload = StageInterpreter(part, *ends, num_threads=1).invoke(payload)
    expected = 2 * x[0] @ np.arange(12, dtype=np.float32).reshape(3, 4).T
    np.testing.assert_allclose(
        np.frombuffer(payload, np.float32).reshape(5, 3), expected, rtol=1e-5, atol=1e-5
    )


def test_only_shapes_are_written() -> None:
    data = open_model()
    fixed = fix_shapes(data, name="open", input_shapes={"": (5, 4)})
    assert len(fixed) == len(data)
    assert sum(a != b for a, b in zip(data, fixed, strict=True)) < 4 * 4 * 2 * 3
    # Then there is nothing left to fix.
    assert fix_shapes(fixed, name="open") is fixed


def test_a_model_without_open_dimensions_or_with_an_open_batch_is_unchanged() -> None:
    data = chain_of_adds()
    assert fix_shapes(data, name="chain") is data
    assert fix_shapes(data, name="chain", input_shapes={"": ()}) is data
    flat = FlatModel()
    x = flat.tensor("x", (1, 4), signature=(-1, 4))
    y = flat.tensor("y", (1, 4), signature=(-1, 4))
    flat.operator("ADD", [x, x], [y], schema.AddOptionsT())
    data = flat.to_bytes([x], [y])
    assert fix_shapes(data, name="batch") is data


@pytest.mark.parametrize(
    ("input_shape", "message"),
    [
        (
            None,
            r"open: input 'x' has open dimensions: \[1, \?, 4\]\. Give the shape without the batch",
        ),
        ((5, 3), r"input 'x' is \[1, \?, 4\]; --input-shape 5,3 does not fit"),
        ((5, 4, 1), r"does not fit. Give a shape that fits, such as --input-shape x=16,4"),
    ],
)
def test_a_missing_or_wrong_input_shape_names_the_input(
    input_shape: tuple[int, ...] | None, message: str
) -> None:
    with pytest.raises(OpenShapeError, match=message) as caught:
        fix_shapes(
            open_model(), name="open", input_shapes={"": input_shape} if input_shape else None
        )
    assert caught.value.tensor_name == "x"


def shapes_of(data: bytes) -> dict[str, tuple[int, ...]]:
    return {tensor.name: tensor.shape for tensor in read_tflite(data).graph.tensors}


@pytest.mark.parametrize(
    ("input_shapes", "x", "y"),
    [
        ({"": (7,)}, (1, 7, 4), (1, 7)),
        ({"x": (5, 4), "y": (3,)}, (1, 5, 4), (1, 3)),
        ({"x": (5,), "y": (3,)}, (1, 5, 4), (1, 3)),
        # A name goes before what is for all.
        ({"": (7,), "y": (3,)}, (1, 7, 4), (1, 3)),
    ],
)
def test_several_open_inputs_are_fixed_by_one_length_or_by_name(
    input_shapes: dict[str, tuple[int, ...]], x: tuple[int, ...], y: tuple[int, ...]
) -> None:
    data = fix_shapes(open_model(second_is_open=True), name="open", input_shapes=input_shapes)
    found = shapes_of(data)
    assert (found["x"], found["doubled"], found["rows"]) == (x, x, x[1:])
    assert found["y"] == found["summed"] == y


@pytest.mark.parametrize(
    ("input_shapes", "message"),
    [
        ({}, r"input 'x' is one of 2 inputs with open dimensions: \[1, \?, 4\]\. Give one"),
        ({}, r"--input-shape 16, or one shape for each input.* such as --input-shape x=16,4\."),
        ({"x": (5, 4)}, r"input 'y' is one of 2 inputs with open dimensions"),
        ({"": (5, 4)}, r"input 'y' is \[1, \?\]; --input-shape 5,4 does not fit"),
        ({"x": (5, 4), "y": (2, 2)}, r"'y' is \[1, \?\]; --input-shape y=2,2 does not fit"),
        ({"": (5,), "z": (2,)}, r"open: --input-shape names input 'z', but .* inputs 'x', 'y'"),
    ],
)  # fmt: skip
def test_a_missing_or_unfit_shape_of_several_inputs_is_reported(
    input_shapes: dict[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(OpenShapeError, match=message):
        fix_shapes(open_model(second_is_open=True), name="open", input_shapes=input_shapes)


def test_an_open_batch_that_is_the_only_dimension_can_be_given_by_name() -> None:
    flat = FlatModel()
    x = flat.tensor("x", (1,), signature=(-1,))
    y = flat.tensor("y", (1,), signature=(-1,))
    flat.operator("ADD", [x, x], [y], schema.AddOptionsT())
    data = flat.to_bytes([x], [y])
    assert shapes_of(fix_shapes(data, name="flat"))["y"] == (1,)
    assert shapes_of(fix_shapes(data, name="flat", input_shapes={"x": (9,)}))["y"] == (9,)


def test_a_shape_for_a_fixed_input_is_refused() -> None:
    flat = FlatModel()
    x = flat.tensor("x", (1, 4))
    with pytest.raises(OpenShapeError, match=r"input 'x' is fixed at \[1, 4\]"):
        fix_shapes(flat.to_bytes([x], [x]), name="fixed", input_shapes={"": (5,)})
    with pytest.raises(OpenShapeError, match=r"input 'x' is fixed at \[1, 4\].*x="):
        fix_shapes(flat.to_bytes([x], [x]), name="fixed", input_shapes={"x": (5,)})
    data = flat.to_bytes([x], [x])
    assert fix_shapes(data, name="fixed", input_shapes={"x": (4,)}) is data


def test_a_size_that_depends_on_values_stays_open() -> None:
    # WHERE lists the positions that hold: none of zeros, some of random numbers.
    flat = FlatModel()
    x = flat.tensor("x", (1, 1), signature=(1, -1))
    zero = flat.constant("zero", np.zeros((1, 1), np.float32))
    positive = flat.tensor("positive", (1, 1), "bool", signature=(1, -1))
    flat.operator("GREATER", [x, zero], [positive], schema.GreaterOptionsT())
    whole = flat.tensor("whole", (1, 1), signature=(1, -1))
    flat.operator("ADD", [x, x], [whole], schema.AddOptionsT())
    flat.main.tensors.append(found := schema.TensorT())
    found.name, found.type = "found", schema.TensorType.INT64
    found.shape, found.shapeSignature = np.int32([0, 2]), np.int32([-1, 2])
    flat.operator("WHERE", [positive], [len(flat.main.tensors) - 1])
    data = flat.to_bytes([x], [whole, len(flat.main.tensors) - 1])
    shapes = probe_model("where", data, {0: (1, 6)})
    assert shapes.shapes[x] == (1, 6)
    assert shapes.varying == {len(flat.main.tensors) - 1: (-1, 2)}


def test_a_size_that_depends_on_values_is_distinguished_from_an_open_batch() -> None:
    flat = FlatModel()
    x = flat.tensor("x", (1, 4), signature=(-1, 4))
    zero = flat.constant("zero", np.zeros((1, 1), np.float32))
    positive = flat.tensor("positive", (1, 4), "bool", signature=(-1, 4))
    flat.operator("GREATER", [x, zero], [positive], schema.GreaterOptionsT())
    flat.main.tensors.append(places := schema.TensorT())
    places.name, places.type = "places", schema.TensorType.INT64
    places.shape, places.shapeSignature = np.int32([1, 2]), np.int32([-1, 2])
    flat.operator("WHERE", [positive], [len(flat.main.tensors) - 1])
    number = flat.tensor("number", (2,), "int32")
    options = schema.ShapeOptionsT()
    options.outType = schema.TensorType.INT32
    flat.operator("SHAPE", [len(flat.main.tensors) - 2], [number], options)
    last = flat.tensor("last", (2,))
    flat.operator("CAST", [number], [last], schema.CastOptionsT())
    data = flat.to_bytes([x], [last])
    model = read_tflite(fix_shapes(data, name="where"))
    assert [model.graph.tensors[index].name for index in model.unfixed] == ["places"]
    assert model.graph.boundary(0)[0].shape == (1, 4)
    assert model.graph.cuts == (1, 3)


def custom_model(code: str) -> bytes:
    flat = FlatModel()
    x = flat.tensor("x")
    y = flat.add(x, x, "y")
    made = flat.tensor("made")
    flat.operator("CUSTOM", [y], [made])
    flat.model.operatorCodes[-1].customCode = code
    return flat.to_bytes([x], [flat.add(made, x, "last")])


def test_a_custom_operator_is_kept_in_slices_and_named() -> None:
    model = read_tflite(custom_model("MyOwnOperator"))
    assert model.custom_operators == {"MyOwnOperator"}
    assert [operator.kind for operator in model.graph.operators] == ["ADD", "MyOwnOperator", "ADD"]
    assert read_tflite(slice_model(model, 1, 2)).custom_operators == {"MyOwnOperator"}
    assert read_tflite(slice_model(model, 0, 1)).custom_operators == frozenset()


def test_a_custom_operator_that_the_runtime_lacks_is_named() -> None:
    with pytest.raises(
        CannotRunError, match=r"custom operator MyOwnOperator.*another variant"
    ) as caught:
        probe_model("mine", custom_model("MyOwnOperator"))
    assert caught.value.custom_operator == "MyOwnOperator"


def test_operators_that_need_tensorflow_are_refused_on_loading(tmp_path: Path) -> None:
    path = tmp_path / "flex.tflite"
    path.write_bytes(custom_model("FlexErfc"))
    with pytest.raises(ModelArgumentError, match=r"only TensorFlow can run.*FlexErfc"):
        load_model(str(path))


def test_bytes_that_the_runtime_refuses_are_an_error() -> None:
    with pytest.raises(CannotRunError, match="broken does not run in the TFLite runtime"):
        probe_model("broken", b"\x20\0\0\0TFL3" + bytes(64))
