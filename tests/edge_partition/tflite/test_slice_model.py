from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from chained_slices import run_chained, run_whole
from tflite_models import FlatModel, chain_of_adds

from edge_partition.tflite.file_tables import buffer_bytes
from edge_partition.tflite.read_tflite import TfliteModel, read_tflite
from edge_partition.tflite.slice_model import (
    SliceError,
    slice_model,
    stage_inputs,
    stage_outputs,
    tap_model,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def evenly(model: TfliteModel, stages: int) -> list[int]:
    cuts = model.graph.cuts
    return [cuts[number * len(cuts) // stages] for number in range(1, stages)]


def pictures(seed: int) -> bytes:
    return np.random.default_rng(seed).uniform(0, 255, (1, 96, 96, 3)).astype("<f4").tobytes()


@pytest.mark.parametrize("quantization", ["none", "float16", "dynamic", "int8"])
def test_chained_slices_give_the_whole_models_bits(
    small_mobilenet: Callable[[str], bytes], quantization: str
) -> None:
    model = read_tflite(small_mobilenet(quantization))
    wholes = [run_whole(model, pictures(seed)) for seed in range(2)]
    logits = [np.frombuffer(whole, "<f4") for whole in wholes]
    assert np.unique(logits[0]).size > 5
    assert not np.array_equal(*logits)
    for stages in (2, 4, 8):
        cuts = evenly(model, stages)
        for seed, whole in enumerate(wholes):
            assert run_chained(model, cuts, pictures(seed)) == whole, (stages, cuts)


def test_every_operator_may_be_a_separate_stage(small_mobilenet: Callable[[str], bytes]) -> None:
    model = read_tflite(small_mobilenet("none"))
    assert max(len(model.graph.boundary(cut)) for cut in model.graph.cuts) > 2
    assert run_chained(model, model.graph.cuts, pictures(3)) == run_whole(model, pictures(3))


def test_float16_slices_include_the_operators_that_unpack_their_weights(
    small_mobilenet: Callable[[str], bytes],
) -> None:
    model = read_tflite(small_mobilenet("float16"))
    cut = evenly(model, 2)[0]
    second = schema.ModelT.InitFromObj(
        schema.Model.GetRootAs(slice_model(model, cut, len(model.graph.operators)))
    )
    kinds = [
        second.operatorCodes[operator.opcodeIndex].builtinCode
        for operator in second.subgraphs[0].operators
    ]
    assert schema.BuiltinOperator.DEQUANTIZE in kinds
    assert len(second.subgraphs[0].inputs) == len(stage_inputs(model, cut, cut + 200))


def two_ends() -> TfliteModel:
    """Two inputs, the second read late; one output made early, another that is also an input."""
    flat = FlatModel()
    left, right = flat.tensor("left"), flat.tensor("right")
    early = flat.add(left, left, "early")
    weight = flat.constant("weight", np.array([1, 2, 3, 4], np.float32))
    middle = flat.add(early, weight, "middle")
    last = flat.add(middle, right, "last")
    return read_tflite(flat.to_bytes([left, right], [last, right, early]))


def test_inputs_and_outputs_are_forwarded_past_stages_that_do_not_use_them() -> None:
    model = two_ends()
    left, right = (np.array(values, "<f4") for values in ([1, 2, 3, 4], [5, 6, 7, 8]))
    payload = left.tobytes() + right.tobytes()
    early = left + left
    last = early + np.array([1, 2, 3, 4], "<f4") + right
    assert run_chained(model, [1, 2], payload) == b"".join(
        array.tobytes() for array in (last, right, early)
    )


def test_a_slice_holds_only_tensors_of_its_operators() -> None:
    model = two_ends()
    assert [tensor.name for tensor in model.graph.boundary(1)] == ["right", "early"]
    assert [tensor.name for tensor in stage_inputs(model, 1, 2)] == ["early"]
    assert [tensor.name for tensor in stage_outputs(model, 1, 2)] == ["middle"]
    part = schema.ModelT.InitFromObj(schema.Model.GetRootAs(slice_model(model, 1, 2)))
    assert [tensor.name for tensor in part.subgraphs[0].tensors] == [b"early", b"weight", b"middle"]
    assert len(part.buffers) == 2
    assert len(part.operatorCodes) == 1
    first = slice_model(model, 0, 1)
    assert b"weight" not in first


def test_the_same_range_gives_the_same_bytes() -> None:
    assert slice_model(two_ends(), 1, 3) == slice_model(two_ends(), 1, 3)


def test_buffers_are_aligned_for_mapping(small_mobilenet: Callable[[str], bytes]) -> None:
    model = read_tflite(small_mobilenet("int8"))
    part = read_tflite(slice_model(model, 3, 60))
    whole = np.frombuffer(part.data, np.uint8)
    views = [
        buffer_bytes(part.schema, index, part.data) for index in range(part.schema.BuffersLength())
    ]
    offsets = [view.ctypes.data - whole.ctypes.data for view in views if view.size]
    assert len(offsets) > 20
    assert all(offset % 16 == 0 for offset in offsets)


def test_quantization_and_versions_stay(small_mobilenet: Callable[[str], bytes]) -> None:
    model = read_tflite(small_mobilenet("int8"))
    start, stop = 10, 14
    part = read_tflite(slice_model(model, start, stop))
    whole_main, part_main = model.schema.Subgraphs(0), part.schema.Subgraphs(0)
    names = {tensor.name: tensor.index for tensor in part.graph.tensors}
    for tensor in stage_outputs(model, start, stop):
        was = whole_main.Tensors(tensor.index).Quantization()
        now = part_main.Tensors(names[tensor.name]).Quantization()
        assert was.ScaleLength() == 1
        assert now.ScaleAsNumpy().tobytes() == was.ScaleAsNumpy().tobytes()
        assert now.ZeroPointAsNumpy().tobytes() == was.ZeroPointAsNumpy().tobytes()
    versions = [
        {
            (code.BuiltinCode(), code.DeprecatedBuiltinCode()): code.Version()
            for code in map(root.OperatorCodes, range(root.OperatorCodesLength()))
        }
        for root in (model.schema, part.schema)
    ]
    assert versions[1].items() <= versions[0].items()


def test_a_slice_with_control_flow_includes_the_subgraphs() -> None:
    import tensorflow as tf  # noqa: PLC0415 - seconds, which the other tests need not take

    class Loop(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([4], tf.float32, name="x")])
        def call(self, x: tf.Tensor) -> tf.Tensor:
            y = tf.cond(tf.reduce_sum(x) > 0, lambda: tf.exp(x * 0.1), lambda: tf.sin(x) - 1.0)
            return tf.while_loop(
                lambda z: tf.reduce_sum(z) < 100.0, lambda z: (z * 1.5 + tf.abs(x),), (y,)
            )[0]

    module = Loop()
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.call.get_concrete_function()], module
    )
    model = read_tflite(converter.convert())
    kinds = [op.kind for op in model.graph.operators]
    assert {"IF", "WHILE"} <= set(kinds)
    payloads = [np.array(x, "<f4").tobytes() for x in ([1, 2, 3, 4], [-1, -2, -3, 5.5])]
    wholes = [run_whole(model, payload) for payload in payloads]
    assert wholes[0] != wholes[1]
    for payload, whole in zip(payloads, wholes, strict=True):
        assert run_chained(model, model.graph.cuts, payload) == whole
    # The stage before both has none of their subgraphs.
    first = slice_model(model, 0, kinds.index("IF"))
    assert schema.Model.GetRootAs(first).SubgraphsLength() == 1


def test_operators_that_share_state_are_not_separated() -> None:
    flat = FlatModel()
    x = flat.tensor("x")
    state = flat.tensor("state", variable=True)
    last = flat.add(flat.add(x, state, "first"), state, "last")
    model = read_tflite(flat.to_bytes([x], [last]))
    with pytest.raises(SliceError, match="use the same variables"):
        slice_model(model, 0, 1)
    whole = schema.Model.GetRootAs(slice_model(model, 0, 2)).Subgraphs(0)
    assert [whole.Tensors(index).IsVariable() for index in range(4)].count(True) == 1


@pytest.mark.parametrize(("start", "stop"), [(2, 2), (3, 1), (0, 99), (-1, 2)])
def test_a_range_of_no_operator_is_refused(start: int, stop: int) -> None:
    with pytest.raises(IndexError, match="4 operators"):
        slice_model(read_tflite(chain_of_adds()), start, stop)


def test_a_repeated_name_gets_the_graphs_unique_name() -> None:
    flat = FlatModel()
    x = flat.tensor("same")
    last = flat.add(flat.add(x, x, "same"), x, "same")
    model = read_tflite(flat.to_bytes([x], [last]))
    payload = np.array([1, 2, 3, 4], "<f4").tobytes()
    assert run_chained(model, [1], payload) == np.array([3, 6, 9, 12], "<f4").tobytes()


def test_a_tapped_model_gives_its_outputs_and_the_activations() -> None:
    model = read_tflite(chain_of_adds())
    names = {tensor.name: tensor for tensor in model.graph.tensors}
    taps = [names[name].index for name in ("second", "first", "sum")]
    tapped = read_tflite(tap_model(model, taps))
    # The model's own output once, though it is asked for again.
    assert [tapped.graph.tensors[i].name for i in tapped.graph.outputs] == [
        "sum", "second", "first",
    ]  # fmt: skip
    values = np.array([1, 2, 3, 4], "<f4")
    sum_, second, first = np.frombuffer(run_whole(tapped, values.tobytes()), "<f4").reshape(3, 4)
    np.testing.assert_array_equal(sum_, np.frombuffer(run_whole(model, values.tobytes()), "<f4"))
    np.testing.assert_array_equal(first, values + np.arange(4))
    np.testing.assert_array_equal(second, first + np.arange(4) + 1)
