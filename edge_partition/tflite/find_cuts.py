"""Find the positions between operators at which a model may be cut. The functions are pure."""

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
    """Return the operators that contribute to an output or use a resource, in execution order.

    The operators that compute inputs of these operators are included too.

    Args:
        operators: Operators of the main subgraph, in execution order.
        outputs: Tensor indexes of the model's outputs.
        resource_users: Indexes of the operators that use a variable or a hash table.
    """
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
    """Return the positions at which a graph may be cut, ascending.

    A cut at position ``p`` separates ``graph.operators[:p]`` from ``graph.operators[p:]``. A cut is
    allowed if it separates no operators that use a resource or the same variable, and if all
    tensors that cross the cut can be sent.

    Args:
        graph: The graph. Its attribute ``cuts`` is not used.
        operators: The file's operators that correspond to ``graph.operators``, in the same order.
        resource_users: Indexes, in the file, of the operators that use a resource.
        variables: Indexes of the variable tensors.
        can_travel: Indexes of the tensors that can be sent between boards: tensors with a fixed
            shape and a dtype of fixed size.
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
    """Return the positions at which a cut is not allowed.

    Such a cut would separate operators that use resources, or operators that use the same variable.
    """
    users: dict[int, list[int]] = {}
    for position, op in enumerate(operators):
        shared = variables.intersection(op.inputs)
        # All resources count as one resource; its key, -1, is not a tensor index.
        for key in (*shared, *((-1,) if op.index in resource_users else ())):
            users.setdefault(key, []).append(position)
    return {
        position
        for positions in users.values()
        for position in range(positions[0] + 1, positions[-1] + 1)
    }
