"""Tensors on the wire: C-order little-endian bytes, without gaps and headers.

The manifest has the dtypes and shapes (DESIGN, "Tensors on the wire").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edge_core.errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge_core.contract.manifest import TensorSpec


def wire_dtype(dtype: str) -> np.dtype[Any]:
    """Return the little-endian numpy dtype for a manifest's dtype name."""
    return np.dtype(dtype).newbyteorder("<")


def payload_bytes(specs: Sequence[TensorSpec]) -> int:
    """Return the size of a payload that carries ``specs``, in bytes."""
    return sum(spec.size_bytes for spec in specs)


def encode_tensors(specs: Sequence[TensorSpec], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return the payload that carries ``arrays`` in the order of ``specs``.

    The errors are those of :func:`tensor_buffers`.
    """
    return b"".join(tensor_buffers(specs, arrays))


def tensor_buffers(
    specs: Sequence[TensorSpec], arrays: Mapping[str, np.ndarray]
) -> list[memoryview]:
    """Return the payload that carries ``arrays`` in the order of ``specs``, one buffer a tensor.

    A buffer shows the array itself where the array is little-endian and in C order.

    Raises:
        PayloadError: An array is missing, or has another shape or dtype than its spec. The byte
            order does not matter.
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
        # A memoryview's own cast refuses arrays without elements.
        parts.append(placed.reshape(-1).view(np.uint8).data)
    return parts


def decode_tensors(
    specs: Sequence[TensorSpec], payload: bytes | memoryview
) -> dict[str, np.ndarray]:
    """Return views of ``payload`` by name, in the order of ``specs``.

    Views of ``bytes`` are read-only.

    Raises:
        PayloadError: The payload and ``specs`` differ in size.
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
