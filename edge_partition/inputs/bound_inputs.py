"""Find bounds on the values of a model's inputs, from the operators that use them.

For example, an id that selects a row of a table must be below the number of rows. The operator that
looks up the row gives the bounds of the ids. The bounds then propagate backward, from the outputs
of each operator to the operator's inputs, up to the model's inputs. Bounds do not propagate through
an operator that changes values in an unknown way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge_partition.inputs.operator_bounds import ANY, BoundOperator, Bounds, bounds_of_inputs
from edge_partition.tflite.file_tables import (
    buffer_bytes,
    call_fields,
    malformed_as_invalid,
    operator_kind,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_partition.tflite.read_tflite import TfliteModel

#: Largest number of operators to visit. The operators of a subgraph count again for each call.
_MOST_OPERATORS = 200_000
#: Largest depth of nested calls of subgraphs.
_MOST_DEPTH = 8


def bound_inputs(model: TfliteModel) -> dict[str, Bounds]:
    """Return the bounds on a model's input values, by input name.

    Inputs without known bounds are left out. Bounds from the size of a table take precedence. Other
    bounds are guesses: a number that the model compares with all numbers from 0 to ``n - 1`` is
    probably a length from 1 to ``n``, and a number that determines a tensor's size is probably
    small.

    Raises:
        InvalidModelError: The file is damaged in a part that ``read_tflite`` does not check.
    """
    with malformed_as_invalid(model.graph.name):
        certain, likely = (_Walk(model, is_lenient=lenient).input_bounds() for lenient in (0, 1))
    found: dict[str, Bounds] = {}
    for index in model.graph.inputs:
        for bounds in (certain[index], likely[index]):
            if bounds.is_known:
                found[model.graph.tensors[index].name] = bounds
                break
    return found


class _Walk:
    """A pass over a file's operators, from the last operator to the first.

    If ``is_lenient`` is not 0, the pass also guesses bounds of lengths and sizes.
    """

    def __init__(self, model: TfliteModel, *, is_lenient: int) -> None:
        self._model = model
        self._is_lenient = is_lenient
        self._left = _MOST_OPERATORS
        codes = model.schema
        self._kinds = [
            operator_kind(codes.OperatorCodes(index))
            for index in range(codes.OperatorCodesLength())
        ]

    def input_bounds(self) -> dict[int, Bounds]:
        """Return the bounds of the main subgraph's inputs, by tensor index."""
        main = self._model.schema.Subgraphs(0)
        names = [main.Inputs(place) for place in range(main.InputsLength())]
        return dict(zip(names, self._subgraph(0, [], 0), strict=True))

    def _subgraph(self, index: int, wanted: list[Bounds], depth: int) -> list[Bounds]:
        """Return the bounds of a subgraph's inputs, in order.

        Args:
            index: The subgraph's number.
            wanted: Bounds of the subgraph's outputs, in order. If the list is shorter than the
                list of outputs, the remaining outputs have no bounds.
            depth: Number of nested calls that lead to the subgraph.
        """
        graph = self._model.schema.Subgraphs(index)
        found: dict[int, Bounds] = {}

        def meet(tensor: int, bounds: Bounds) -> None:
            if tensor < 0 or bounds == ANY:
                return
            both = found.get(tensor, ANY).meet(bounds)
            # If no value satisfies both, one bound belongs to a branch that normal inputs do not
            # take. For example, some models add the table's size to ids below 0. The earlier
            # bound is kept, because it was found nearer to the table.
            if both.low <= both.high or tensor not in found:
                found[tensor] = both

        for place, bounds in enumerate(wanted[: graph.OutputsLength()]):
            meet(graph.Outputs(place), bounds)
        for position in reversed(range(graph.OperatorsLength())):
            self._left -= 1
            if self._left < 0:
                break
            op = self._read(graph, graph.Operators(position))
            made = [found.get(tensor, ANY) for tensor in op.outputs]
            for tensor, bounds in bounds_of_inputs(op, made, is_lenient=bool(self._is_lenient)):
                meet(tensor, bounds)
            if depth < _MOST_DEPTH:
                for tensor, bounds in self._called(op, made, depth):
                    meet(tensor, bounds)
        return [found.get(graph.Inputs(place), ANY) for place in range(graph.InputsLength())]

    def _called(
        self, op: BoundOperator, made: list[Bounds], depth: int
    ) -> Iterator[tuple[int, Bounds]]:
        """Yield the bounds that the subgraphs called by an operator give for the operator's inputs.

        Each result is a pair: an input's tensor index, and the bounds.
        """
        if op.kind not in {"IF", "WHILE", "CALL"}:
            return
        operator = schema.OperatorT.InitFromObj(op.table)
        given = op.inputs[1:] if op.kind == "IF" else op.inputs
        for _, field, called in call_fields(operator):
            # The initial values of a loop are inputs of its condition and of its body. If the body
            # never runs, they are also the results.
            is_condition = field.lower().startswith("cond")
            for index in called:
                inner = self._subgraph(index, [] if is_condition else made, depth + 1)
                yield from zip(given, inner, strict=False)
        if op.kind == "WHILE":
            yield from zip(given, made, strict=False)

    def _read(self, graph: Any, table: Any) -> BoundOperator:
        def shape(tensor: int) -> tuple[int, ...]:
            sizes = graph.Tensors(tensor).ShapeAsNumpy()
            return () if isinstance(sizes, int) else tuple(sizes.tolist())

        def values(tensor: int) -> np.ndarray[Any, Any] | None:
            if tensor < 0:
                return None
            found = graph.Tensors(tensor)
            data = buffer_bytes(self._model.schema, found.Buffer(), self._model.data)
            dtype = _DTYPES.get(found.Type())
            if not data.size or dtype is None or found.IsVariable():
                return None
            return np.frombuffer(data.tobytes(), dtype)

        def quantized(tensor: int) -> tuple[float, int] | None:
            found = graph.Tensors(tensor).Quantization()
            if found is None or found.ScaleLength() != 1:
                return None
            return float(found.Scale(0)), int(found.ZeroPoint(0)) if found.ZeroPointLength() else 0

        return BoundOperator(
            self._kinds[table.OpcodeIndex()],
            [table.Inputs(place) for place in range(table.InputsLength())],
            [table.Outputs(place) for place in range(table.OutputsLength())],
            *(table, shape, values, quantized),
        )


_DTYPES = {
    getattr(schema.TensorType, name): np.dtype(name.lower()).newbyteorder("<")
    for name in ("FLOAT32", "INT32", "INT64", "INT16", "INT8", "UINT8", "UINT32", "FLOAT16")
}
