from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st
from tflite_models import FlatModel, chain_of_adds, stateful

from edge_core.contract.manifest import Quantized
from edge_partition.tflite.file_tables import InvalidModelError, buffer_bytes
from edge_partition.tflite.read_tflite import read_tflite
from edge_partition.tflite.slice_model import SliceError, slice_model

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path


def test_operators_come_in_execution_order_with_their_tensors() -> None:
    graph = read_tflite(chain_of_adds(), name="chain").graph
    assert [op.kind for op in graph.operators] == ["ADD"] * 4
    assert [op.layer for op in graph.operators] == ["first", "second", "third", "sum"]
    assert [tensor.name for tensor in graph.boundary(2)] == ["x", "second"]
    assert graph.cuts == (1, 2, 3)
    assert graph.weight_bytes(0, 2) == 32
    assert graph.tensors[0].dtype == "float32"
    assert graph.tensors[0].shape == (4,)


def test_a_path_is_read_like_bytes_and_names_the_graph(tmp_path: Path) -> None:
    path = tmp_path / "adder.tflite"
    path.write_bytes(chain_of_adds())
    model = read_tflite(path)
    assert model.graph.name == "adder"
    assert model.graph.operators == read_tflite(chain_of_adds()).graph.operators


@pytest.mark.parametrize("quantization", ["none", "float16", "int8"])
def test_a_converted_model_has_the_multiply_accumulates_of_its_layers(
    small_mobilenet: Callable[[str], bytes], quantization: str
) -> None:
    graph = read_tflite(small_mobilenet(quantization)).graph
    assert "DEQUANTIZE" not in {op.kind for op in graph.operators[1:-1]}
    stem = next(op for op in graph.operators if op.layer == "conv")
    assert stem.macs == 48 * 48 * 16 * 3 * 3 * 3
    depthwise = next(op for op in graph.operators if op.kind == "DEPTHWISE_CONV_2D")
    assert depthwise.macs == 24 * 24 * 16 * 3 * 3
    item_bytes = {"none": 4, "float16": 2, "int8": 1}[quantization]
    weights = 3 * 3 * 3 * 16 * item_bytes
    assert weights <= stem.weight_bytes <= weights + 16 * 4 + 8


@pytest.mark.parametrize(
    ("kind", "shapes", "made", "options", "macs"),
    [
        ("FULLY_CONNECTED", [(2, 5), (7, 5)], (2, 7), None, 2 * 7 * 5),
        ("CONV_2D", [(1, 4, 4, 6), (8, 3, 3, 2)], (1, 4, 4, 8), None, 4 * 4 * 8 * 3 * 3 * 2),
        ("DEPTHWISE_CONV_2D", [(1, 4, 4, 6), (1, 3, 3, 6)], (1, 4, 4, 6), None, 4 * 4 * 6 * 9),
        ("CONV_3D", [(1, 2, 4, 4, 3), (2, 3, 3, 3, 5)], (1, 2, 4, 4, 5), None, 160 * 18 * 3),
        (
            "TRANSPOSE_CONV", [(4,), (5, 2, 2, 3), (1, 4, 4, 3)], (1, 8, 8, 5), None,
            4 * 4 * 3 * 2 * 2 * 5,
        ),
        ("BATCH_MATMUL", [(3, 2, 5), (3, 5, 7)], (3, 2, 7), None, 3 * 2 * 7 * 5),
        (
            "BATCH_MATMUL", [(3, 5, 2), (3, 5, 7)], (3, 2, 7),
            schema.BatchMatMulOptionsT(adjX=True), 3 * 2 * 7 * 5,
        ),
        ("MUL", [(4, 4), (4, 4)], (4, 4), None, 0),
    ],
)  # fmt: skip
def test_multiply_accumulates(
    kind: str,
    shapes: list[tuple[int, ...]],
    made: tuple[int, ...],
    options: object,
    macs: int,
) -> None:
    flat = FlatModel()
    read = [flat.tensor(f"in{number}", shape) for number, shape in enumerate(shapes)]
    out = flat.tensor("out", made)
    flat.operator(kind, read, [out], options)
    assert read_tflite(flat.to_bytes(read, [out])).graph.operators[0].macs == macs


def test_operators_fed_by_constants_alone_belong_to_their_readers() -> None:
    flat = FlatModel()
    x = flat.tensor("x")
    stored = flat.constant("stored", np.ones(4, np.int32))
    made = flat.tensor("made")
    flat.operator("CAST", [stored], [made], schema.CastOptionsT())
    first = flat.add(x, made, "first")
    second = flat.add(first, made, "second")
    graph = read_tflite(flat.to_bytes([x], [second])).graph
    assert [op.kind for op in graph.operators] == ["ADD", "ADD"]
    assert graph.tensors[made].is_constant
    assert graph.operators[1].inputs == (first,)
    assert graph.operators[1].constants == (stored,)
    assert graph.weight_bytes(1, 2) == 16


def test_operators_that_reach_no_output_are_left_out() -> None:
    flat = FlatModel()
    x = flat.tensor("x")
    y = flat.add(x, x, "y")
    flat.add(y, x, "unused")
    assert len(read_tflite(flat.to_bytes([x], [y])).graph.operators) == 1


def test_operators_that_share_a_resource_stay_together() -> None:
    graph = read_tflite(stateful()).graph
    assert [op.kind for op in graph.operators][1:4] == [
        "VAR_HANDLE", "ASSIGN_VARIABLE", "READ_VARIABLE",
    ]  # fmt: skip
    assert graph.cuts == (1, 4)


def test_operators_that_share_a_variable_tensor_stay_together() -> None:
    flat = FlatModel()
    x = flat.tensor("x")
    state = flat.tensor("state", variable=True)
    first = flat.add(x, state, "first")
    second = flat.add(first, x, "second")
    third = flat.add(second, state, "third")
    last = flat.add(third, x, "last")
    graph = read_tflite(flat.to_bytes([x], [last])).graph
    assert graph.cuts == (3,)
    assert state not in graph.operators[0].inputs


def test_a_tensor_without_a_fixed_shape_crosses_no_cut() -> None:
    flat = FlatModel()
    x = flat.tensor("x")
    loose = flat.tensor("loose", (4, 1), signature=(4, -1))
    flat.operator("EXPAND_DIMS", [x, flat.constant("axis", np.array([1], np.int32))], [loose])
    squeezed = flat.tensor("squeezed")
    flat.operator("SQUEEZE", [loose], [squeezed], schema.SqueezeOptionsT())
    graph = read_tflite(flat.to_bytes([x], [flat.add(squeezed, x, "last")])).graph
    assert graph.cuts == (2,)


@pytest.mark.parametrize(("batch", "cuts"), [(1, (2,)), (-1, (1, 2))])
def test_an_open_first_dimension_is_a_batch_only_if_an_input_has_one(
    batch: int, cuts: tuple[int, ...]
) -> None:
    flat = FlatModel()
    x = flat.tensor("x", (1, 4), signature=(batch, 4))
    listed = flat.tensor("listed", (1, 4), signature=(-1, 4))
    flat.operator("ABS", [x], [listed])
    kept = flat.tensor("kept", (1, 4), signature=(batch, 4))
    flat.operator("ABS", [listed], [kept])
    last = flat.tensor("last", (1, 4), signature=(batch, 4))
    flat.operator("ABS", [kept], [last])
    model = read_tflite(flat.to_bytes([x], [last]))
    assert model.graph.cuts == cuts
    assert model.unfixed == ({listed} if batch == 1 else set())


@pytest.mark.parametrize(("writes_ranks", "cuts"), [(True, (2,)), (False, (1, 2))])
def test_a_tensor_of_unknown_rank_is_not_a_scalar_if_the_file_marks_ranks(
    *, writes_ranks: bool, cuts: tuple[int, ...]
) -> None:
    flat = FlatModel()
    x = flat.tensor("x", (1, 4))
    unranked = flat.tensor("unranked", ())
    flat.operator("ABS", [x], [unranked])
    scalar = flat.tensor("scalar", ())
    flat.operator("ABS", [unranked], [scalar])
    last = flat.tensor("last", (1, 4))
    flat.operator("ABS", [scalar], [last])
    for index in (x, scalar, last):
        flat.main.tensors[index].hasRank = writes_ranks
    assert read_tflite(flat.to_bytes([x], [last])).graph.cuts == cuts


def test_repeated_and_empty_names_become_unique() -> None:
    flat = FlatModel()
    x = flat.tensor("same")
    y = flat.add(x, x, "same")
    z = flat.add(y, x, "")
    graph = read_tflite(flat.to_bytes([x], [z])).graph
    names = [tensor.name for tensor in graph.tensors]
    assert names[0] == "same"
    assert len(set(names)) == 3
    assert all(names)


def test_an_open_batch_has_the_size_in_the_file() -> None:
    flat = FlatModel()
    x = flat.tensor("x", (1, 4), signature=(-1, 4))
    y = flat.tensor("y", (1, 4), signature=(-1, 4))
    flat.operator("ABS", [x], [y])
    assert read_tflite(flat.to_bytes([x], [y])).graph.boundary(0)[0].shape == (1, 4)


@pytest.mark.parametrize(
    ("shape", "signature", "dtype"),
    [((1, 1, 3), (-1, -1, 3), "float32"), ((0, 3), None, "float32"), ((1,), None, "string")],
)
def test_an_input_that_cannot_be_sent_is_named(
    shape: tuple[int, ...], signature: tuple[int, ...] | None, dtype: str
) -> None:
    flat = FlatModel()
    x = flat.tensor("picture", shape, dtype, signature=signature)
    y = flat.tensor("y")
    flat.operator("ABS", [x], [y])
    with pytest.raises(InvalidModelError, match="'picture'"):
        read_tflite(flat.to_bytes([x], [y]))


def broken_models() -> dict[str, bytes]:
    def flat(wire: Callable[[FlatModel, int], tuple[list[int], list[int]]]) -> bytes:
        model = FlatModel()
        return model.to_bytes(*wire(model, model.tensor("x")))

    def reads_unmade(model: FlatModel, x: int) -> tuple[list[int], list[int]]:
        return [x], [model.add(x, model.tensor("nobody"), "y")]

    def reads_before_made(model: FlatModel, x: int) -> tuple[list[int], list[int]]:
        model.add(x, 2, "y")
        return [x], [model.add(x, x, "z")]

    def made_twice(model: FlatModel, x: int) -> tuple[list[int], list[int]]:
        y = model.add(x, x, "y")
        model.operator("ABS", [x], [y])
        return [x], [y]

    def names_no_tensor(model: FlatModel, x: int) -> tuple[list[int], list[int]]:
        return [x], [model.add(x, 99, "y")]

    def constant_output(model: FlatModel, x: int) -> tuple[list[int], list[int]]:
        model.add(x, x, "y")
        return [x], [model.constant("c", np.ones(4, np.float32))]

    return {
        "empty": b"",
        "a picture": b"\x89PNG\r\n\x1a\n" * 4,
        "identifier alone": b"\x10\0\0\0TFL3",
        "an endless vector": b"\x10\0\0\0TFL3" + b"\xff" * 64,
        "no operator": flat(lambda _, x: ([x], [x])),
        "no output": flat(lambda model, x: ([x], [model.add(x, x, "y")][:0])),
        "unmade": flat(reads_unmade),
        "order": flat(reads_before_made),
        "made twice": flat(made_twice),
        "no such tensor": flat(names_no_tensor),
        "no such output": flat(lambda model, x: ([x], [model.add(x, x, "y") + 7])),
        "input twice": flat(lambda model, x: ([x, x], [model.add(x, x, "y")])),
        "constant output": flat(constant_output),
    }


@pytest.mark.parametrize("case", broken_models())
def test_broken_models_are_refused_in_one_line(case: str, tmp_path: Path) -> None:
    data = broken_models()[case]
    path = tmp_path / "broken.tflite"
    path.write_bytes(data)
    for source in (data, path):
        with pytest.raises(InvalidModelError) as caught:
            read_tflite(source)
        assert "\n" not in str(caught.value)


def test_counts_larger_than_the_file_are_refused_at_once() -> None:
    data = chain_of_adds()
    root = struct.unpack_from("<I", data)[0]
    vtable = root - struct.unpack_from("<i", data, root)[0]
    buffers = root + struct.unpack_from("<H", data, vtable + 12)[0]
    length_at = buffers + struct.unpack_from("<I", data, buffers)[0]
    hostile = bytearray(data)
    struct.pack_into("<I", hostile, length_at, 0x7FFF_FFFF)
    with pytest.raises(InvalidModelError, match="2,147,483,647 buffers"):
        read_tflite(bytes(hostile))


@given(st.randoms(use_true_random=False), st.integers(1, 8), st.booleans())
@settings(max_examples=200, deadline=None)
def test_damaged_bytes_give_a_graph_or_an_invalid_model_error(
    rng: random.Random, flips: int, truncate: bool
) -> None:
    data = bytearray(chain_of_adds())
    for _ in range(flips):
        data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
    if truncate:
        del data[rng.randrange(len(data)) :]
    try:
        model = read_tflite(bytes(data))
        model.graph.peak_activation_table()
        for cut in model.graph.cuts:
            slice_model(model, 0, cut)
    except (InvalidModelError, SliceError):
        pass


def test_weights_behind_the_flatbuffer_are_read() -> None:
    # As in files over 2 GB (schema.fbs, table Buffer: offset and size).
    flat = FlatModel()
    x = flat.tensor("x")
    weight = flat.constant("weight", np.ones(4, np.float32))
    values = np.arange(4, dtype=np.float32).tobytes()
    buffer = flat.model.buffers[1]
    buffer.data, buffer.offset, buffer.size = None, 1_000_000, 16
    y = flat.add(x, weight, "y")
    head = flat.to_bytes([x], [y])
    model = read_tflite(head.ljust(1_000_000, b"\0") + values)
    assert model.graph.weight_bytes(0, 1) == 16
    assert buffer_bytes(model.schema, 1, model.data).tobytes() == values
    with pytest.raises(InvalidModelError, match="but the file has only"):
        read_tflite(head)
    # The slice holds them inside.
    inside = read_tflite(slice_model(model, 0, 1))
    assert buffer_bytes(inside.schema, 1, inside.data).tobytes() == values


def test_quantized_integers_have_their_scale_and_zero_point(
    small_mobilenet: Callable[[str], bytes],
) -> None:
    data = small_mobilenet("int8")
    graph = read_tflite(data).graph
    interpreter = Interpreter(model_content=data)
    told = 0
    for detail in interpreter.get_tensor_details():
        if detail["index"] >= len(graph.tensors):
            continue
        tensor = graph.tensors[detail["index"]]
        parameters = detail["quantization_parameters"]
        if tensor.dtype in {"int8", "int32"} and len(parameters["scales"]) == 1:
            told += 1
            assert tensor.quantized == Quantized(
                float(parameters["scales"][0]), int(parameters["zero_points"][0])
            )
        else:  # float32, or a scale a channel
            assert tensor.quantized is None
    assert told > 50
    assert any(tensor.dtype == "int8" and not tensor.quantized for tensor in graph.tensors)


@pytest.mark.parametrize(
    ("scale", "zero_point", "quantized"),
    [
        ([0.5], [-3], Quantized(0.5, -3)),
        ([0.5], [], Quantized(0.5, 0)),
        ([], [], None),
        ([0.0], [0], None),
        ([-1.0], [0], None),
        ([float("nan")], [0], None),
        ([float("inf")], [0], None),
        ([0.5, 0.25], [0, 0], None),
    ],
)
def test_invalid_and_per_channel_scales_are_left_out(
    scale: list[float], zero_point: list[int], quantized: Quantized | None
) -> None:
    flat = FlatModel()
    x = flat.tensor("x")
    for dtype in ("INT8", "FLOAT32"):
        made = flat.main.tensors[x]
        made.type = getattr(schema.TensorType, dtype)
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale = np.float32(scale)
        made.quantization.zeroPoint = np.int64(zero_point)
        y = flat.add(x, x, dtype)
        found = read_tflite(flat.to_bytes([x], [y])).graph.tensors[x].quantized
        assert found == (quantized if dtype == "INT8" else None)
