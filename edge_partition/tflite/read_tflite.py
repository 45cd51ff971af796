"""Read a ``.tflite`` file into a :class:`~edge_partition.tflite.graph.Graph`.

The file may come from anyone: every index and length is checked before it is used, so that bytes
that are no model give an :class:`InvalidModelError` and nothing else. The format is TensorFlow
Lite's ``schema.fbs`` in a FlatBuffer; the accessors are those that ship with LiteRT.
"""

from __future__ import annotations

import functools
import hashlib
import math
import mmap
import struct
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge_core.contract.manifest import ITEM_SIZE_BYTES, Quantized
from edge_core.errors import EdgePartitionError
from edge_partition.tflite.find_state import find_stateful
from edge_partition.tflite.graph import Graph, Operator, Tensor, layer_label

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

FILE_IDENTIFIER = b"TFL3"

Bytes: TypeAlias = bytes | mmap.mmap

#: What the FlatBuffers accessors raise on offsets that lead nowhere.
_MALFORMED = (
    struct.error, IndexError, KeyError, ValueError, TypeError, AttributeError, OverflowError,
    AssertionError, RecursionError, MemoryError,
)  # fmt: skip

_TYPE_NAMES: dict[int, str] = {
    value: name.lower() for name, value in vars(schema.TensorType).items() if name.isupper()
}
_KINDS: dict[int, str] = {
    value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()
}
#: Bits of one element of types that numpy has no name for; of others the size is not known.
_ODD_ITEM_BITS = {
    "int2": 2, "int4": 4, "uint4": 4, "bfloat16": 16, "float8_e4m3fn": 8, "float8_e5m2": 8,
}  # fmt: skip
#: Types whose values may stand for real ones.
_INTEGERS = frozenset({"int8", "uint8", "int16", "uint16", "int32", "int4", "uint4"})
#: A file of that many bytes a table holds at most one table of the kind counted.
_MIN_TABLE_BYTES = 12
_MAX_RANK = 64
_MAX_TENSOR_BYTES = 2**40

#: Operators that share a resource by name, which is the process's and cannot be sent.
_STATEFUL = frozenset(
    {
        "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE",
        "HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT", "HASHTABLE_SIZE",
    }
)  # fmt: skip
#: Operators whose results are settled by their inputs; of a custom operator that is not known.
_SETTLED_KINDS = frozenset(_KINDS.values()) - _STATEFUL - {
    "CUSTOM", "DELEGATE", "RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL", "MULTINOMIAL",
    "STABLEHLO_RNG_BIT_GENERATOR", "STABLEHLO_CUSTOM_CALL",
}  # fmt: skip
#: Operators that run other subgraphs of the file.
_CALLERS = frozenset(
    {
        "IF", "WHILE", "CALL", "CALL_ONCE", "STABLEHLO_WHILE", "STABLEHLO_CASE",
        "STABLEHLO_COMPOSITE", "STABLEHLO_REDUCE", "STABLEHLO_REDUCE_WINDOW", "STABLEHLO_SCATTER",
        "STABLEHLO_SORT",
    }
)  # fmt: skip


class InvalidModelError(EdgePartitionError):
    """Bytes are no TFLite model that can be split; the text says what is wrong with them."""


@dataclass(frozen=True)
class TfliteModel:
    """A ``.tflite`` file and its graph.

    Attributes:
        data: The file's bytes, mapped where they came from a path.
        graph: What the planner works on.
        schema: The root table (``schema_py_generated.Model``), a view on ``data``.
        file_operators: For each of ``graph.operators`` its index in the file's main subgraph.
        constant_makers: For each tensor made by an operator fed by constants alone, that operator's
            index in the file's main subgraph.
        unfixed: Indexes of the tensors whose shape only running tells.
    """

    data: Bytes
    graph: Graph
    schema: Any
    file_operators: tuple[int, ...]
    constant_makers: dict[int, int]
    unfixed: frozenset[int] = frozenset()

    @functools.cached_property
    def sha256(self) -> str:
        """Of ``data``."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def custom_operators(self) -> frozenset[str]:
        """The codes of its custom operators, in any subgraph."""
        codes = (self.schema.OperatorCodes(i) for i in range(self.schema.OperatorCodesLength()))
        return frozenset(map(operator_kind, codes)) - set(_KINDS.values())

    def __repr__(self) -> str:
        return (
            f"TfliteModel({self.graph.name}: {len(self.data):,} bytes, "
            f"{len(self.graph.operators)} operators)"
        )


def read_tflite(source: Bytes | str | os.PathLike[str], *, name: str | None = None) -> TfliteModel:
    """Read and check a model.

    Where an input's leading dimension is open in the file (a batch size of -1 in
    ``shape_signature``), that dimension has the size of the file's ``shape`` in all tensors, which
    is what the runtime allocates. Where none is, an open dimension follows from the values that go
    in, and no cut lets such a tensor cross.

    Args:
        source: The model's bytes, or the path of a file, which is mapped and must not change.
        name: The graph's name; by default the file's stem, or ``model``.

    Raises:
        InvalidModelError: The bytes are no TFLite model, damaged, or a model whose inputs or
            outputs have open dimensions, strings or resources.
        OSError: The file cannot be read.
    """
    data: Bytes
    if isinstance(source, bytes | mmap.mmap):
        name, data = name or "model", source
    else:
        path = Path(source)
        name, data = name or path.stem, map_file(path)
    if len(data) < 8 or data[4:8] != FILE_IDENTIFIER:  # noqa: PLR2004 - root offset, identifier
        raise InvalidModelError(
            f"{name} is not a TFLite model: bytes 4 to 8 are {bytes(data[4:8])!r}, "
            f"expected {FILE_IDENTIFIER!r}."
        )
    with malformed_as_invalid(name):
        return _Reader(data, name).read()
    raise AssertionError  # pragma: no cover - the context either returns or raises


def map_file(path: Path) -> Bytes:
    """Return a file's bytes, mapped; it must not change.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # an empty file cannot be mapped
            return b""


@contextmanager
def malformed_as_invalid(name: str) -> Iterator[None]:
    """Turn what the accessors raise on damaged bytes into :class:`InvalidModelError`."""
    try:
        yield
    except _MALFORMED as error:
        raise InvalidModelError(
            f"{name} is damaged: its tables lead outside the file ({type(error).__name__}: "
            f"{' '.join(str(error).split())}). Copy or convert the model again."
        ) from error


def buffer_bytes(model: Any, index: int, data: Bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a view of a buffer's bytes, inside or (models over 2 GB) behind the FlatBuffer.

    Raises:
        InvalidModelError: The buffer does not exist or lies outside the file.
    """
    if not 0 <= index < model.BuffersLength():
        raise InvalidModelError(
            f"A tensor names buffer {index}; the model has {model.BuffersLength()} buffers."
        )
    buffer = model.Buffers(index)
    # Offsets 0 and 1 mean "none" (schema.fbs, table Buffer).
    offset, size = buffer.Offset(), buffer.Size()
    if offset > 1:
        return file_bytes(data, offset, size)
    view = buffer.DataAsNumpy()
    return np.empty(0, np.uint8) if isinstance(view, int) else view


def file_bytes(data: Bytes, offset: int, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a view of ``size`` bytes that lie at ``offset`` of the file.

    Raises:
        InvalidModelError: They lie outside the file.
    """
    if offset + size > len(data):
        raise InvalidModelError(
            f"A buffer lies at bytes {offset:,} to {offset + size:,}; "
            f"the file ends at {len(data):,}."
        )
    return np.frombuffer(data, np.uint8, count=size, offset=offset)


def call_fields(operator: Any) -> list[tuple[Any, str, tuple[int, ...]]]:
    """Return the fields by which an ``OperatorT`` calls subgraphs.

    Each is the options object, the field's name and the subgraphs it names: one, or in the case of
    a list field (``branchSubgraphIndices``) several. -1 stands for none and is left out.
    """
    found: list[tuple[Any, str, tuple[int, ...]]] = []
    for options in (operator.builtinOptions, operator.builtinOptions2):
        for field, value in vars(options).items() if options is not None else ():
            lowered = field.lower()
            if lowered == "subgraph" or (lowered.endswith("subgraphindex") and value >= 0):
                found.append((options, field, (int(value),)))
            elif lowered.endswith("subgraphindices") and value is not None:
                found.append((options, field, tuple(int(index) for index in value)))
    return found


def _calls(table: Any) -> tuple[int, ...]:
    operator = schema.OperatorT.InitFromObj(table)
    return tuple(index for _, _, called in call_fields(operator) for index in called)


@dataclass(frozen=True)
class _FileOperator:
    """An operator as it stands in the file."""

    index: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    calls: tuple[int, ...]


class _Reader:
    """One reading of one file; its methods are the steps, in order."""

    def __init__(self, data: Bytes, name: str) -> None:
        self.data = data
        self.name = name
        self.model = schema.Model.GetRootAs(data)
        self.counted = 0

    def read(self) -> TfliteModel:
        model = self.model
        if not self._count(model.SubgraphsLength(), "subgraphs"):
            raise self._invalid("it has no subgraph")
        self._count(model.BuffersLength(), "buffers")
        self._count(model.OperatorCodesLength(), "operator codes")
        self.kinds = [
            operator_kind(model.OperatorCodes(index))
            for index in range(model.OperatorCodesLength())
        ]
        self.main = model.Subgraphs(0)
        self._count(self.main.TensorsLength(), "tensors")
        self._count(self.main.OperatorsLength(), "operators")

        tensors = self._read_tensors()
        self._find_open(tensors)
        operators = self._read_operators(len(tensors))
        inputs = self._main_indexes(self.main.InputsAsNumpy(), len(tensors), "input")
        outputs = self._main_indexes(self.main.OutputsAsNumpy(), len(tensors), "output")
        if len(set(inputs)) != len(inputs):
            raise self._invalid("it names one tensor as two of its inputs")
        outputs = tuple(dict.fromkeys(outputs))
        if not outputs:
            raise self._invalid("it has no output")

        constant_makers, stateful = self._sort_operators(operators, inputs, outputs)
        self._check_order(operators, inputs, outputs, constant_makers)
        return self._assemble(
            tensors, operators, (inputs, outputs), makers=constant_makers, stateful=stateful
        )

    def _invalid(self, what: str) -> InvalidModelError:
        return InvalidModelError(f"{self.name} cannot be split: {what}.")

    def _count(self, length: int, what: str) -> int:
        """Refuse a table count that the file has no room for, before anything is built of it."""
        self.counted += length
        if self.counted * _MIN_TABLE_BYTES > len(self.data) + 64:
            raise self._invalid(
                f"it claims {length:,} {what}, more than {len(self.data):,} bytes can hold"
            )
        return length

    def _read_tensors(self) -> list[Tensor]:
        self.variables: set[int] = set()
        self.stored: dict[int, int] = {}  # constant tensor -> its buffer
        names: set[str] = set()
        tensors = []
        for index in range(self.main.TensorsLength()):
            table = self.main.Tensors(index)
            name = _unique_name(table.Name(), index, names)
            if table.ExternalBuffer():
                raise self._invalid(f"tensor {name!r} keeps its values in another file")
            dtype = _TYPE_NAMES.get(table.Type(), f"type {table.Type()}")
            shape = _dimensions(table.ShapeAsNumpy())
            if len(shape) > _MAX_RANK or min(shape, default=0) < 0:
                raise self._invalid(f"tensor {name!r} has the shape {list(shape)[:_MAX_RANK]}")
            size_bytes = _size_bytes(dtype, shape)
            stored_bytes = len(buffer_bytes(self.model, table.Buffer(), self.data))
            if table.IsVariable():
                self.variables.add(index)
            elif stored_bytes:
                self.stored[index] = table.Buffer()
                size_bytes = stored_bytes
            if size_bytes > _MAX_TENSOR_BYTES:
                raise self._invalid(f"tensor {name!r} has {size_bytes:,} bytes")
            quantized = _quantized(table) if dtype in _INTEGERS else None
            tensors.append(Tensor(index, name, dtype, shape, size_bytes, quantized=quantized))
        return tensors

    def _find_open(self, tensors: list[Tensor]) -> None:
        """Find the tensors whose shape the file leaves open, a batch apart."""
        tables = [self.main.Tensors(tensor.index) for tensor in tensors]
        signatures = [_dimensions(table.ShapeSignatureAsNumpy()) for table in tables]
        has_batch = any(
            signatures[index][:1] == (-1,)
            for index in self._main_indexes(self.main.InputsAsNumpy(), len(tensors), "input")
        )
        # Of no elements, as far as the file says.
        self.hollow = {tensor.index for tensor in tensors if 0 in tensor.shape}
        self.open = self.hollow | {
            index
            for index, signature in enumerate(signatures)
            if -1 in signature[1 if has_batch else 0 :]
        }
        # schema.fbs, table Tensor, has_rank. A writer from before that field gives it to none.
        has_rank = [table.HasRank() for table in tables]
        if any(has_rank):
            self.open.update(
                tensor.index
                for tensor, ranked in zip(tensors, has_rank, strict=True)
                if not (tensor.shape or ranked)
            )

    def _read_operators(self, tensor_count: int) -> list[_FileOperator]:
        operators = []
        room = len(self.data) // 4  # each index in the file takes four bytes
        for index in range(self.main.OperatorsLength()):
            table = self.main.Operators(index)
            if not 0 <= table.OpcodeIndex() < len(self.kinds):
                raise self._invalid(f"operator {index} names operator code {table.OpcodeIndex()}")
            inputs = _dimensions(table.InputsAsNumpy())
            outputs = _dimensions(table.OutputsAsNumpy())
            room -= len(inputs) + len(outputs)
            if room < 0:
                raise self._invalid("its operators name more tensors than the file can hold")
            for tensor in (*inputs, *outputs):
                if not -1 <= tensor < tensor_count:
                    raise self._invalid(f"operator {index} names tensor {tensor} of {tensor_count}")
            kind = self.kinds[table.OpcodeIndex()]
            calls = _calls(table) if kind in _CALLERS else ()
            operators.append(
                _FileOperator(
                    index,
                    kind,
                    tuple(tensor for tensor in inputs if tensor >= 0),
                    tuple(tensor for tensor in outputs if tensor >= 0),
                    calls,
                )
            )
        written = {tensor for op in operators for tensor in op.outputs}
        # An empty constant, such as the shape of a scalar, has no bytes to be told by.
        self.empty = {
            tensor
            for op in operators
            for tensor in op.inputs
            if tensor in self.hollow and tensor not in written
        } - set(_dimensions(self.main.InputsAsNumpy()))
        return operators

    def _main_indexes(self, indexes: Any, tensor_count: int, what: str) -> tuple[int, ...]:
        found = _dimensions(indexes)
        for tensor in found:
            if not 0 <= tensor < tensor_count:
                raise self._invalid(f"its {what}s name tensor {tensor} of {tensor_count}")
        return found

    def _sort_operators(
        self, operators: list[_FileOperator], inputs: tuple[int, ...], outputs: tuple[int, ...]
    ) -> tuple[dict[int, int], set[int]]:
        """Find the operators fed by constants alone, and those that share state."""
        known = (set(self.stored) | self.empty) - set(inputs)
        makers: dict[int, int] = {}
        stateful = set()
        for op in operators:
            if op.kind in _STATEFUL or any(self._is_stateful(call) for call in op.calls):
                stateful.add(op.index)
            elif (
                op.inputs
                and not op.calls
                and op.kind in _SETTLED_KINDS
                and known.issuperset(op.inputs)
                and not set(outputs).intersection(op.outputs)
            ):
                makers.update(dict.fromkeys(op.outputs, op.index))
                known.update(op.outputs)
        return makers, stateful

    def _is_stateful(self, subgraph: int) -> bool:
        waiting, seen = [subgraph], set()
        while waiting:
            index = waiting.pop()
            if index in seen:
                continue
            seen.add(index)
            if not 0 <= index < self.model.SubgraphsLength():
                raise self._invalid(f"an operator calls subgraph {index}, which it has not")
            table = self.model.Subgraphs(index)
            self._count(table.OperatorsLength(), "operators")
            for position in range(table.OperatorsLength()):
                op = table.Operators(position)
                kind = self.kinds[op.OpcodeIndex()]
                if kind in _STATEFUL:
                    return True
                if kind in _CALLERS:
                    waiting.extend(_calls(op))
        return False

    def _check_order(
        self,
        operators: list[_FileOperator],
        inputs: tuple[int, ...],
        outputs: tuple[int, ...],
        makers: dict[int, int],
    ) -> None:
        available = {*inputs, *self.stored, *self.empty, *self.variables}
        for op in operators:
            for tensor in op.inputs:
                if tensor not in available:
                    raise self._invalid(
                        f"operator {op.index} ({op.kind}) reads tensor {tensor}, which is neither "
                        "an input, a constant, nor made by an operator before it"
                    )
            for tensor in op.outputs:
                # What a state starts with may be a constant of another type, such as float16.
                is_first_state = tensor in self.variables and makers.get(tensor) == op.index
                if tensor in available and not is_first_state:
                    raise self._invalid(
                        f"operator {op.index} ({op.kind}) writes tensor {tensor}, which has a "
                        "value already"
                    )
                available.add(tensor)
        made = available - set(self.stored) - self.empty - self.variables
        for tensor in outputs:
            if tensor not in made:
                name = (self.main.Tensors(tensor).Name() or b"").decode(errors="replace")
                raise self._invalid(
                    f"its output {name!r} does not depend on what goes in: it is a constant or "
                    "never made. Leave that output out of the model"
                )

    def _assemble(
        self,
        tensors: list[Tensor],
        operators: list[_FileOperator],
        ends: tuple[tuple[int, ...], tuple[int, ...]],
        *,
        makers: dict[int, int],
        stateful: set[int],
    ) -> TfliteModel:
        inputs, outputs = ends
        constants = set(self.stored) | self.empty | set(makers)
        tensors = [
            replace(tensor, is_constant=True) if tensor.index in constants else tensor
            for tensor in tensors
        ]
        for index in (*inputs, *outputs):
            self._check_travels(tensors[index], is_output=index not in inputs)
        skipped = set(makers.values())
        live = _live_operators(
            [op for op in operators if op.index not in skipped], outputs, stateful
        )
        if not live:
            raise self._invalid("none of its operators contributes to an output")
        roots = _ConstantRoots(operators, self.stored, makers)
        graph_operators = tuple(
            self._operator(position, op, tensors, roots) for position, op in enumerate(live)
        )
        graph = Graph(self.name, tuple(tensors), graph_operators, inputs, outputs, cuts=())
        blocked = _blocked_by_state(live, stateful, self.variables)
        fixed = {t.index for t in tensors if t.dtype in ITEM_SIZE_BYTES} - self.open
        if not fixed.issuperset(t for op in graph_operators for t in op.outputs):
            blocked.update(
                position
                for position in range(1, len(live))
                if not fixed.issuperset(tensor.index for tensor in graph.boundary(position))
            )
        cuts = tuple(position for position in range(1, len(live)) if position not in blocked)
        kept = find_stateful(self.model, self.kinds, _calls)
        at = frozenset(position for position, op in enumerate(live) if op.index in kept)
        return TfliteModel(
            data=self.data,
            graph=replace(graph, cuts=cuts, stateful=at),
            schema=self.model,
            file_operators=tuple(op.index for op in live),
            constant_makers=makers,
            unfixed=frozenset(self.open - constants),
        )

    def _check_travels(self, tensor: Tensor, *, is_output: bool) -> None:
        if tensor.index in self.open and is_output:
            raise self._invalid(
                f"output {tensor.name!r} has no fixed shape ({list(tensor.shape)} in the file): it "
                "follows from the values that go in, or running it here does not tell; convert "
                "the model with outputs padded to a fixed size"
            )
        if tensor.index in self.open:
            raise self._invalid(
                f"tensor {tensor.name!r} has no fixed shape ({list(tensor.shape)} in the file); "
                "convert the model with fixed input shapes"
            )
        if tensor.dtype not in ITEM_SIZE_BYTES:
            raise self._invalid(f"tensor {tensor.name!r} is of {tensor.dtype}, which cannot travel")

    def _operator(
        self, position: int, op: _FileOperator, tensors: list[Tensor], roots: _ConstantRoots
    ) -> Operator:
        activations = dict.fromkeys(
            tensor
            for tensor in op.inputs
            if not tensors[tensor].is_constant and tensor not in self.variables
        )
        constants = roots.of(op)
        return Operator(
            index=position,
            kind=op.kind,
            inputs=tuple(activations),
            outputs=op.outputs,
            macs=self._macs(op, tensors),
            weight_bytes=sum(tensors[tensor].size_bytes for tensor in constants),
            constants=constants,
            layer=layer_label(tensors[op.outputs[0]].name) if op.outputs else op.kind,
        )

    def _macs(self, op: _FileOperator, tensors: list[Tensor]) -> int:
        """Count multiply-accumulates (Howard et al. 2017, "MobileNets", section 3.1).

        Weights lie as the reference kernels of TensorFlow Lite read them: convolutions
        ``[out, ..., in / groups]``, depthwise ``[1, height, width, out]``, fully connected
        ``[out, in]``, transposed convolutions ``[out, height, width, in]``, 3-D
        ``[depth, height, width, in, out]``.
        """
        shapes = [tensors[tensor].shape for tensor in op.inputs]
        if len(shapes) < 2 or not op.outputs:  # noqa: PLR2004 - all of them read two tensors
            return 0
        made = math.prod(tensors[op.outputs[0]].shape)
        weights = shapes[1]
        match op.kind:
            case "CONV_2D" | "FULLY_CONNECTED":
                macs = made * math.prod(weights[1:])
            case "DEPTHWISE_CONV_2D":
                macs = made * math.prod(weights[1:-1])
            case "CONV_3D":
                macs = made * math.prod(weights[:-1])
            case "TRANSPOSE_CONV" if len(shapes) > 2:  # noqa: PLR2004 - sizes, weights, input
                macs = math.prod(shapes[2]) * math.prod(weights[:-1])
            case "BATCH_MATMUL":
                macs = made * self._contracted(op, shapes[0])
            case _:
                macs = 0
        return macs

    def _contracted(self, op: _FileOperator, left: tuple[int, ...]) -> int:
        options = schema.OperatorT.InitFromObj(self.main.Operators(op.index)).builtinOptions
        return left[-2 if getattr(options, "adjX", False) else -1]


class _ConstantRoots:
    """Which stored constants an operator reads, also through operators fed by constants alone."""

    def __init__(
        self, operators: list[_FileOperator], stored: dict[int, int], makers: dict[int, int]
    ) -> None:
        self.operators = operators
        self.stored = stored
        self.makers = makers
        self.first_of_buffer: dict[int, int] = {}
        for tensor, buffer in stored.items():
            self.first_of_buffer.setdefault(buffer, tensor)

    def of(self, op: _FileOperator) -> tuple[int, ...]:
        found: dict[int, None] = {}
        waiting = list(reversed(op.inputs))
        seen: set[int] = set()
        while waiting:
            tensor = waiting.pop()
            if tensor in seen:
                continue
            seen.add(tensor)
            if tensor in self.stored:
                found[self.first_of_buffer[self.stored[tensor]]] = None
            elif tensor in self.makers:
                waiting.extend(self.operators[self.makers[tensor]].inputs)
        return tuple(found)


def _live_operators(
    operators: list[_FileOperator], outputs: tuple[int, ...], stateful: set[int]
) -> list[_FileOperator]:
    """Leave out the operators that neither an output nor a shared state depends on."""
    needed = set(outputs)
    live = []
    for op in reversed(operators):
        if op.index in stateful or needed.intersection(op.outputs):
            live.append(op)
            needed.update(op.inputs)
    return live[::-1]


def _blocked_by_state(
    operators: list[_FileOperator], stateful: set[int], variables: set[int]
) -> set[int]:
    """Return the cuts that would part operators that share a resource or a variable tensor."""
    users: dict[int, list[int]] = {}
    for position, op in enumerate(operators):
        shared = variables.intersection(op.inputs)
        for key in (*shared, *((-1,) if op.index in stateful else ())):
            users.setdefault(key, []).append(position)
    return {
        position
        for positions in users.values()
        for position in range(positions[0] + 1, positions[-1] + 1)
    }


def _quantized(table: Any) -> Quantized | None:
    """Return a tensor's scale and zero point, where it has one for all its values."""
    parameters = table.Quantization()
    if parameters is None or parameters.ScaleLength() != 1 or parameters.ZeroPointLength() > 1:
        return None
    scale = float(parameters.Scale(0))
    zero_point = int(parameters.ZeroPoint(0)) if parameters.ZeroPointLength() else 0
    return Quantized(scale, zero_point) if 0 < scale < math.inf else None


def operator_kind(code: Any) -> str:
    """Return the name of a builtin operator, or a custom one's own, of an ``OperatorCode``."""
    # Files from before 2020 have the deprecated field alone (schema.fbs, table OperatorCode).
    value = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
    if value == schema.BuiltinOperator.CUSTOM:
        custom_code: bytes = code.CustomCode() or b"CUSTOM"
        return custom_code.decode(errors="replace")
    return _KINDS.get(value, f"BUILTIN_{value}")


def _unique_name(raw: bytes | None, index: int, taken: set[str]) -> str:
    # The runtime reads names as C strings.
    base = (raw or b"").split(b"\0")[0].decode(errors="replace") or f"tensor_{index}"
    name, suffix = base, index
    while name in taken:
        name, suffix = f"{base}__{suffix}", suffix + 1
    taken.add(name)
    return name


def _dimensions(vector: Any) -> tuple[int, ...]:
    # The accessors return 0 for a vector that is not there.
    return () if isinstance(vector, int) else tuple(vector.tolist())


def _size_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    count = math.prod(shape)
    if dtype in ITEM_SIZE_BYTES:
        return count * ITEM_SIZE_BYTES[dtype]
    return (count * _ODD_ITEM_BITS.get(dtype, 0) + 7) // 8
