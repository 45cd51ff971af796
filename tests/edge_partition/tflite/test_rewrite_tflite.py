from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from chained_slices import run_whole
from tflite_models import FlatModel, chain_of_adds
from two_signatures import two_signatures

from edge_partition.tflite.file_tables import InvalidModelError
from edge_partition.tflite.read_tflite import read_tflite
from edge_partition.tflite.rewrite_tflite import keep_signature, rewrite_tensors
from edge_partition.tflite.signatures import signatures

if TYPE_CHECKING:
    from collections.abc import Callable


def pictures() -> bytes:
    return np.random.default_rng(0).uniform(0, 255, (1, 96, 96, 3)).astype("<f4").tobytes()


@pytest.mark.parametrize("quantization", ["int8"])
def test_a_rewritten_model_gives_the_same_bits(
    small_mobilenet: Callable[[str], bytes], quantization: str
) -> None:
    model = read_tflite(small_mobilenet(quantization))
    inputs, outputs = model.graph.inputs, model.graph.outputs
    renamed = read_tflite(
        rewrite_tensors(model.data, names={inputs[0]: "Bild/grün 1", outputs[0]: "что;это"})
    )
    assert renamed.graph.tensors[inputs[0]].name == "Bild/grün 1"
    assert renamed.graph.tensors[outputs[0]].name == "что;это"
    assert run_whole(renamed, pictures()) == run_whole(model, pictures())
    # All else is as it was.
    assert renamed.graph.operators[:-1] == model.graph.operators[:-1]
    assert [tensor.quantized for tensor in renamed.graph.tensors] == [
        tensor.quantized for tensor in model.graph.tensors
    ]


def test_names_reach_the_runtime_and_slices() -> None:
    data = chain_of_adds()
    first = next(t.index for t in read_tflite(data).graph.tensors if t.name == "first")
    renamed = rewrite_tensors(data, names={0: "Eingang ß", first: "m/große Schicht/add"})
    (detail,) = Interpreter(model_content=renamed).get_input_details()
    assert detail["name"] == "Eingang ß"
    assert read_tflite(renamed).graph.position_after("große Schicht") == 1


def test_signatures_and_the_subgraphs_behind_them_stay() -> None:
    data = two_signatures()
    renamed = rewrite_tensors(data, names={0: "x"})
    assert signatures(renamed) == signatures(data)
    x, flag = np.float32([1, -2, 3, 4]), np.array([True])
    for name, arguments in (("encode", {"x": x}), ("decode", {"code": x, "flag": flag})):
        results = [
            next(
                iter(
                    Interpreter(model_content=file).get_signature_runner(name)(**arguments).values()
                )
            )
            for file in (data, renamed)
        ]
        np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("shape", [None, (), (1, 4), (4, 1)])
def test_shapes_are_set_whatever_the_file_has(shape: tuple[int, ...] | None) -> None:
    flat = FlatModel()
    x = flat.tensor("x", (2, 3), signature=(-1, 3))
    y = flat.tensor("y", shape or ())
    flat.main.tensors[y].shape = None if shape is None else np.int32(shape)
    flat.operator("ADD", [x, x], [y], schema.AddOptionsT())
    data = rewrite_tensors(flat.to_bytes([x], [y]), shapes={x: (5, 3), y: (5, 3)})
    model = read_tflite(data)
    main = model.schema.Subgraphs(0)
    assert [tensor.shape for tensor in model.graph.tensors] == [(5, 3), (5, 3)]
    assert not main.Tensors(x).ShapeSignatureLength()
    assert main.Tensors(y).HasRank()
    values = np.arange(15, dtype=np.float32)
    assert run_whole(model, values.tobytes()) == (2 * values).tobytes()


def test_an_open_size_is_written_as_open() -> None:
    flat = FlatModel()
    x = flat.tensor("x")
    data = rewrite_tensors(flat.to_bytes([x], [flat.add(x, x, "y")]), shapes={1: (-1, 4)})
    made = schema.Model.GetRootAs(data).Subgraphs(0).Tensors(1)
    assert made.ShapeAsNumpy().tolist() == [1, 4]
    assert made.ShapeSignatureAsNumpy().tolist() == [-1, 4]


def test_weights_are_copied_once_and_not_through_lists() -> None:
    size_bytes = 32 << 20
    flat = FlatModel()
    x = flat.tensor("x", (size_bytes // 4,))
    weight = flat.constant("weight", np.arange(size_bytes // 4, dtype=np.float32))
    y = flat.tensor("y", (size_bytes // 4,))
    flat.operator("ADD", [x, weight], [y], schema.AddOptionsT())
    data = flat.to_bytes([x], [y])
    tracemalloc.start()
    try:
        renamed = rewrite_tensors(data, names={x: "z"})
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1.5 * size_bytes
    assert abs(len(renamed) - len(data)) < 1000
    model = read_tflite(renamed)
    assert model.graph.tensors[weight].size_bytes == size_bytes


def test_metadata_of_the_file_stays() -> None:
    flat = FlatModel()
    x = flat.tensor("x")
    entry = schema.MetadataT()
    entry.name, entry.buffer = "note", 1
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(b"kept", np.uint8)
    flat.model.buffers.append(buffer)
    flat.model.metadata = [entry]
    model = schema.Model.GetRootAs(
        rewrite_tensors(flat.to_bytes([x], [flat.add(x, x, "y")]), names={0: "z"})
    )
    assert model.Metadata(0).Name() == b"note"
    assert model.Buffers(model.Metadata(0).Buffer()).DataAsNumpy().tobytes() == b"kept"


def test_a_missing_tensor_or_signature_is_refused() -> None:
    data = chain_of_adds()
    with pytest.raises(InvalidModelError, match="has no tensor 99"):
        rewrite_tensors(data, names={99: "x"})
    with pytest.raises(InvalidModelError, match="has no tensor -1"):
        rewrite_tensors(data, shapes={-1: (4,)})
    with pytest.raises(InvalidModelError, match="has no signature 'x'"):
        keep_signature(data, "x")
    with pytest.raises(InvalidModelError, match="damaged"):
        rewrite_tensors(data[:100], names={0: "x"})
