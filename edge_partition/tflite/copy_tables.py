"""Tables of one ``.tflite`` file copied into another, with the buffers that they name.

Buffers are views of the source until the file is put together, and are then copied once: models
of hundreds of megabytes go through in the time that copying takes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge_core.errors import EdgePartitionError
from edge_partition.tflite.file_tables import FILE_IDENTIFIER, buffer_bytes, call_fields, file_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_partition.tflite.file_tables import Bytes

#: Alignment of a buffer's data (schema.fbs, table Buffer: ``force_align: 16``).
_BUFFER_ALIGNMENT_BYTES = 16
#: FlatBuffers' offsets are signed 32-bit numbers.
_MAX_FILE_BYTES = 2**31 - 1
#: The field ``data`` of the table Buffer, as the generated accessors count.
_DATA_SLOT = 4
_LENGTH = struct.Struct("<I")
#: The metadata that the runtime itself reads; the rest describes the whole model.
_KEPT_METADATA = frozenset({b"min_runtime_version"})


class FileTooLargeError(EdgePartitionError):
    """A ``.tflite`` file would have more bytes than its format can address.

    Attributes:
        model_name: What it would hold.
        size_bytes: As many or more.
    """

    def __init__(self, model_name: str, size_bytes: int) -> None:
        self.model_name = model_name
        self.size_bytes = size_bytes
        super().__init__(
            f"{model_name} would have {size_bytes:,} bytes or more; a .tflite file holds at most "
            f"{_MAX_FILE_BYTES:,}. Split into more stages."
        )


@dataclass
class BufferView:
    """A ``Buffer`` table that points anywhere: its data come behind the tables, once they stand."""

    data: np.ndarray[Any, np.dtype[np.uint8]]

    def Pack(self, builder: Any) -> int:  # noqa: N802 - the generated code calls it
        """Write the table and return its place."""
        anywhere = builder.Offset()
        schema.BufferStart(builder)
        if self.data.size:
            schema.BufferAddData(builder, anywhere)
        return int(schema.BufferEnd(builder))


class TableCopier:
    """Collects what a new file needs, numbering subgraphs, buffers and operator codes anew.

    Attributes:
        source: The root table (``schema_py_generated.Model``) of the file copied from.
        data: That file's bytes.
        subgraphs: The new file's ``SubGraphT``; the first of them is the main one.
    """

    def __init__(self, source: Any, data: Bytes) -> None:
        self.source = source
        self.data = data
        self.subgraphs: list[Any] = []
        self._new_subgraph: dict[int, int] = {}
        # Buffer 0 is the empty one (schema.fbs, table Model).
        self._buffers = [BufferView(np.empty(0, np.uint8))]
        self._new_buffer: dict[int, int] = {}
        self._operator_codes: list[Any] = []
        self._new_operator_code: dict[int, int] = {}

    def subgraph(self, old: int) -> int:
        """Return the new number of a subgraph, adding it and those that it calls if need be."""
        if old not in self._new_subgraph:
            called = schema.SubGraphT.InitFromObj(self.source.Subgraphs(old))
            self._new_subgraph[old] = len(self.subgraphs)
            self.subgraphs.append(called)
            called.debugMetadataIndex = -1
            called.tensors = [self.adapt_tensor(tensor) for tensor in called.tensors or ()]
            called.operators = [self.adapt_operator(op) for op in called.operators or ()]
        return self._new_subgraph[old]

    def adapt_tensor(self, tensor: Any) -> Any:
        """Make a ``TensorT`` of the source one of the new file, and return it."""
        tensor.buffer = self._buffer(tensor.buffer)
        return tensor

    def adapt_operator(self, op: Any) -> Any:
        """Make an ``OperatorT`` of the source one of the new file, and return it."""
        op.opcodeIndex = self._operator_code(op.opcodeIndex)
        embed_options(op, self.data)
        # It points into metadata of the whole model.
        op.debugMetadataIndex = -1
        for options, field, called in call_fields(op):
            new = [self.subgraph(index) for index in called]
            value = getattr(options, field)
            setattr(options, field, new[0] if isinstance(value, int) else np.array(new, np.int32))
        return op

    def to_bytes(self, model_name: str, signatures: Sequence[Any] | None = None) -> bytes:
        """Return the file.

        Args:
            model_name: For the error.
            signatures: The new file's ``SignatureDefT``.

        Raises:
            FileTooLargeError: It would be over 2 GB.
        """
        result = schema.ModelT()
        result.version = self.source.Version()
        result.description = self.source.Description()
        result.operatorCodes = self._operator_codes
        result.subgraphs = self.subgraphs
        result.metadata = self._metadata()
        result.buffers = self._buffers
        result.signatureDefs = signatures
        return pack_model(result, model_name)

    def _buffer(self, old: int) -> int:
        if old not in self._new_buffer:
            data = buffer_bytes(self.source, old, self.data)
            # Activations have empty buffers of their own in the file, and share the first here.
            self._new_buffer[old] = len(self._buffers) if data.size else 0
            if data.size:
                self._buffers.append(BufferView(data))
        return self._new_buffer[old]

    def _operator_code(self, old: int) -> int:
        if old not in self._new_operator_code:
            code = schema.OperatorCodeT.InitFromObj(self.source.OperatorCodes(old))
            self._new_operator_code[old] = len(self._operator_codes)
            self._operator_codes.append(code)
        return self._new_operator_code[old]

    def _metadata(self) -> list[Any]:
        kept = []
        for index in range(self.source.MetadataLength()):
            entry = schema.MetadataT.InitFromObj(self.source.Metadata(index))
            if entry.name in _KEPT_METADATA:
                entry.buffer = self._buffer(entry.buffer)
                kept.append(entry)
        return kept


def embed_options(op: Any, data: Bytes) -> None:
    """Bring an ``OperatorT``'s custom options that lie behind the FlatBuffer into it."""
    if op.largeCustomOptionsOffset > 1:
        op.customOptions = file_bytes(data, op.largeCustomOptionsOffset, op.largeCustomOptionsSize)
        op.largeCustomOptionsOffset = op.largeCustomOptionsSize = 0


def pack_model(model: Any, model_name: str) -> bytes:
    """Return a ``ModelT`` whose buffers are :class:`BufferView` as a file.

    The buffers' data lie behind the tables and are copied this once. A FlatBuffers vector is its
    length and then its elements; a field holds the distance from itself to the vector, in 32 bits
    each, little-endian.

    Raises:
        FileTooLargeError: It would be over 2 GB.
    """
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    tables = builder.Output()
    root = schema.Model.GetRootAs(tables)
    chunks: list[Any] = [tables]
    size_bytes = len(tables)
    for index, buffer in enumerate(model.buffers):
        if not buffer.data.size:
            continue
        padding = -(size_bytes + _LENGTH.size) % _BUFFER_ALIGNMENT_BYTES
        vector = size_bytes + padding
        size_bytes = vector + _LENGTH.size + buffer.data.size
        if size_bytes > _MAX_FILE_BYTES:
            raise FileTooLargeError(model_name, size_bytes)
        table = root.Buffers(index)._tab  # noqa: SLF001 - the only way to a field's place
        field = table.Pos + table.Offset(_DATA_SLOT)
        _LENGTH.pack_into(tables, field, vector - field)
        chunks += [bytes(padding), _LENGTH.pack(buffer.data.size), buffer.data.data]
    return b"".join(chunks)
