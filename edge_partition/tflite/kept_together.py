"""Find groups of operators that no cut may separate, and the reasons, as text for the user."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_core.contract.manifest import ITEM_SIZE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_partition.tflite.read_tflite import TfliteModel

#: Number of names that a reason lists; further names are only counted.
_NAMES = 3


@dataclass(frozen=True)
class KeptTogether:
    """A group of operators ``[start, stop)`` that are always in the same stage.

    Attributes:
        start: Position of the group's first operator.
        stop: Position after the group's last operator.
        reason: Why no cut may separate the operators, as a clause for a message.
    """

    start: int
    stop: int
    reason: str

    def __str__(self) -> str:
        return f"Operators {self.start}-{self.stop - 1} stay together: {self.reason}."


def find_kept_together(model: TfliteModel) -> tuple[KeptTogether, ...]:
    """Return the groups of two or more operators that no cut may separate, in execution order."""
    graph = model.graph
    ends = (0, *graph.cuts, len(graph.operators))
    return tuple(
        KeptTogether(start, stop, "; ".join(_reasons(model, start, stop)))
        for start, stop in itertools.pairwise(ends)
        if stop - start > 1
    )


def _reasons(model: TfliteModel, start: int, stop: int) -> Iterator[str]:
    graph, main = model.graph, model.schema.Subgraphs(0)
    readers: dict[int, list[int]] = {}
    for position in range(start, stop):
        operator = main.Operators(model.file_operators[position])
        for index in map(operator.Inputs, range(operator.InputsLength())):
            if index >= 0 and main.Tensors(index).IsVariable():
                readers.setdefault(index, []).append(position)
    shared = [graph.tensors[index].name for index, found in readers.items() if len(set(found)) > 1]
    if shared:
        yield f"they share the variable{'s' * (len(shared) > 1)} {_names(shared)}"
    crossing = {
        tensor.index: tensor
        for position in range(start + 1, stop)
        for tensor in graph.boundary(position)
    }.values()
    stuck = [tensor for tensor in crossing if tensor.dtype not in ITEM_SIZE_BYTES]
    if stuck:
        kinds = sorted({tensor.dtype for tensor in stuck})
        yield (
            f"the tensor{'s' * (len(stuck) > 1)} {_names([tensor.name for tensor in stuck])} "
            f"cannot be sent between boards (type {' and '.join(kinds)})"
        )
    loose = [tensor.name for tensor in crossing if tensor.index in model.unfixed]
    if loose:
        yield (
            f"the tensor{'s' * (len(loose) > 1)} {_names(loose)} "
            f"{'have' if len(loose) > 1 else 'has'} no fixed shape"
        )
    if not (shared or stuck or loose):
        yield "they use variables or hash tables, which stay on one board"


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + more
