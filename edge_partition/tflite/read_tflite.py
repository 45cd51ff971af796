"""Read a ``.tflite`` file into a :class:`~edge_partition.tflite.graph.Graph`.

The file may come from anyone. Every index and length is checked before its use, so invalid bytes
raise only :class:`~edge_partition.tflite.file_tables.InvalidModelError`. The steps, in order:
tensors, operators, resources, constants, data flow, graph, cuts, state.
"""

from __future__ import annotations

import functools
import hashlib
import mmap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_core.contract.manifest import ITEM_SIZE_BYTES
from edge_partition.tflite.check_order import check_order
from edge_partition.tflite.count_macs import count_macs
from edge_partition.tflite.file_tables import (
    BUILTIN_KINDS,
    FILE_IDENTIFIER,
    InvalidModelError,
    cannot_split,
    malformed_as_invalid,
    map_file,
    operator_kind,
)
from edge_partition.tflite.find_constants import find_constants
from edge_partition.tflite.find_cuts import find_cuts, live_operators
from edge_partition.tflite.find_resources import find_resource_users
from edge_partition.tflite.find_state import find_stateful
from edge_partition.tflite.graph import Graph, Operator, Tensor, layer_label
from edge_partition.tflite.model_tables import ModelTables
from edge_partition.tflite.read_operators import read_operators
from edge_partition.tflite.read_tensors import read_tensors

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from edge_partition.tflite.file_tables import Bytes
    from edge_partition.tflite.find_constants import Constants
    from edge_partition.tflite.read_operators import FileOperator
    from edge_partition.tflite.read_tensors import FileTensors


@dataclass(frozen=True)
class TfliteModel:
    """A ``.tflite`` file and its graph.

    Attributes:
        data: The file's bytes; a memory map if the model was read from a path.
        graph: The graph that is used for planning.
        schema: The root table (``schema_py_generated.Model``), a view of ``data``.
        file_operators: For each operator in ``graph.operators``, the operator's index in the file's
            main subgraph.
        constant_makers: For each constant that an operator computes, the operator's index in the
            file's main subgraph, by the constant's tensor index.
        unfixed: Indexes of the tensors whose shape is not known before the model runs.
    """

    data: Bytes
    graph: Graph
    schema: Any
    file_operators: tuple[int, ...]
    constant_makers: dict[int, int]
    unfixed: frozenset[int] = frozenset()

    @functools.cached_property
    def sha256(self) -> str:
        """SHA-256 of ``data``, in hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def custom_operators(self) -> frozenset[str]:
        """Custom codes (names) of the custom operators that the file lists."""
        codes = (self.schema.OperatorCodes(i) for i in range(self.schema.OperatorCodesLength()))
        return frozenset(map(operator_kind, codes)) - set(BUILTIN_KINDS.values())

    def __repr__(self) -> str:
        return (
            f"TfliteModel({self.graph.name}: {len(self.data):,} bytes, "
            f"{len(self.graph.operators)} operators)"
        )


def read_tflite(source: Bytes | str | os.PathLike[str], *, name: str | None = None) -> TfliteModel:
    """Read a model, check it, and build its graph.

    A dimension is open if its size is not fixed. A batch size is open if an input's
    ``shape_signature`` starts with -1. Each tensor then gets the batch size in the tensor's field
    ``shape``, because the runtime allocates this size. Any other open dimension depends on the
    input values. A tensor with such a dimension cannot be sent between boards, so no cut is allowed
    that the tensor would cross.

    Args:
        source: The model's bytes, or the path of a file. A file must not change while the model is
            in use, because the file is mapped into memory.
        name: The graph's name. By default, the name is the file's name without its suffix, or
            ``model`` for bytes.

    Raises:
        InvalidModelError: The bytes are not a TFLite model or are damaged. Or the model cannot be
            split, for example because an output has an open dimension.
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
            f"{name} is not a TFLite model: bytes 4 to 7 are {bytes(data[4:8])!r}, "
            f"expected {FILE_IDENTIFIER!r}. Give a .tflite file."
        )
    with malformed_as_invalid(name):
        return _read(ModelTables(data, name))
    raise AssertionError  # pragma: no cover - the context either returns or raises


def _read(tables: ModelTables) -> TfliteModel:
    found = read_tensors(tables)
    operators = read_operators(tables)
    inputs, outputs = tables.read_ends()
    resource_users = find_resource_users(tables, operators)
    constants = find_constants(found, operators, (inputs, outputs), resource_users)
    check_order(tables.name, found, constants, inputs, outputs)

    tensors = tuple(
        replace(tensor, is_constant=True) if tensor.index in constants.tensors else tensor
        for tensor in found.tensors
    )
    for index in (*inputs, *outputs):
        _check_travels(tables.name, tensors[index], found, is_output=index not in inputs)
    skipped = set(constants.makers.values())
    live = live_operators(
        [op for op in operators if op.index not in skipped], outputs, resource_users
    )
    if not live:
        raise cannot_split(
            tables.name,
            "none of its operators contributes to an output. Give a model whose outputs depend on "
            "operators",
        )

    graph = Graph(
        tables.name,
        tensors,
        tuple(
            _operator(position, op, tensors, found, constants) for position, op in enumerate(live)
        ),
        inputs,
        outputs,
        cuts=(),
        stateful=_positions(live, find_stateful(tables.root, tables.kinds)),
    )
    cuts = find_cuts(
        graph,
        live,
        resource_users=resource_users,
        variables=found.variables,
        can_travel={t.index for t in tensors if t.dtype in ITEM_SIZE_BYTES} - found.open,
    )
    return TfliteModel(
        data=tables.data,
        graph=replace(graph, cuts=cuts),
        schema=tables.root,
        file_operators=tuple(op.index for op in live),
        constant_makers=dict(constants.makers),
        unfixed=found.open - constants.tensors,
    )


def _positions(live: Sequence[FileOperator], indexes: frozenset[int]) -> frozenset[int]:
    """Convert indexes of operators in the file to positions in the graph.

    Args:
        live: The file's operators that are in the graph, in execution order.
        indexes: Indexes in the file. Indexes of operators that are not in the graph are ignored.
    """
    return frozenset(position for position, op in enumerate(live) if op.index in indexes)


def _check_travels(model_name: str, tensor: Tensor, found: FileTensors, *, is_output: bool) -> None:
    """Check that an input or output of the model can be sent between boards."""
    shape = list(tensor.shape)
    if tensor.index in found.open and is_output:
        raise cannot_split(
            model_name,
            f"output {tensor.name!r} has no fixed shape ({shape} in the file): the shape depends "
            "on the input values, or a trial run did not determine it. Convert the model "
            "with outputs padded to a fixed size",
        )
    if tensor.index in found.open:
        raise cannot_split(
            model_name,
            f"input {tensor.name!r} has no fixed shape ({shape} in the file). Convert the model "
            "with fixed input shapes",
        )
    if tensor.dtype not in ITEM_SIZE_BYTES:
        raise cannot_split(
            model_name,
            f"{'output' if is_output else 'input'} {tensor.name!r} is of type {tensor.dtype}, "
            "which cannot be sent between boards. Use a model with numeric inputs and outputs",
        )


def _operator(
    position: int,
    op: FileOperator,
    tensors: Sequence[Tensor],
    found: FileTensors,
    constants: Constants,
) -> Operator:
    activations = dict.fromkeys(
        tensor
        for tensor in op.inputs
        if not tensors[tensor].is_constant and tensor not in found.variables
    )
    read = constants.read_by(op)
    return Operator(
        index=position,
        kind=op.kind,
        inputs=tuple(activations),
        outputs=op.outputs,
        macs=count_macs(op, tensors),
        weight_bytes=sum(tensors[tensor].size_bytes for tensor in read),
        constants=read,
        layer=layer_label(tensors[op.outputs[0]].name) if op.outputs else op.kind,
    )
