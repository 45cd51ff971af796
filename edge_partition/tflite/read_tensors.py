"""Read the tensors of a model's main subgraph."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ai_edge_litert import schema_py_generated as schema

from edge_core.contract.manifest import ITEM_SIZE_BYTES, Quantized
from edge_partition.tflite.file_tables import buffer_bytes, cannot_split, numbers
from edge_partition.tflite.graph import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_partition.tflite.model_tables import ModelTables

_TYPE_NAMES: dict[int, str] = {
    value: name.lower() for name, value in vars(schema.TensorType).items() if name.isupper()
}
#: Bits per element, for types that numpy lacks. Types without a fixed size, such as strings, are
#: left out.
_ODD_ITEM_BITS = {
    "int2": 2, "int4": 4, "uint4": 4, "bfloat16": 16, "float8_e4m3fn": 8, "float8_e5m2": 8,
}  # fmt: skip
#: Integer types that may hold quantized real values.
_INTEGERS = frozenset({"int8", "uint8", "int16", "uint16", "int32", "int4", "uint4"})
_MAX_RANK = 64
_MAX_TENSOR_BYTES = 2**40


@dataclass(frozen=True)
class FileTensors:
    """The tensors of a model's main subgraph.

    Attributes:
        tensors: All tensors, by index. Their ``is_constant`` is False; a later step sets
            ``is_constant`` for the constants.
        buffers: Buffer number of each constant whose value is in the file, by tensor index.
        variables: Indexes of the variable tensors.
        open: Indexes of the tensors without a fixed shape in the file. A tensor is left out if only
            its batch size is not fixed.
        zero_size: Indexes of the tensors that have no elements in the file; a subset of ``open``.
    """

    tensors: tuple[Tensor, ...]
    buffers: Mapping[int, int]
    variables: frozenset[int]
    open: frozenset[int]
    zero_size: frozenset[int]


def read_tensors(tables: ModelTables) -> FileTensors:
    """Read and check the tensors of the main subgraph.

    Raises:
        InvalidModelError: A tensor has an impossible shape or size, or its values are in another
            file.
    """
    variables: set[int] = set()
    buffers: dict[int, int] = {}
    names: set[str] = set()
    tensors = []
    for index in range(tables.main.TensorsLength()):
        table = tables.main.Tensors(index)
        name = _unique_name(table.Name(), index, names)
        tensor, stored_bytes = _read_tensor(tables, table, index, name)
        tensors.append(tensor)
        if table.IsVariable():
            variables.add(index)
        elif stored_bytes:
            buffers[index] = table.Buffer()
    zero_size = frozenset(tensor.index for tensor in tensors if 0 in tensor.shape)
    return FileTensors(
        tuple(tensors),
        buffers,
        frozenset(variables),
        zero_size | _find_open(tables, tensors),
        zero_size,
    )


def _read_tensor(tables: ModelTables, table: Any, index: int, name: str) -> tuple[Tensor, int]:
    """Return a tensor, and the number of bytes that its value has in the file."""
    if table.ExternalBuffer():
        raise cannot_split(
            tables.name,
            f"the values of tensor {name!r} are in another file. Convert the model to one file",
        )
    dtype = _TYPE_NAMES.get(table.Type(), f"type {table.Type()}")
    shape = numbers(table.ShapeAsNumpy())
    if len(shape) > _MAX_RANK or min(shape, default=0) < 0:
        raise cannot_split(
            tables.name,
            f"tensor {name!r} has the invalid shape {list(shape)[:_MAX_RANK]}; expected at most "
            f"{_MAX_RANK} dimensions, and no size below 0. Convert the model again",
        )
    size_bytes = _size_bytes(dtype, shape)
    stored_bytes = len(buffer_bytes(tables.root, table.Buffer(), tables.data))
    if stored_bytes and not table.IsVariable():
        size_bytes = stored_bytes
    if size_bytes > _MAX_TENSOR_BYTES:
        raise cannot_split(
            tables.name,
            f"tensor {name!r} has {size_bytes:,} bytes; expected at most {_MAX_TENSOR_BYTES:,}. "
            "Copy or convert the model again",
        )
    quantized = _quantized(table) if dtype in _INTEGERS else None
    return Tensor(index, name, dtype, shape, size_bytes, quantized=quantized), stored_bytes


def _find_open(tables: ModelTables, tensors: list[Tensor]) -> frozenset[int]:
    """Return the indexes of the tensors with an open dimension or an unknown rank.

    A dimension is open if its size is not fixed. An open batch dimension does not count.
    """
    tensor_tables = [tables.main.Tensors(tensor.index) for tensor in tensors]
    signatures = [numbers(table.ShapeSignatureAsNumpy()) for table in tensor_tables]
    has_batch = any(signatures[index][:1] == (-1,) for index in tables.read_inputs())
    found = {
        index
        for index, signature in enumerate(signatures)
        if -1 in signature[1 if has_batch else 0 :]
    }
    # If has_rank is false, a missing shape means an unknown rank (schema.fbs, table Tensor). Older
    # converters write has_rank for no tensor.
    has_rank = [table.HasRank() for table in tensor_tables]
    if any(has_rank):
        found.update(
            tensor.index
            for tensor, ranked in zip(tensors, has_rank, strict=True)
            if not (tensor.shape or ranked)
        )
    return frozenset(found)


def _quantized(table: Any) -> Quantized | None:
    """Return a tensor's scale and zero point.

    The result is None if the tensor has no valid scale, or has a scale for each channel.
    """
    parameters = table.Quantization()
    if parameters is None or parameters.ScaleLength() != 1 or parameters.ZeroPointLength() > 1:
        return None
    scale = float(parameters.Scale(0))
    zero_point = int(parameters.ZeroPoint(0)) if parameters.ZeroPointLength() else 0
    return Quantized(scale, zero_point) if 0 < scale < math.inf else None


def _unique_name(raw: bytes | None, index: int, taken: set[str]) -> str:
    # The runtime reads a name only up to the first NUL.
    base = (raw or b"").split(b"\0")[0].decode(errors="replace") or f"tensor_{index}"
    name, suffix = base, index
    while name in taken:
        name, suffix = f"{base}__{suffix}", suffix + 1
    taken.add(name)
    return name


def _size_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    count = math.prod(shape)
    if dtype in ITEM_SIZE_BYTES:
        return count * ITEM_SIZE_BYTES[dtype]
    return (count * _ODD_ITEM_BITS.get(dtype, 0) + 7) // 8
