"""Read the operators of a model's main subgraph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ai_edge_litert import schema_py_generated as schema

from edge_partition.tflite.file_tables import called_subgraphs, cannot_split, numbers

if TYPE_CHECKING:
    from edge_partition.tflite.model_tables import ModelTables

#: Kinds of operators that call other subgraphs of the file.
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
        index: The operator's index in the main subgraph.
        kind: The builtin operator's name; for a custom operator, its custom code.
        inputs: Indexes of the tensors that the operator reads, without absent optional inputs.
        outputs: Indexes of the tensors that the operator writes.
        calls: Numbers of the subgraphs that the operator calls.
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
        InvalidModelError: An operator refers to an operator code or a tensor that does not exist,
            or the operators together list more tensor indexes than the file can hold.
    """
    main = tables.main
    tensor_count = main.TensorsLength()
    operators = []
    room = len(tables.data) // 4  # number of indexes that fit; each takes four bytes
    for index in range(main.OperatorsLength()):
        table = main.Operators(index)
        code = table.OpcodeIndex()
        if not 0 <= code < len(tables.kinds):
            raise cannot_split(
                tables.name,
                f"operator {index} has operator code {code}, but the file has only "
                f"{len(tables.kinds)} operator codes. Convert the model again",
            )
        inputs = numbers(table.InputsAsNumpy())
        outputs = numbers(table.OutputsAsNumpy())
        room -= len(inputs) + len(outputs)
        if room < 0:
            raise cannot_split(
                tables.name,
                "its operators list more tensor indexes than fit in the file. Convert the model "
                "again",
            )
        for tensor in (*inputs, *outputs):
            if not -1 <= tensor < tensor_count:
                raise cannot_split(
                    tables.name,
                    f"operator {index} uses tensor {tensor}, but the file has only "
                    f"{tensor_count} tensors. Convert the model again",
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
