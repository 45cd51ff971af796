"""The graph that the planner uses: operators in execution order, tensors, and boundaries.

A *position* ``p`` is the place before ``operators[p]``. A *cut* at ``p`` separates
``operators[:p]`` from ``operators[p:]``; the tensors that cross the cut are its *boundary*. A
*stage* is a half-open range ``[start, stop)`` of operators. All functions are pure;
:mod:`edge_partition.tflite.read_tflite` builds a :class:`Graph` from a file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from edge_partition.tflite.find_layers import LayerNames

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_core.contract.manifest import Quantized

Wire: TypeAlias = Literal["float32", "float16"]

#: Parts of a path that a Keras layer adds after its own name.
_INNER_SCOPES = frozenset({"batchnorm", "moments"})
#: The last part of a path if it names the main computation of a fused operator. The converter
#: appends a number to repeated names.
_COMPUTE_LEAF = re.compile(r"(convolution|depthwise|MatMul|Tensordot|conv_transpose)[_\d]*")


@dataclass(frozen=True)
class Tensor:
    """A tensor of the model.

    Attributes:
        index: The tensor's index in ``Graph.tensors`` and in the file.
        name: A name that is unique within the graph and not empty.
        dtype: numpy's name for the element type; TFLite's name in lower case for a type that numpy
            lacks (``string``, ``resource``, ``int4``).
        shape: Fixed dimensions.
        size_bytes: The tensor's size in memory, in bytes. For a tensor whose value is in the file,
            the size in the file.
        is_constant: Whether the value is known before the first inference: a weight, or the result
            of an operator that has only constant inputs.
        quantized: Scale and zero point of an integer tensor; None if the tensor has no
            valid scale, or a scale for each channel.
    """

    index: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int
    is_constant: bool = False
    quantized: Quantized | None = None


@dataclass(frozen=True)
class Operator:
    """An operator of the model.

    Attributes:
        index: The operator's position in ``Graph.operators``.
        kind: The builtin operator's name such as ``CONV_2D``; for a custom operator, its custom
            code.
        inputs: Indexes of the activations that the operator reads, each once; constants and
            variables are left out.
        outputs: Indexes of the tensors that the operator writes.
        macs: Multiply-accumulates of one inference; 0 for operators other than convolutions and
            matrix products.
        weight_bytes: Size of ``constants`` in the file, in bytes.
        constants: Indexes of the constants in the file that the operator needs. The operator reads
            these constants, or reads values that are computed from these constants. If several
            tensors share a buffer, only the first of these tensors in the file is listed.
        layer: A short label, made from the name of the operator's first output. If this name
            contains the name of a Keras layer, the label is the layer's name.
    """

    index: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    macs: int = 0
    weight_bytes: int = 0
    constants: tuple[int, ...] = ()
    layer: str = ""


class _Span(NamedTuple):
    """The lifetime of an activation.

    The activation crosses a cut at position ``p`` exactly if ``producer < p <= last_use``.

    Attributes:
        tensor: The activation.
        producer: Position of the operator that writes the activation; -1 for an input of the model.
        uses: Positions of the operators that read the activation, ascending.
        last_use: Position of the last operator that reads the activation; ``len(operators)`` for an
            output of the model, ``producer`` for an activation that no operator reads.
    """

    tensor: Tensor
    producer: int
    uses: tuple[int, ...]
    last_use: int


@dataclass(frozen=True)
class Graph:
    """A model's operators in execution order, with methods for the sizes of stages and boundaries.

    Operators that have only constant inputs, such as ``DEQUANTIZE`` of weights, are left out. Every
    stage that reads the result of such an operator contains a copy of the operator.

    A possible stage is a range ``[start, stop)`` of the ``n`` operators. After the first call,
    :meth:`macs` and :meth:`boundary_bytes` take constant time. :meth:`weight_bytes` takes
    O(stop - start), and :meth:`peak_activation_bytes` takes O(n). :meth:`weight_table` and
    :meth:`peak_activation_table` take O(n^2) for the table of all ranges, which has
    ``8 * (n + 1)**2`` bytes.

    Attributes:
        name: The model's name, for messages.
        tensors: All tensors; ``tensors[i].index == i``.
        operators: All operators, in execution order.
        inputs: Indexes of the model's inputs, in file order.
        outputs: Indexes of the model's outputs, in file order.
        cuts: Positions from 1 to ``n - 1`` at which the model may be cut, ascending. A cut must not
            separate operators that use the same variable, or operators that use resources. Only
            tensors that can be sent may cross: not resources, strings, packed elements or tensors
            of open shape.
        stateful: Positions of the operators that keep state from one inference to the next.
    """

    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    cuts: tuple[int, ...]
    stateful: frozenset[int] = frozenset()

    def keeps_state(self, start: int, stop: int) -> bool:
        """Return whether the stage ``[start, stop)`` keeps state from one inference to the next."""
        return any(start <= position < stop for position in self.stateful)

    def boundary(self, position: int) -> tuple[Tensor, ...]:
        """Return the tensors that cross the cut before ``operators[position]``.

        These are all tensors from before the cut that a later stage or the client still needs,
        including inputs of the model and finished outputs of the model. ``boundary(0)`` gives the
        model's inputs, and ``boundary(n)`` gives the model's outputs, both in file order. Other
        boundaries give the model's inputs first, then the operators' outputs in execution order.

        Args:
            position: A number from 0 to ``n``, the number of operators.

        Raises:
            IndexError: ``position`` is below 0 or above ``n``.
        """
        self._check_range(position, position)
        if position == 0:
            return tuple(self.tensors[index] for index in self.inputs)
        if position == len(self.operators):
            return tuple(self.tensors[index] for index in self.outputs)
        return tuple(
            span.tensor for span in self._spans if span.producer < position <= span.last_use
        )

    def wire_dtype(self, tensor: Tensor, wire: Wire = "float32") -> str:
        """Return the dtype with which ``tensor`` is sent between boards.

        Args:
            tensor: A tensor of the graph.
            wire: The dtype for float32 tensors. The model's inputs and outputs are sent in their
                own dtype.
        """
        is_end = tensor.index in self.inputs or tensor.index in self.outputs
        return wire if tensor.dtype == "float32" and not is_end else tensor.dtype

    def boundary_bytes(self, position: int, wire: Wire = "float32") -> int:
        """Return the size of ``boundary(position)`` as sent between boards, in bytes.

        ``wire`` is the dtype for float32 tensors, as in :meth:`wire_dtype`.
        """
        self._check_range(position, position)
        return int(self._boundary_bytes[wire][position])

    def weight_bytes(self, start: int, stop: int) -> int:
        """Return the size in the file of the constants that a stage reads, in bytes.

        A constant that several operators read counts once.
        """
        self._check_range(start, stop)
        distinct = {index for op in self.operators[start:stop] for index in op.constants}
        return sum(self.tensors[index].size_bytes for index in distinct)

    def macs(self, start: int, stop: int) -> int:
        """Return the number of multiply-accumulates in one inference of a stage."""
        self._check_range(start, stop)
        return self._macs_before[stop] - self._macs_before[start]

    def peak_activation_bytes(self, start: int, stop: int) -> int:
        """Return a lower bound on the memory for a stage's activations, in bytes.

        The runtime keeps activations in a memory area called the arena. While an operator runs, the
        arena holds these tensors:

        - the inputs that the stage reads, which stay for the whole inference
        - earlier results of the stage that an operator or a later stage still needs
        - the operator's outputs

        A tensor that the stage only forwards is never in the arena. The lifetimes are those of
        TensorFlow Lite's ``arena_planner.cc``. The real arena is larger because of packing, scratch
        memory and alignment.
        """
        self._check_range(start, stop)
        change = [0] * (stop - start + 1)
        for span in self._spans:
            read = any(start <= use < stop for use in span.uses)
            if span.producer < start:
                born, dead = (start, stop) if read else (start, start)
            elif span.producer < stop:
                born, dead = span.producer, min(span.last_use + 1, stop)
            else:
                continue
            change[born - start] += span.tensor.size_bytes
            change[dead - start] -= span.tensor.size_bytes
        live = peak = 0
        for step in change[:-1]:
            live += step
            peak = max(peak, live)
        return peak

    def weight_table(self) -> NDArray[np.int64]:
        """Return :meth:`weight_bytes` of every range.

        Returns:
            int64, shape ``(n + 1, n + 1)``. Entry ``[start, stop]`` is the value for the range
            ``[start, stop)``, in bytes; 0 if ``start >= stop``.
        """
        previous: dict[int, int] = {}
        n = len(self.operators)
        change = np.zeros((n + 2, n + 2), np.int64)
        for op in self.operators:
            for index in op.constants:
                _add_first_uses(
                    change, previous.get(index, -1), op.index, self.tensors[index].size_bytes
                )
                previous[index] = op.index
        return _ranges(change)

    def peak_activation_table(self) -> NDArray[np.int64]:
        """Return :meth:`peak_activation_bytes` of every range.

        Returns:
            int64, shape ``(n + 1, n + 1)``. Entry ``[start, stop]`` is the value for the range
            ``[start, stop)``, in bytes; 0 if ``start >= stop``.
        """
        n = len(self.operators)
        inputs = np.zeros((n + 2, n + 2), np.int64)
        made = np.zeros((n + 2, n + 2), np.int64)
        for span in self._spans:
            size_bytes = span.tensor.size_bytes
            previous = span.producer
            for use in span.uses:
                # The tensor is an input of each stage that starts after the producer and contains
                # this use.
                _add_first_uses(inputs, previous, use, size_bytes)
                previous = use
            if span.producer >= 0:
                # In each stage that contains the producer, the tensor is alive from the producer to
                # its last use.
                last = min(span.last_use, n - 1)
                made[0, span.producer + 1] += size_bytes
                made[0, last + 2] -= size_bytes
                made[span.producer + 1, span.producer + 1] -= size_bytes
                made[span.producer + 1, last + 2] += size_bytes
        live = _ranges(made)
        table = np.maximum.accumulate(live, axis=1) + _ranges(inputs)
        return np.triu(table, 1)

    def position_after(self, layer_name: str) -> int:
        """Return the position after the last operator of a layer.

        Args:
            layer_name: A Keras layer's name, an operator's ``layer``, or a tensor's exact name. For
                a layer in a nested model, the layer's path, such as ``inner/dense``. The end of a
                layer's path is also allowed if no other layer's path has the same end.

        Raises:
            UnknownLayerError: No layer or tensor has this name.
            AmbiguousLayerError: Several layers match this name.
        """
        return self.layer_names.last_operator(layer_name) + 1

    @cached_property
    def layer_names(self) -> LayerNames:
        """The names that :meth:`position_after` accepts."""
        return LayerNames(self)

    def _check_range(self, start: int, stop: int) -> None:
        n = len(self.operators)
        if not 0 <= start <= stop <= n:
            raise IndexError(
                f"[{start}, {stop}) is not a range of operators; {self.name} has {n} operators"
            )

    @cached_property
    def _spans(self) -> tuple[_Span, ...]:
        n = len(self.operators)
        uses: dict[int, list[int]] = {}
        for op in self.operators:
            for index in op.inputs:
                uses.setdefault(index, []).append(op.index)
        producers = [(index, -1) for index in self.inputs]
        producers += [(index, op.index) for op in self.operators for index in op.outputs]
        outputs = set(self.outputs)
        spans = []
        for index, producer in producers:
            read_at = tuple(uses.get(index, ()))
            last_use = n if index in outputs else (read_at[-1] if read_at else producer)
            spans.append(_Span(self.tensors[index], producer, read_at, last_use))
        return tuple(spans)

    @cached_property
    def _boundary_bytes(self) -> dict[Wire, NDArray[np.int64]]:
        return {wire: self._crossing_bytes(wire) for wire in get_args(Wire)}

    def _crossing_bytes(self, wire: Wire) -> NDArray[np.int64]:
        n = len(self.operators)
        change = np.zeros(n + 2, np.int64)
        for span in self._spans:
            size_bytes = span.tensor.size_bytes
            if self.wire_dtype(span.tensor, wire) != span.tensor.dtype:
                size_bytes //= 2  # float32 as float16
            change[span.producer + 1] += size_bytes
            change[span.last_use + 1] -= size_bytes
        crossing = np.cumsum(change)[: n + 1]
        crossing[0] = sum(self.tensors[index].size_bytes for index in self.inputs)
        return crossing

    @cached_property
    def _macs_before(self) -> list[int]:
        before = [0]
        for op in self.operators:
            before.append(before[-1] + op.macs)
        return before


def layer_paths(tensor_name: str) -> list[tuple[str, ...]]:
    """Return the paths in a tensor's name, one for each fused operation.

    A path is a tuple of the operation's scopes, followed by the operation's own name, such as
    ``("model", "dense", "MatMul")``.
    """
    return [tuple(path.split("/")) for path in tensor_name.split(";")]


def layer_label(tensor_name: str) -> str:
    """Return a short label for the layer that computes a tensor.

    If the tensor's name contains no path, the label is the whole name.
    """
    paths = [path for path in layer_paths(tensor_name) if path[-1]]
    if not paths:
        return tensor_name
    main = next((path for path in paths if _COMPUTE_LEAF.fullmatch(path[-1])), paths[0])
    scopes = [part for part in main[1:-1] if part not in _INNER_SCOPES]
    return "/".join(scopes) or main[-1]


def _add_first_uses(change: NDArray[np.int64], previous: int, use: int, size_bytes: int) -> None:
    """Add a size to all ranges ``[start, stop)`` in which ``use`` is the first use of a tensor.

    These ranges have ``previous < start <= use < stop``.

    Args:
        change: Differences of the table of all ranges, along both axes. :func:`_ranges` sums them.
        previous: Position of the operator that uses the tensor before ``use``, or that writes the
            tensor; -1 if there is none.
        use: Position of an operator that uses the tensor.
        size_bytes: The size to add.
    """
    change[previous + 1, use + 1] += size_bytes
    change[use + 1, use + 1] -= size_bytes


def _ranges(change: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.cumsum(np.cumsum(change, axis=0), axis=1)[:-1, :-1]
