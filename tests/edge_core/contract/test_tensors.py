from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from edge_core.contract.manifest import ITEM_SIZE_BYTES, TensorSpec
from edge_core.contract.tensors import decode_tensors, encode_tensors, payload_bytes
from edge_core.errors import PayloadError

SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@st.composite
def tensors(draw: Any) -> list[tuple[TensorSpec, np.ndarray]]:
    made = []
    for number in range(draw(st.integers(1, 4))):
        dtype = draw(st.sampled_from(sorted(ITEM_SIZE_BYTES)))
        shape = draw(SHAPES)
        order = draw(st.sampled_from("<>"))
        array = draw(arrays_of.arrays(np.dtype(dtype).newbyteorder(order), shape))
        made.append((TensorSpec(f"t{number}", dtype, shape), array))
    return made


@given(tensors())
@settings(max_examples=200, deadline=None)
def test_encoded_tensors_decode_to_the_same_bits(
    given_tensors: list[tuple[TensorSpec, np.ndarray]],
) -> None:
    specs = [spec for spec, _ in given_tensors]
    payload = encode_tensors(specs, {spec.name: array for spec, array in given_tensors})
    assert len(payload) == payload_bytes(specs) == sum(array.nbytes for _, array in given_tensors)
    decoded = decode_tensors(specs, payload)
    assert list(decoded) == [spec.name for spec in specs]
    for spec, array in given_tensors:
        found = decoded[spec.name]
        assert found.shape == spec.shape
        assert found.dtype == np.dtype(spec.dtype)
        # Bytes, because NaN is not equal to itself.
        assert found.tobytes() == array.astype(np.dtype(spec.dtype).newbyteorder("<")).tobytes()


def test_item_sizes_match_numpy() -> None:
    assert {name: np.dtype(name).itemsize for name in ITEM_SIZE_BYTES} == ITEM_SIZE_BYTES


PAIR = [TensorSpec("a", "int16", (2, 2)), TensorSpec("flag", "bool", ())]


@pytest.mark.parametrize("dtype", ["<i2", ">i2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_payloads_are_c_order_little_endian_in_manifest_order_without_header(
    dtype: str, order: Any
) -> None:
    array = np.array([[1, 2], [0x0304, -1]], dtype, order=order)
    # The mapping has another order than the manifest.
    payload = encode_tensors(PAIR, {"flag": np.array(True), "a": array})  # noqa: FBT003
    assert payload == b"\x01\x00\x02\x00\x04\x03\xff\xff\x01"


def test_known_floats_have_their_ieee_bytes() -> None:
    spec = TensorSpec("x", "float32", (2,))
    assert encode_tensors([spec], {"x": np.float32([1, -2])}).hex() == "0000803f000000c0"
    decoded = decode_tensors([spec], bytearray.fromhex("0000803f000000c0"))["x"]
    np.testing.assert_array_equal(decoded, [1, -2])


def test_a_strided_view_is_encoded_in_c_order() -> None:
    spec = TensorSpec("x", "uint8", (3,))
    assert encode_tensors([spec], {"x": np.arange(6, dtype=np.uint8)[::-2]}) == b"\x05\x03\x01"


def test_arrays_over_bytes_are_read_only() -> None:
    decoded = decode_tensors(PAIR, bytes(9))
    with pytest.raises(ValueError, match="read-only"):
        decoded["a"][0, 0] = 1


@pytest.mark.parametrize("size_bytes", [0, 8, 10, 18])
def test_an_error_about_a_payloads_size_has_both_sizes(size_bytes: int) -> None:
    with pytest.raises(PayloadError, match=rf"has {size_bytes} bytes; expected 9 .*a int16"):
        decode_tensors(PAIR, bytes(size_bytes))


def test_a_payload_without_tensors_is_empty() -> None:
    assert encode_tensors([], {}) == b""
    assert decode_tensors([], b"") == {}


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((2, 2), np.int32), r"int32\[2, 2\]"),
        (np.zeros((2, 2), np.uint16), r"uint16\[2, 2\]"),
        (np.zeros((4,), np.int16), r"int16\[4\]"),
        (np.zeros((1, 2, 2), np.int16), r"int16\[1, 2, 2\]"),
        (np.zeros((2, 2), ">i4"), r">i4\[2, 2\]"),
    ],
)
def test_an_error_about_shape_or_dtype_has_both(array: np.ndarray, found: str) -> None:
    with pytest.raises(PayloadError, match=rf"a is {found}; expected int16\[2, 2\]"):
        encode_tensors(PAIR, {"a": array, "flag": np.array(False)})  # noqa: FBT003


def test_an_error_about_a_missing_array_names_the_given_arrays() -> None:
    with pytest.raises(PayloadError, match=r"input flag bool\[\]; got \['a', 'other'\]"):
        encode_tensors(PAIR, {"a": np.zeros((2, 2), np.int16), "other": np.zeros(1)})
