"""Cut a range of operators out of a ``.tflite`` file, as a ``.tflite`` file of its own.

Nothing is converted again: operators, options, quantization and weights are the original's, so
slices chained together give the whole model's bits (DESIGN, "How a model is split").
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from broker_config.errors import EdgePartitionError
from edge_partition.read_tflite import (
    FILE_IDENTIFIER,
    buffer_bytes,
    call_fields,
    file_bytes,
    malformed_as_invalid,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge_partition.graph import Tensor
    from edge_partition.read_tflite import TfliteModel

#: Alignment of a buffer's data (schema.fbs, table Buffer: ``force_align: 16``).
_BUFFER_ALIGNMENT_BYTES = 16
#: FlatBuffers' offsets are signed 32-bit numbers.
_MAX_FILE_BYTES = 2**31 - 1
#: The field ``data`` of the table Buffer, as the generated accessors count.
_DATA_SLOT = 4
_LENGTH = struct.Struct("<I")
#: The metadata that the runtime itself reads; the rest describes the whole model.
_KEPT_METADATA = frozenset({b"min_runtime_version"})


class SliceError(EdgePartitionError):
    """A range of operators cannot be a file of its own; the text says why."""


def stage_inputs(model: TfliteModel, start: int, stop: int) -> tuple[Tensor, ...]:
    """Return what the operators ``[start, stop)`` read from before ``start``, in boundary order."""
    graph = model.graph
    read = {index for op in graph.operators[start:stop] for index in op.inputs}
    return tuple(tensor for tensor in graph.boundary(start) if tensor.index in read)


def stage_outputs(model: TfliteModel, start: int, stop: int) -> tuple[Tensor, ...]:
    """Return what the operators ``[start, stop)`` make for after ``stop``, in boundary order."""
    graph = model.graph
    made = {index for op in graph.operators[start:stop] for index in op.outputs}
    return tuple(tensor for tensor in graph.boundary(stop) if tensor.index in made)


def slice_model(model: TfliteModel, start: int, stop: int) -> bytes:
    """Return the operators ``[start, stop)`` as a model of their own.

    Its inputs are :func:`stage_inputs` and its outputs :func:`stage_outputs`, under the graph's
    names: a tensor that a stage only passes on is in neither. Operators fed by constants alone come
    with whatever reads them, control-flow subgraphs with whatever calls them. Of tensors, buffers
    and operator codes it has those that it uses. The same range gives the same bytes.

    Raises:
        IndexError: ``[start, stop)`` is no range of at least one operator.
        SliceError: ``start`` or ``stop`` is no cut, or the part is over 2 GB.
        InvalidModelError: The file is damaged where only slicing reads it.
    """
    graph = model.graph
    n = len(graph.operators)
    if not 0 <= start < stop <= n:
        raise IndexError(f"[{start}, {stop}) is not a range of {graph.name}'s {n} operators")
    for position in (start, stop):
        if position not in {0, n} and position not in graph.cuts:
            raise SliceError(
                f"{graph.name} cannot be cut before operator {position}: operators on both sides "
                "share state, or a tensor that cannot travel crosses. Choose another position."
            )
    with malformed_as_invalid(graph.name):
        slicer = _Slicer(model)
        slicer.add_main(start, stop)
        return slicer.to_bytes()


@dataclass
class _Buffer:
    """A ``Buffer`` table that points anywhere: its data come behind the tables, once they stand."""

    data: np.ndarray[Any, np.dtype[np.uint8]]

    def Pack(self, builder: Any) -> int:  # noqa: N802 - the generated code calls it
        anywhere = builder.Offset()
        schema.BufferStart(builder)
        if self.data.size:
            schema.BufferAddData(builder, anywhere)
        return int(schema.BufferEnd(builder))


class _Slicer:
    """Collects what a slice needs, numbering subgraphs, buffers and operator codes anew."""

    def __init__(self, model: TfliteModel) -> None:
        self.model = model
        self.source = model.schema
        self.subgraphs: list[Any] = []
        self.new_subgraph: dict[int, int] = {}
        # Buffer 0 is the empty one (schema.fbs, table Model).
        self.buffers = [_Buffer(np.empty(0, np.uint8))]
        self.new_buffer: dict[int, int] = {}
        self.operator_codes: list[Any] = []
        self.new_operator_code: dict[int, int] = {}

    def add_main(self, start: int, stop: int) -> None:
        """Add the operators ``[start, stop)`` as subgraph 0, and the subgraphs they call."""
        table = self.source.Subgraphs(0)
        main = schema.SubGraphT()
        main.name = table.Name()
        self.subgraphs.append(main)

        operators = self._main_operators(start, stop)
        ends = (stage_inputs(self.model, start, stop), stage_outputs(self.model, start, stop))
        used = {tensor.index for end in ends for tensor in end}
        for op in operators:
            for indexes in (op.inputs, op.outputs, op.intermediates):
                used.update(index for index in _indexes(indexes) if index >= 0)
        new_tensor = {old: new for new, old in enumerate(sorted(used))}
        new_tensor[-1] = -1

        main.inputs, main.outputs = (
            _renumbered((tensor.index for tensor in end), new_tensor) for end in ends
        )
        main.tensors = []
        for index in sorted(used):
            tensor = schema.TensorT.InitFromObj(table.Tensors(index))
            tensor.name = self.model.graph.tensors[index].name
            main.tensors.append(self._adapt_tensor(tensor))
        for op in operators:
            op.inputs = _renumbered(_indexes(op.inputs), new_tensor)
            op.outputs = _renumbered(_indexes(op.outputs), new_tensor)
            if op.intermediates is not None:
                op.intermediates = _renumbered(_indexes(op.intermediates), new_tensor)
        main.operators = [self._adapt_operator(op) for op in operators]

    def to_bytes(self) -> bytes:
        """Return the file."""
        result = schema.ModelT()
        result.version = self.source.Version()
        result.description = self.source.Description()
        result.operatorCodes = self.operator_codes
        result.subgraphs = self.subgraphs
        result.metadata = self._metadata()
        result.buffers = self.buffers
        builder = flatbuffers.Builder(0)
        builder.Finish(result.Pack(builder), FILE_IDENTIFIER)
        return self._with_data(builder.Output())

    def _with_data(self, tables: bytearray) -> bytes:
        """Return the tables and behind them the buffers' data, which are copied this once.

        A FlatBuffers vector is its length and then its elements; a field holds the distance from
        itself to the vector, in 32 bits each, little-endian.
        """
        root = schema.Model.GetRootAs(tables)
        chunks: list[Any] = [tables]
        size_bytes = len(tables)
        for index, buffer in enumerate(self.buffers):
            if not buffer.data.size:
                continue
            padding = -(size_bytes + _LENGTH.size) % _BUFFER_ALIGNMENT_BYTES
            vector = size_bytes + padding
            size_bytes = vector + _LENGTH.size + buffer.data.size
            self._check_size(size_bytes)
            table = root.Buffers(index)._tab  # noqa: SLF001 - the only way to a field's place
            field = table.Pos + table.Offset(_DATA_SLOT)
            _LENGTH.pack_into(tables, field, vector - field)
            chunks += [bytes(padding), _LENGTH.pack(buffer.data.size), buffer.data.data]
        return b"".join(chunks)

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > _MAX_FILE_BYTES:
            raise SliceError(
                f"A part of {self.model.graph.name} would have {size_bytes:,} bytes or more; a "
                f".tflite file holds at most {_MAX_FILE_BYTES:,}. Split into more stages."
            )

    def _main_operators(self, start: int, stop: int) -> list[Any]:
        """Return the range's operators and the constant-fed ones they read, in file order."""
        table = self.source.Subgraphs(0)
        found: dict[int, Any] = {}
        waiting = list(self.model.file_operators[start:stop])
        while waiting:
            index = waiting.pop()
            if index in found:
                continue
            op = found[index] = schema.OperatorT.InitFromObj(table.Operators(index))
            makers = self.model.constant_makers
            waiting.extend(makers[tensor] for tensor in _indexes(op.inputs) if tensor in makers)
        return [found[index] for index in sorted(found)]

    def _subgraph(self, old: int) -> int:
        """Return the new number of a subgraph that an operator calls, adding it if need be."""
        if old not in self.new_subgraph:
            called = schema.SubGraphT.InitFromObj(self.source.Subgraphs(old))
            self.new_subgraph[old] = len(self.subgraphs)
            self.subgraphs.append(called)
            called.debugMetadataIndex = -1
            called.tensors = [self._adapt_tensor(tensor) for tensor in called.tensors or ()]
            called.operators = [self._adapt_operator(op) for op in called.operators or ()]
        return self.new_subgraph[old]

    def _buffer(self, old: int) -> int:
        if old not in self.new_buffer:
            data = buffer_bytes(self.source, old, self.model.data)
            # Activations have empty buffers of their own in the file, and share the first here.
            self.new_buffer[old] = len(self.buffers) if data.size else 0
            if data.size:
                self.buffers.append(_Buffer(data))
        return self.new_buffer[old]

    def _operator_code(self, old: int) -> int:
        if old not in self.new_operator_code:
            code = schema.OperatorCodeT.InitFromObj(self.source.OperatorCodes(old))
            self.new_operator_code[old] = len(self.operator_codes)
            self.operator_codes.append(code)
        return self.new_operator_code[old]

    def _adapt_tensor(self, tensor: Any) -> Any:
        tensor.buffer = self._buffer(tensor.buffer)
        return tensor

    def _adapt_operator(self, op: Any) -> Any:
        op.opcodeIndex = self._operator_code(op.opcodeIndex)
        if op.largeCustomOptionsOffset > 1:
            op.customOptions = file_bytes(
                self.model.data, op.largeCustomOptionsOffset, op.largeCustomOptionsSize
            )
            op.largeCustomOptionsOffset = op.largeCustomOptionsSize = 0
        # It points into metadata of the whole model.
        op.debugMetadataIndex = -1
        for options, field, called in call_fields(op):
            new = [self._subgraph(index) for index in called]
            value = getattr(options, field)
            setattr(options, field, new[0] if isinstance(value, int) else np.array(new, np.int32))
        return op

    def _metadata(self) -> list[Any]:
        kept = []
        for index in range(self.source.MetadataLength()):
            entry = schema.MetadataT.InitFromObj(self.source.Metadata(index))
            if entry.name in _KEPT_METADATA:
                entry.buffer = self._buffer(entry.buffer)
                kept.append(entry)
        return kept


def _indexes(vector: Any) -> list[int]:
    return [] if vector is None else [int(index) for index in vector]


def _renumbered(indexes: Iterable[int], new: dict[int, int]) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.array([new[index] for index in indexes], np.int32)
