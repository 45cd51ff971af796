"""Find the constants of a model: stored values, and results of operators fed by constants alone.

``DEQUANTIZE`` and ``DENSIFY`` of weights are such operators. They belong to every stage that reads
their results (DESIGN, "How a model is split"). Everything here is pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from edge_partition.tflite.file_tables import BUILTIN_KINDS
from edge_partition.tflite.find_resources import RESOURCE_KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge_partition.tflite.read_operators import FileOperator
    from edge_partition.tflite.read_tensors import FileTensors

#: Operators whose inputs alone determine their outputs; a custom operator may not be one.
_DETERMINED_KINDS = frozenset(BUILTIN_KINDS.values()) - RESOURCE_KINDS - {
    "CUSTOM", "DELEGATE", "RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL", "MULTINOMIAL",
    "STABLEHLO_RNG_BIT_GENERATOR", "STABLEHLO_CUSTOM_CALL",
}  # fmt: skip


@dataclass(frozen=True)
class Constants:
    """The constants of a model.

    Attributes:
        operators: All operators of the main subgraph, by index.
        buffers: For each tensor with a value in the file, the number of its buffer.
        empty: Indexes of the constants without elements, which have no bytes in the file.
        makers: Index of the operator that makes each tensor, for operators fed by constants alone.
    """

    operators: Sequence[FileOperator]
    buffers: Mapping[int, int]
    empty: frozenset[int]
    makers: Mapping[int, int]

    @property
    def stored(self) -> frozenset[int]:
        """Indexes of the constants that no operator makes."""
        return self.empty | self.buffers.keys()

    @property
    def tensors(self) -> frozenset[int]:
        """Indexes of all constants."""
        return self.stored | self.makers.keys()

    def read_by(self, op: FileOperator) -> tuple[int, ...]:
        """Return the stored constants that an operator reads, directly or through ``makers``.

        For a shared buffer, the first tensor of the file with this buffer is returned.
        """
        found: dict[int, None] = {}
        waiting = list(reversed(op.inputs))
        seen: set[int] = set()
        while waiting:
            tensor = waiting.pop()
            if tensor in seen:
                continue
            seen.add(tensor)
            if tensor in self.buffers:
                found[self._first_of_buffer[self.buffers[tensor]]] = None
            elif tensor in self.makers:
                waiting.extend(self.operators[self.makers[tensor]].inputs)
        return tuple(found)

    @cached_property
    def _first_of_buffer(self) -> dict[int, int]:
        first: dict[int, int] = {}
        for tensor, buffer in self.buffers.items():
            first.setdefault(buffer, tensor)
        return first


def find_constants(
    found: FileTensors,
    operators: Sequence[FileOperator],
    ends: tuple[tuple[int, ...], tuple[int, ...]],
    resource_users: frozenset[int],
) -> Constants:
    """Return the constants of a model.

    Args:
        found: The model's tensors.
        operators: The main subgraph's operators, in execution order.
        ends: Indexes of the model's inputs and of its outputs.
        resource_users: Indexes of the operators that share a resource by name.
    """
    inputs, outputs = ends
    written = {tensor for op in operators for tensor in op.outputs}
    read = {tensor for op in operators for tensor in op.inputs}
    # An empty constant, such as the shape of a scalar, has no bytes to be recognized by.
    empty = frozenset(found.zero_size & read - written - set(inputs))

    known = (empty | found.buffers.keys()) - set(inputs)
    makers: dict[int, int] = {}
    for op in operators:
        if (
            op.inputs
            and not op.calls
            and op.index not in resource_users
            and op.kind in _DETERMINED_KINDS
            and known.issuperset(op.inputs)
            and not set(outputs).intersection(op.outputs)
        ):
            makers.update(dict.fromkeys(op.outputs, op.index))
            known |= set(op.outputs)
    return Constants(operators, found.buffers, empty, makers)
