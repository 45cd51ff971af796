"""Read the main tables of a ``.tflite`` file, and check that the numbers of tables are possible.

A damaged file may list more tables than fit in the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ai_edge_litert import schema_py_generated as schema

from edge_partition.tflite.file_tables import cannot_split, numbers, operator_kind

if TYPE_CHECKING:
    from edge_partition.tflite.file_tables import Bytes

#: Smallest possible size of a table in the file.
_MIN_TABLE_BYTES = 12


class ModelTables:
    """The root table and the main subgraph of a ``.tflite`` file.

    Attributes:
        data: The file's bytes.
        name: The model's name, for errors.
        root: The root table (``schema_py_generated.Model``).
        main: The main subgraph's table (``schema_py_generated.SubGraph``).
        kinds: The operator name of each operator code, by the code's number.

    Raises:
        InvalidModelError: The file has no subgraph, or lists more tables than it can hold.
    """

    def __init__(self, data: Bytes, name: str) -> None:
        self.data = data
        self.name = name
        self.root: Any = schema.Model.GetRootAs(data)
        self._counted = 0
        if not self.count(self.root.SubgraphsLength(), "subgraphs"):
            raise cannot_split(name, "the file has no subgraph. Convert the model again")
        self.count(self.root.BuffersLength(), "buffers")
        self.count(self.root.OperatorCodesLength(), "operator codes")
        self.kinds = tuple(
            operator_kind(self.root.OperatorCodes(index))
            for index in range(self.root.OperatorCodesLength())
        )
        self.main: Any = self.root.Subgraphs(0)
        self.count(self.main.TensorsLength(), "tensors")
        self.count(self.main.OperatorsLength(), "operators")

    def count(self, length: int, what: str) -> int:
        """Check that the file can hold ``length`` more tables, and return ``length``.

        A damaged file may state a huge number of tables. The check prevents long loops over such
        tables.

        Args:
            length: The number of tables, according to the file.
            what: What the tables are, in the plural, for the error.

        Raises:
            InvalidModelError: The tables of all calls together do not fit in the file.
        """
        self._counted += length
        if self._counted * _MIN_TABLE_BYTES > len(self.data) + 64:
            raise cannot_split(
                self.name,
                f"the file lists {length:,} {what}, more than fit in its {len(self.data):,} bytes. "
                "Copy or convert the model again",
            )
        return length

    def read_ends(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the tensor indexes of the main subgraph's inputs and outputs.

        Returns:
            The inputs' indexes and the outputs' indexes, each in file order. An output that the
            file lists twice is returned once.

        Raises:
            InvalidModelError: No tensor has one of the indexes, an input is listed twice, or the
                model has no output.
        """
        inputs = self.read_inputs()
        outputs = self._tensor_indexes(self.main.OutputsAsNumpy(), "output")
        if len(set(inputs)) != len(inputs):
            raise cannot_split(
                self.name,
                "two inputs of the model are the same tensor. Convert the model again with one "
                "tensor for each input",
            )
        if not outputs:
            raise cannot_split(
                self.name, "the model has no output. Convert the model again with an output"
            )
        return inputs, tuple(dict.fromkeys(outputs))

    def read_inputs(self) -> tuple[int, ...]:
        """Return the tensor indexes of the main subgraph's inputs.

        Raises:
            InvalidModelError: No tensor has one of the indexes.
        """
        return self._tensor_indexes(self.main.InputsAsNumpy(), "input")

    def _tensor_indexes(self, vector: Any, what: str) -> tuple[int, ...]:
        found = numbers(vector)
        count = self.main.TensorsLength()
        for index in found:
            if not 0 <= index < count:
                raise cannot_split(
                    self.name,
                    f"its {what}s include tensor {index}, but the file has only {count} tensors. "
                    "Convert the model again",
                )
        return found
