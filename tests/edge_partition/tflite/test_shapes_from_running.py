"""Shapes that are missing or wrong in a ``.tflite`` file, and found by running it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from chained_slices import run_chained, run_whole
from flatbuffers import flexbuffers
from tflite_models import FlatModel, chain_of_adds

from edge_partition.model.load_model import ModelArgumentError, load_model
from edge_partition.tflite.fix_shapes import fix_shapes
from edge_partition.tflite.probe_model import probe_model
from edge_partition.tflite.read_tflite import read_tflite

if TYPE_CHECKING:
    from pathlib import Path

#: How converters leave the shapes of a custom operator's outputs: as they are; unknown, in files
#: that tell ranks, as TensorFlow 2's does; left out, in files that tell none, as TensorFlow 1's.
KINDS = ("shaped", "unranked", "old", "wrong")


def finish(flat: FlatModel, kind: str, inputs: list[int], outputs: list[int]) -> bytes:
    """Return the file, its ranks and the outputs' shapes as ``kind`` says."""
    for tensor in flat.main.tensors:
        tensor.hasRank = kind != "old"
    for index in outputs:
        tensor = flat.main.tensors[index]
        if kind in {"unranked", "old"}:
            tensor.shape, tensor.hasRank = None, False
        elif kind == "wrong":
            tensor.shape = np.ones_like(tensor.shape)
    return flat.to_bytes(inputs, outputs)


def ssd(kind: str) -> bytes:
    """Boxes and scores of 12 anchors, doubled and halved, to at most 5 detections of 2 classes."""
    flat = FlatModel()
    boxes, scores = flat.tensor("boxes", (1, 12, 4)), flat.tensor("scores", (1, 12, 3))
    heads = []
    for number, (given, shape) in enumerate(((boxes, (1, 12, 4)), (scores, (1, 12, 3)))):
        half = flat.constant(f"half{number}", np.float32(0.5))
        made = flat.tensor(f"head{number}", shape)
        flat.operator("MUL", [given, half], [made], schema.MulOptionsT())
        heads.append(made)
    anchors = np.random.default_rng(0).uniform(0.1, 0.9, (12, 4)).astype(np.float32)
    outputs = [
        flat.tensor(f"detections:{number}", shape)
        for number, shape in enumerate(((1, 5, 4), (1, 5), (1, 5), (1,)))
    ]
    flat.operator("CUSTOM", [*heads, flat.constant("anchors", anchors)], outputs)
    flat.model.operatorCodes[-1].customCode = "TFLite_Detection_PostProcess"
    flat.main.operators[-1].customOptions = np.frombuffer(ssd_options(), np.uint8)
    return finish(flat, kind, [boxes, scores], outputs)


def ssd_options() -> bytes:
    builder = flexbuffers.Builder()
    with builder.Map():
        for key, value in (("max_detections", 5), ("max_classes_per_detection", 1)):
            builder.Key(key)
            builder.Int(value)
        builder.Key("num_classes")
        builder.Int(2)
        builder.Key("use_regular_nms")
        builder.Bool(False)  # noqa: FBT003 - its only argument
        scales = {"y_scale": 10, "x_scale": 10, "h_scale": 5, "w_scale": 5}
        for key, number in {"nms_score_threshold": 0, "nms_iou_threshold": 0.6, **scales}.items():
            builder.Key(key)
            builder.Float(float(number))
    return bytes(builder.Finish())


def run_alone(data: bytes, payload: bytes) -> list[np.ndarray]:
    """Return the outputs of the original file in the runtime."""
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    place = 0
    for detail in interpreter.get_input_details():
        count = int(np.prod(detail["shape"]))
        values = np.frombuffer(payload, np.float32, count, place).reshape(detail["shape"])
        interpreter.set_tensor(detail["index"], values)
        place += values.nbytes
    interpreter.invoke()
    return [interpreter.get_tensor(item["index"]) for item in interpreter.get_output_details()]


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_of_a_custom_operator_have_the_shapes_of_a_run(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "ssd.tflite"
    path.write_bytes(ssd(kind))
    model = load_model(str(path)).tflite
    graph = model.graph
    assert [tensor.shape for tensor in graph.boundary(3)] == [(1, 5, 4), (1, 5), (1, 5), (1,)]
    assert graph.cuts == (1, 2)
    generator = np.random.default_rng(1)
    wholes = set()
    for _ in range(3):
        payload = generator.standard_normal(12 * 7).astype(np.float32).tobytes()
        expected = b"".join(value.tobytes() for value in run_alone(ssd(kind), payload))
        assert len(expected) == 4 * (20 + 5 + 5 + 1)
        assert run_whole(model, payload) == expected
        assert run_chained(model, graph.cuts, payload) == expected
        wholes.add(expected)
    assert len(wholes) == 3, "blind comparison"


def positives(kind: str, *, last: bool) -> bytes:
    """``WHERE`` lists the positive values; without ``last``, an operator sums their positions."""
    flat = FlatModel()
    x = flat.tensor("x", (6,))
    zero = flat.constant("zero", np.float32(0))
    positive = flat.tensor("positive", (6,), "bool")
    flat.operator("GREATER", [x, zero], [positive], schema.GreaterOptionsT())
    places = flat.tensor("places", (1, 1), "int32")
    flat.main.tensors[places].type = schema.TensorType.INT64
    flat.operator("WHERE", [positive], [places])
    if last:
        return finish(flat, kind, [x], [places])
    numbers = flat.tensor("numbers", (1, 1))
    flat.operator("CAST", [places], [numbers], schema.CastOptionsT())
    total = flat.tensor("total", (1,))
    axis = flat.constant("axis", np.int32([0]))
    flat.operator("SUM", [numbers, axis], [total], schema.ReducerOptionsT())
    y = flat.tensor("y", (1,))
    flat.operator("ADD", [total, total], [y], schema.AddOptionsT())
    return finish(flat, kind, [x], [y])


@pytest.mark.parametrize("kind", ["unranked", "old"])
def test_an_output_whose_size_depends_on_values_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "where.tflite"
    path.write_bytes(positives(kind, last=True))
    with pytest.raises(ModelArgumentError, match=r"output 'places' has no fixed shape.*padded"):
        load_model(str(path))


def test_a_tensor_whose_size_depends_on_values_crosses_no_cut() -> None:
    data = positives("old", last=False)
    model = read_tflite(fix_shapes(data, name="where"))
    graph = model.graph
    assert {graph.tensors[index].name for index in model.unfixed} == {"places", "numbers"}
    assert graph.cuts == (1, 4)
    assert graph.boundary(5)[0].shape == (1,)
    x = np.float32([1, -1, 2, 3, -2, 4])
    assert run_chained(model, graph.cuts, x.tobytes()) == np.float32([2 * (2 + 3 + 5)]).tobytes()


def test_an_old_files_scalars_stay_scalars() -> None:
    flat = FlatModel()
    x = flat.tensor("x", (2, 3))
    total = flat.tensor("total", ())
    flat.operator("SUM", [x, flat.constant("axes", np.int32([0, 1]))], [total], reducer())
    y = flat.tensor("y", (2, 3))
    flat.operator("ADD", [x, total], [y], schema.AddOptionsT())
    data = finish(flat, "old", [x], [y])
    fixed = fix_shapes(data, name="scalar")
    model = read_tflite(fixed)
    shapes = {tensor.name: tensor.shape for tensor in model.graph.tensors}
    assert (shapes["total"], shapes["y"]) == ((), (2, 3))
    assert model.unfixed == frozenset()
    assert model.graph.cuts == (1,)
    # Nothing is left to ask.
    assert fix_shapes(fixed, name="scalar") is fixed


def reducer() -> Any:
    options = schema.ReducerOptionsT()
    options.keepDims = False
    return options


def test_an_ordinary_file_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", "/nowhere/python")
        data = chain_of_adds()
        assert fix_shapes(data, name="chain") is data
        with pytest.raises(FileNotFoundError):
            fix_shapes(ssd("shaped"), name="ssd")


def test_positions_beyond_a_table_do_not_break_the_probe() -> None:
    flat = FlatModel()
    ids = flat.tensor("ids", (4,), "int32")
    table = flat.constant("table", np.float32([[1, 2, 3]]))  # of one row
    rows = flat.tensor("rows", (1, 1))
    flat.operator("GATHER", [table, ids], [rows], schema.GatherOptionsT())
    probed = probe_model("gather", finish(flat, "old", [ids], [rows]))
    assert probed.ran
    assert probed.shapes[rows] == (4, 3)


def test_a_single_run_on_zeros_shows_no_varying_sizes() -> None:
    # A table of no rows: no position is in it.
    flat = FlatModel()
    ids = flat.tensor("ids", (4,), "int32")
    table = flat.tensor("table", (0, 3))
    rows = flat.tensor("rows", (4, 3))
    flat.operator("GATHER", [table, ids], [rows], schema.GatherOptionsT())
    probed = probe_model("gather", flat.to_bytes([ids, table], [rows]))
    assert not probed.ran
