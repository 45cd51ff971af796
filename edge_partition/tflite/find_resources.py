"""Find the operators that use resources: variables and hash tables.

A resource exists in the memory of one process and cannot be sent to another board. Therefore all
operators that use resources stay on one board. :mod:`~edge_partition.tflite.find_state` determines
which variables keep their values from one inference to the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_partition.tflite.file_tables import called_subgraphs, cannot_split
from edge_partition.tflite.read_operators import CALLERS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge_partition.tflite.model_tables import ModelTables
    from edge_partition.tflite.read_operators import FileOperator

#: Kinds of operators that create, initialize, read or write a resource.
RESOURCE_KINDS = frozenset(
    {
        "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE",
        "HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT", "HASHTABLE_SIZE",
    }
)  # fmt: skip


def find_resource_users(tables: ModelTables, operators: Iterable[FileOperator]) -> frozenset[int]:
    """Return the indexes of the operators that use a resource, or that call a subgraph that does.

    Raises:
        InvalidModelError: An operator calls a subgraph that does not exist.
    """
    return frozenset(
        op.index
        for op in operators
        if op.kind in RESOURCE_KINDS or any(_uses_resource(tables, call) for call in op.calls)
    )


def _uses_resource(tables: ModelTables, subgraph: int) -> bool:
    """Return whether a subgraph uses a resource, directly or in a subgraph that it calls."""
    waiting, seen = [subgraph], set()
    while waiting:
        index = waiting.pop()
        if index in seen:
            continue
        seen.add(index)
        count = tables.root.SubgraphsLength()
        if not 0 <= index < count:
            raise cannot_split(
                tables.name,
                f"an operator calls subgraph {index}, but the file has only {count} subgraphs. "
                "Convert the model again",
            )
        table = tables.root.Subgraphs(index)
        tables.count(table.OperatorsLength(), "operators")
        for position in range(table.OperatorsLength()):
            op = table.Operators(position)
            kind = tables.kinds[op.OpcodeIndex()]
            if kind in RESOURCE_KINDS:
                return True
            if kind in CALLERS:
                waiting.extend(called_subgraphs(op))
    return False
