"""Find the positions at which a model may be cut. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edge_partition.tflite.graph import Graph
    from edge_partition.tflite.read_operators import FileOperator

    _Indexes: TypeAlias = set[int] | frozenset[int]


def live_operators(
    operators: Sequence[FileOperator], outputs: Iterable[int], resource_users: _Indexes
) -> list[FileOperator]:
    """Return the operators that an output or a shared resource depends on, in execution order."""
    needed = set(outputs)
    live = []
    for op in reversed(operators):
        if op.index in resource_users or needed.intersection(op.outputs):
            live.append(op)
            needed.update(op.inputs)
    return live[::-1]


def find_cuts(
    graph: Graph,
    operators: Sequence[FileOperator],
    *,
    resource_users: _Indexes,
    variables: _Indexes,
    can_travel: _Indexes,
) -> tuple[int, ...]:
    """Return the cuts of a graph, ascending.

    Args:
        graph: The graph; its own ``cuts`` are not read.
        operators: The file's operators that correspond to ``graph.operators``, in the same order.
        resource_users: Indexes in the file of the operators that share a resource by name.
        variables: Indexes of the variable tensors.
        can_travel: Indexes of the tensors that can be sent: tensors of fixed shape whose dtype has
            a fixed item size.
    """
    positions = range(1, len(operators))
    blocked = _between_users(operators, resource_users, variables)
    if not can_travel.issuperset(t for op in graph.operators for t in op.outputs):
        blocked.update(
            position
            for position in positions
            if not can_travel.issuperset(tensor.index for tensor in graph.boundary(position))
        )
    return tuple(position for position in positions if position not in blocked)


def _between_users(
    operators: Sequence[FileOperator], resource_users: _Indexes, variables: _Indexes
) -> set[int]:
    """Return the positions between operators that share a resource or a variable."""
    users: dict[int, list[int]] = {}
    for position, op in enumerate(operators):
        shared = variables.intersection(op.inputs)
        # All resources count as one, under a key that is no tensor's.
        for key in (*shared, *((-1,) if op.index in resource_users else ())):
            users.setdefault(key, []).append(position)
    return {
        position
        for positions in users.values()
        for position in range(positions[0] + 1, positions[-1] + 1)
    }
