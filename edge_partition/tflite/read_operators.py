"""Read the operators of a model's main subgraph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ai_edge_litert import schema_py_generated as schema

from edge_partition.tflite.file_tables import called_subgraphs, cannot_split, numbers

if TYPE_CHECKING:
    from edge_partition.tflite.model_tables import ModelTables

#: Operators that run other subgraphs of the file.
CALLERS = frozenset(
    {
        "IF", "WHILE", "CALL", "CALL_ONCE", "STABLEHLO_WHILE", "STABLEHLO_CASE",
        "STABLEHLO_COMPOSITE", "STABLEHLO_REDUCE", "STABLEHLO_REDUCE_WINDOW", "STABLEHLO_SCATTER",
        "STABLEHLO_SORT",
    }
)  # fmt: skip


@dataclass(frozen=True)
class FileOperator:
    """An operator of the file's main subgraph.

    Attributes:
        index: Its index in the main subgraph.
        kind: The builtin operator's name; for a custom operator, its custom code.
        inputs: Indexes of the tensors it reads; absent optional inputs are left out.
        outputs: Indexes of the tensors it writes.
        calls: Numbers of the subgraphs it calls.
        is_transposed: Whether a ``BATCH_MATMUL`` transposes its left input (``adj_x``).
    """

    index: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    calls: tuple[int, ...] = ()
    is_transposed: bool = False


def read_operators(tables: ModelTables) -> tuple[FileOperator, ...]:
    """Read and check the operators of the main subgraph.

    Raises:
        InvalidModelError: An operator names an operator code or a tensor that does not exist.
    """
    main = tables.main
    tensor_count = main.TensorsLength()
    operators = []
    room = len(tables.data) // 4  # each index in the file takes four bytes
    for index in range(main.OperatorsLength()):
        table = main.Operators(index)
        code = table.OpcodeIndex()
        if not 0 <= code < len(tables.kinds):
            raise cannot_split(
                tables.name,
                f"operator {index} names operator code {code}; the file has {len(tables.kinds)}",
            )
        inputs = numbers(table.InputsAsNumpy())
        outputs = numbers(table.OutputsAsNumpy())
        room -= len(inputs) + len(outputs)
        if room < 0:
            raise cannot_split(
                tables.name, "its operators name more tensors than the file can hold"
            )
        for tensor in (*inputs, *outputs):
            if not -1 <= tensor < tensor_count:
                raise cannot_split(
                    tables.name,
                    f"operator {index} names tensor {tensor}; the file has {tensor_count} tensors",
                )
        kind = tables.kinds[code]
        operators.append(
            FileOperator(
                index,
                kind,
                tuple(tensor for tensor in inputs if tensor >= 0),
                tuple(tensor for tensor in outputs if tensor >= 0),
                called_subgraphs(table) if kind in CALLERS else (),
                is_transposed=kind == "BATCH_MATMUL" and _transposes_left(table),
            )
        )
    return tuple(operators)


def _transposes_left(table: Any) -> bool:
    options = schema.OperatorT.InitFromObj(table).builtinOptions
    return bool(getattr(options, "adjX", False))
