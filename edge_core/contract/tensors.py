"""Payloads with tensors: C-order little-endian bytes, one tensor after another, without a header.

The manifest has the order, names, dtypes and shapes of the tensors.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_core.errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge_core.contract.manifest import TensorSpec


@lru_cache(maxsize=64)
def wire_dtype(dtype: str) -> np.dtype[Any]:
    """Return the little-endian numpy dtype for a manifest's dtype name."""
    return np.dtype(dtype).newbyteorder("<")


def payload_bytes(specs: Sequence[TensorSpec]) -> int:
    """Return the size of a payload that carries ``specs``, in bytes."""
    return sum(spec.size_bytes for spec in specs)


def encode_tensors(specs: Sequence[TensorSpec], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return the payload that carries ``arrays`` in the order of ``specs``.

    Raises:
        PayloadError: As for :func:`tensor_buffers`.
    """
    return b"".join(tensor_buffers(specs, arrays))


def tensor_buffers(
    specs: Sequence[TensorSpec], arrays: Mapping[str, np.ndarray]
) -> list[memoryview]:
    """Return the payload for ``arrays`` in the order of ``specs``, one buffer for each tensor.

    The buffer of an array that is little-endian and in C order is the array's own memory, not a
    copy.

    Raises:
        PayloadError: An array is missing, or has another shape or dtype than its spec. Arrays of
            either byte order are accepted.
    """
    parts = []
    for spec in specs:
        if spec.name not in arrays:
            raise PayloadError(f"No array for input {spec}; got {sorted(arrays)}.")
        array = arrays[spec.name]
        if array.shape != spec.shape or array.dtype.newbyteorder("=") != np.dtype(spec.dtype):
            raise PayloadError(
                f"Input {spec.name} is {array.dtype}{list(array.shape)}; "
                f"expected {spec.dtype}{list(spec.shape)}."
            )
        placed = np.ascontiguousarray(array, dtype=wire_dtype(spec.dtype))
        # The method cast of memoryview fails for an array without elements.
        parts.append(placed.reshape(-1).view(np.uint8).data)
    return parts


def decode_tensors(
    specs: Sequence[TensorSpec], payload: bytes | memoryview
) -> dict[str, np.ndarray]:
    """Return the tensors in ``payload`` by name, in the order of ``specs``.

    The arrays are views of ``payload``. They are read-only if ``payload`` is ``bytes``.

    Raises:
        PayloadError: The payload has another size than the tensors of ``specs`` together.
    """
    expected = payload_bytes(specs)
    if len(payload) != expected:
        raise PayloadError(
            f"The payload has {len(payload):,} bytes; expected {expected:,} for "
            + ", ".join(str(spec) for spec in specs)
            + "."
        )
    arrays = {}
    offset = 0
    for spec in specs:
        count = spec.size_bytes // wire_dtype(spec.dtype).itemsize
        flat = np.frombuffer(payload, wire_dtype(spec.dtype), count, offset)
        arrays[spec.name] = flat.reshape(spec.shape)
        offset += spec.size_bytes
    return arrays
