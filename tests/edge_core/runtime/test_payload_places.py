"""Places of a file's tensors in payloads, from descriptions like the runtime's; no model runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_core.contract.manifest import TensorSpec
from edge_core.errors import ModelLoadError
from edge_core.runtime.payload_places import (
    OutputTensor,
    PassedTensor,
    find_inputs,
    find_outputs,
)

A = TensorSpec("a", "float32", (2,))
B = TensorSpec("b", "int8", (3,))
C = TensorSpec("c", "float32", (1, 2))


def detail(spec: TensorSpec, index: int, **changed: Any) -> dict[str, Any]:
    made = {"name": spec.name, "index": index, "dtype": np.dtype(spec.dtype).type}
    return made | {"shape": np.array(spec.shape, np.int32)} | changed


def test_inputs_have_the_payloads_order_and_the_files_indices() -> None:
    found = find_inputs("m", [detail(C, 7), detail(A, 9)], [A, B, C], by_position=False)
    assert [(tensor.tensor_index, tensor.place) for tensor in found] == [
        (9, slice(0, 8)),
        (7, slice(11, 19)),
    ]
    payload = np.array([1, 2], "<f4").tobytes() + b"..." + np.array([3, 4], "<f4").tobytes()
    np.testing.assert_array_equal(found[1].read(memoryview(payload)), np.float32([[3, 4]]))


def test_a_float16_payload_is_widened_on_the_way_in_and_narrowed_on_the_way_out() -> None:
    half = TensorSpec("a", "float16", (2,))
    (source,) = find_inputs("m", [detail(A, 0)], [half], by_position=False)
    values = source.read(memoryview(np.array([0.5, -2], "<f2").tobytes()))
    assert values.dtype == np.float32
    (output,) = find_outputs("m", [detail(A, 0)], [], [half], by_position=False)
    assert isinstance(output, OutputTensor)
    assert output.encode(values).tobytes() == np.array([0.5, -2], "<f2").tobytes()


def test_an_output_that_the_file_lacks_is_the_input_of_its_name() -> None:
    half = TensorSpec("a", "float16", (2,))
    payload = memoryview(b"xyz" + np.array([1, 70_000], "<f4").tobytes())
    same, narrowed = find_outputs("m", [], [B, A], [A, half], by_position=False)
    assert isinstance(same, PassedTensor)
    assert isinstance(narrowed, PassedTensor)
    assert bytes(same.encode(payload)) == bytes(payload[3:])
    assert bytes(narrowed.encode(payload)) == np.array([1, 65_504], "<f2").tobytes()


def test_with_by_position_the_order_counts_and_not_the_names() -> None:
    details = [detail(A, 4, name=""), detail(B, 5, name="")]
    found = find_inputs("m", details, [A, B], by_position=True)
    assert [tensor.tensor_index for tensor in found] == [4, 5]
    # The file lists one tensor twice.
    outputs = find_outputs("m", [details[0], details[0], details[1]], [], [A, B], by_position=True)
    assert outputs == [OutputTensor(4, is_narrowed=False), OutputTensor(5, is_narrowed=False)]


@pytest.mark.parametrize(
    "wrong", [{"shape": np.array([3], np.int32)}, {"dtype": np.float64}, {"dtype": np.float16}]
)
def test_another_shape_or_dtype_than_the_manifests_is_an_error(wrong: dict[str, Any]) -> None:
    for find in (
        lambda details: find_inputs("m", details, [A], by_position=False),
        lambda details: find_outputs("m", details, [], [A], by_position=False),
    ):
        assert len(find([detail(A, 0)])) == 1
        with pytest.raises(ModelLoadError, match=r"m has the tensor a .*; expected a float32"):
            find([detail(A, 0, **wrong)])


def test_a_tensor_that_nothing_gives_is_named() -> None:
    with pytest.raises(ModelLoadError, match=r"m reads c; the manifest has only the inputs a, b\."):
        find_inputs("m", [detail(A, 0), detail(C, 1)], [A, B], by_position=False)
    with pytest.raises(ModelLoadError, match="m has no output c float32"):
        find_outputs("m", [detail(A, 0)], [B], [A, C], by_position=False)
