"""Find the constants of a model: values in the file, and values computed only from constants.

``DEQUANTIZE`` and ``DENSIFY`` of weights are examples of operators that have only constant inputs.
Each stage that reads the result of such an operator contains a copy of the operator. If the result
were sent between boards instead, traffic would grow, and XNNPACK could not run the receiving stage.
The functions are pure.
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

#: Kinds of operators whose outputs depend only on their inputs. Custom operators are left out
#: because their outputs may depend on more.
_DETERMINED_KINDS = frozenset(BUILTIN_KINDS.values()) - RESOURCE_KINDS - {
    "CUSTOM", "DELEGATE", "RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL", "MULTINOMIAL",
    "STABLEHLO_RNG_BIT_GENERATOR", "STABLEHLO_CUSTOM_CALL",
}  # fmt: skip


@dataclass(frozen=True)
class Constants:
    """The constants of a model's main subgraph.

    Attributes:
        operators: All operators of the main subgraph, by index.
        buffers: Buffer number of each constant whose value is in the file, by tensor index.
        empty: Tensor indexes of the constants without elements, which have no bytes in the file.
        makers: For each constant that an operator computes, the operator's index, by the constant's
            tensor index.
    """

    operators: Sequence[FileOperator]
    buffers: Mapping[int, int]
    empty: frozenset[int]
    makers: Mapping[int, int]

    @property
    def stored(self) -> frozenset[int]:
        """Tensor indexes of the constants that no operator computes."""
        return self.empty | self.buffers.keys()

    @property
    def tensors(self) -> frozenset[int]:
        """Tensor indexes of all constants."""
        return self.stored | self.makers.keys()

    def read_by(self, op: FileOperator) -> tuple[int, ...]:
        """Return the tensor indexes of the constants in the file that an operator needs.

        The operator reads these constants, or reads constants that other operators compute from
        these constants. If several tensors share a buffer, only the first of these
        tensors in the file is returned.
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
        found: The tensors of the model's main subgraph.
        operators: The main subgraph's operators, in execution order.
        ends: Tensor indexes of the model's inputs, and tensor indexes of its outputs.
        resource_users: Indexes of the operators that use a variable or a hash table.
    """
    inputs, outputs = ends
    written = {tensor for op in operators for tensor in op.outputs}
    read = {tensor for op in operators for tensor in op.inputs}
    # An empty constant, such as the shape of a scalar, has no bytes in the file. It is recognized
    # as a tensor of size 0 that an operator reads and no operator writes.
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
