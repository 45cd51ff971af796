"""Copy tables from one ``.tflite`` file to another, together with the buffers that they use.

Buffers stay views of the source file until the new file is assembled. Therefore each buffer is
copied only once.
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
#: Vtable offset of the field ``data`` in the table Buffer, as in the generated accessors.
_DATA_SLOT = 4
_LENGTH = struct.Struct("<I")
#: Names of the metadata entries that are copied, because the runtime reads them. Other entries
#: describe the whole original model.
_KEPT_METADATA = frozenset({b"min_runtime_version"})


class FileTooLargeError(EdgePartitionError):
    """A ``.tflite`` file would have more bytes than the format can address.

    Attributes:
        model_name: Name of the model, or of the part of a model, that the file would contain.
        size_bytes: Lower bound on the file's size, in bytes.
    """

    def __init__(self, model_name: str, size_bytes: int) -> None:
        self.model_name = model_name
        self.size_bytes = size_bytes
        super().__init__(
            f"{model_name} would have at least {size_bytes:,} bytes; a .tflite file holds at most "
            f"{_MAX_FILE_BYTES:,} bytes. Split the model into more stages."
        )


@dataclass
class BufferView:
    """A ``Buffer`` table whose data :func:`pack_model` writes after all tables.

    Attributes:
        data: The buffer's bytes, uint8, shape ``(n,)``.
    """

    data: np.ndarray[Any, np.dtype[np.uint8]]

    def Pack(self, builder: Any) -> int:  # noqa: N802 - the generated code calls it
        """Write the table without its data, and return the table's position in the FlatBuffer.

        The field that refers to the data gets a placeholder.
        """
        placeholder = builder.Offset()
        schema.BufferStart(builder)
        if self.data.size:
            schema.BufferAddData(builder, placeholder)
        return int(schema.BufferEnd(builder))


class TableCopier:
    """Collects the tables of a new file, and renumbers subgraphs, buffers and operator codes.

    Attributes:
        source: The source file's root table (``schema_py_generated.Model``).
        data: The source file's bytes.
        subgraphs: The new file's subgraphs (``SubGraphT``), with the main subgraph at index 0.
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
        """Return the number that a subgraph of the source file has in the new file.

        The first call for a subgraph adds the subgraph to the new file, and also adds the subgraphs
        that this subgraph calls.

        Args:
            old: The subgraph's number in the source file.
        """
        if old not in self._new_subgraph:
            called = schema.SubGraphT.InitFromObj(self.source.Subgraphs(old))
            self._new_subgraph[old] = len(self.subgraphs)
            self.subgraphs.append(called)
            called.debugMetadataIndex = -1
            called.tensors = [self.adapt_tensor(tensor) for tensor in called.tensors or ()]
            called.operators = [self.adapt_operator(op) for op in called.operators or ()]
        return self._new_subgraph[old]

    def adapt_tensor(self, tensor: Any) -> Any:
        """Replace a tensor's buffer number by the buffer's number in the new file.

        Args:
            tensor: A ``TensorT`` of the source file, which is changed in place.

        Returns:
            The changed ``tensor``.
        """
        tensor.buffer = self._buffer(tensor.buffer)
        return tensor

    def adapt_operator(self, op: Any) -> Any:
        """Replace the numbers in an operator by numbers in the new file.

        These are the numbers of the operator code and of the called subgraphs.

        Args:
            op: An ``OperatorT`` of the source file, which is changed in place.

        Returns:
            The changed ``op``.
        """
        op.opcodeIndex = self._operator_code(op.opcodeIndex)
        embed_options(op, self.data)
        # The index refers to metadata of the whole model, which is not copied.
        op.debugMetadataIndex = -1
        for options, field, called in call_fields(op):
            new = [self.subgraph(index) for index in called]
            value = getattr(options, field)
            setattr(options, field, new[0] if isinstance(value, int) else np.array(new, np.int32))
        return op

    def to_bytes(self, model_name: str, signatures: Sequence[Any] | None = None) -> bytes:
        """Return the new file's bytes.

        Args:
            model_name: The model's name, for the error.
            signatures: The new file's signatures (``SignatureDefT``); None for no signatures.

        Raises:
            FileTooLargeError: The file would be over 2 GB.
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
            # In the source, each activation has its own empty buffer. In the new file, all
            # activations use buffer 0.
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
    """Copy an operator's custom options into the operator's ``OperatorT``.

    Nothing is copied if the custom options are already in the FlatBuffer. In a model over 2 GB, the
    custom options may follow the FlatBuffer.
    """
    if op.largeCustomOptionsOffset > 1:
        op.customOptions = file_bytes(data, op.largeCustomOptionsOffset, op.largeCustomOptionsSize)
        op.largeCustomOptionsOffset = op.largeCustomOptionsSize = 0


def pack_model(model: Any, model_name: str) -> bytes:
    """Return the ``.tflite`` file of a ``ModelT`` whose buffers are :class:`BufferView` objects.

    Only this function copies the buffers' data; the data follows all tables in the file. A
    FlatBuffers vector is its length, followed by its elements. A field of a vector type holds the
    distance from the field to the vector. The length and the distance are little-endian numbers of
    32 bits.

    Raises:
        FileTooLargeError: The file would be over 2 GB.
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
        table = root.Buffers(index)._tab  # noqa: SLF001 - no public way to a field's position
        field = table.Pos + table.Offset(_DATA_SLOT)
        _LENGTH.pack_into(tables, field, vector - field)
        chunks += [bytes(padding), _LENGTH.pack(buffer.data.size), buffer.data.data]
    return b"".join(chunks)
