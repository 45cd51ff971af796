"""Copy a range of operators of a ``.tflite`` file into a new ``.tflite`` file.

Nothing is converted again: operators, options, quantization and weights are copied from the
original file. Therefore the outputs of slices that run one after another are bit-identical to the
outputs of the whole model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge_core.errors import EdgePartitionError
from edge_partition.tflite.copy_tables import TableCopier
from edge_partition.tflite.file_tables import malformed_as_invalid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge_partition.tflite.graph import Tensor
    from edge_partition.tflite.read_tflite import TfliteModel


class SliceError(EdgePartitionError):
    """A range of operators cannot become a separate model; the message gives the reason."""


def stage_inputs(model: TfliteModel, start: int, stop: int) -> tuple[Tensor, ...]:
    """Return the tensors that the operators ``[start, stop)`` read from outside this range.

    The order is that of ``Graph.boundary(start)``. Constants are left out.
    """
    graph = model.graph
    read = {index for op in graph.operators[start:stop] for index in op.inputs}
    return tuple(tensor for tensor in graph.boundary(start) if tensor.index in read)


def stage_outputs(model: TfliteModel, start: int, stop: int) -> tuple[Tensor, ...]:
    """Return the tensors that operators ``[start, stop)`` compute for later stages or the client.

    The order is that of ``Graph.boundary(stop)``.
    """
    graph = model.graph
    made = {index for op in graph.operators[start:stop] for index in op.outputs}
    return tuple(tensor for tensor in graph.boundary(stop) if tensor.index in made)


def slice_model(model: TfliteModel, start: int, stop: int) -> bytes:
    """Return the operators ``[start, stop)`` as a ``.tflite`` file of their own.

    The slice's inputs are :func:`stage_inputs`, and its outputs are :func:`stage_outputs`. All
    tensors have the names that they have in ``model.graph``. A tensor that the stage only forwards
    is neither an input nor an output of the slice.

    The slice also contains the operators that compute constants for the range, and the control-flow
    subgraphs that its operators call. Unused tensors, buffers and operator codes are left out. Two
    slices of the same range are byte-identical.

    Raises:
        IndexError: ``[start, stop)`` is not a range of at least one operator.
        SliceError: ``start`` or ``stop`` is neither a cut nor an end of the model.
        FileTooLargeError: The slice would be over 2 GB.
        InvalidModelError: The file is damaged in a part that ``read_tflite`` does not check.
    """
    graph = model.graph
    n = len(graph.operators)
    if not 0 <= start < stop <= n:
        raise IndexError(
            f"[{start}, {stop}) is not a range of operators; {graph.name} has {n} operators"
        )
    for position in (start, stop):
        if position not in {0, n} and position not in graph.cuts:
            raise SliceError(
                f"{graph.name} cannot be cut before operator {position}: operators on both sides "
                "use the same variables, or a tensor that cannot be sent crosses the cut. Choose "
                "another position."
            )
    with malformed_as_invalid(graph.name):
        slicer = _Slicer(model)
        slicer.add_main(start, stop)
        return slicer.to_bytes(f"A slice of {graph.name}")


def tap_model(model: TfliteModel, tensors: Iterable[int]) -> bytes:
    """Return the whole model as a ``.tflite`` file that has activations as additional outputs.

    The additional outputs follow the model's outputs.

    Args:
        model: The model.
        tensors: Tensor indexes of the activations.

    Raises:
        FileTooLargeError: The new file would be over 2 GB.
        InvalidModelError: The file is damaged in a part that ``read_tflite`` does not check.
    """
    with malformed_as_invalid(model.graph.name):
        slicer = _Slicer(model)
        slicer.add_main(0, len(model.graph.operators), tuple(tensors))
        return slicer.to_bytes(model.graph.name)


class _Slicer(TableCopier):
    """Collects the tables of a slice."""

    def __init__(self, model: TfliteModel) -> None:
        super().__init__(model.schema, model.data)
        self.model = model

    def add_main(self, start: int, stop: int, taps: tuple[int, ...] = ()) -> None:
        """Add the operators ``[start, stop)`` as subgraph 0, and add the subgraphs that they call.

        The tensors with the indexes ``taps`` become additional outputs.
        """
        table = self.source.Subgraphs(0)
        main = schema.SubGraphT()
        main.name = table.Name()
        self.subgraphs.append(main)

        operators = self._main_operators(start, stop)
        made = stage_outputs(self.model, start, stop)
        tapped = (self.model.graph.tensors[index] for index in taps)
        ends = (
            stage_inputs(self.model, start, stop),
            (*made, *(tensor for tensor in tapped if tensor not in made)),
        )
        used = {tensor.index for end in ends for tensor in end}
        for op in operators:
            for indexes in (op.inputs, op.outputs, op.intermediates):
                used.update(index for index in _indexes(indexes) if index >= 0)
        new_tensor = {old: new for new, old in enumerate(sorted(used))}
        new_tensor[-1] = -1

        main.inputs, main.outputs = (
            _renumbered((tensor.index for tensor in end), new_tensor) for end in ends
        )
        main.tensors = []
        for index in sorted(used):
            tensor = schema.TensorT.InitFromObj(table.Tensors(index))
            tensor.name = self.model.graph.tensors[index].name
            main.tensors.append(self.adapt_tensor(tensor))
        for op in operators:
            op.inputs = _renumbered(_indexes(op.inputs), new_tensor)
            op.outputs = _renumbered(_indexes(op.outputs), new_tensor)
            if op.intermediates is not None:
                op.intermediates = _renumbered(_indexes(op.intermediates), new_tensor)
        main.operators = [self.adapt_operator(op) for op in operators]

    def _main_operators(self, start: int, stop: int) -> list[Any]:
        """Return the operators ``[start, stop)``, in file order.

        The operators that compute constants for this range are included.
        """
        table = self.source.Subgraphs(0)
        found: dict[int, Any] = {}
        waiting = list(self.model.file_operators[start:stop])
        while waiting:
            index = waiting.pop()
            if index in found:
                continue
            op = found[index] = schema.OperatorT.InitFromObj(table.Operators(index))
            makers = self.model.constant_makers
            waiting.extend(makers[tensor] for tensor in _indexes(op.inputs) if tensor in makers)
        return [found[index] for index in sorted(found)]


def _indexes(vector: Any) -> list[int]:
    return [] if vector is None else [int(index) for index in vector]


def _renumbered(indexes: Iterable[int], new: dict[int, int]) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.array([new[index] for index in indexes], np.int32)
