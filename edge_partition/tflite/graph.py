"""The graph that planning works on: operators in execution order, tensors, and boundaries.

A *position* ``p`` is before ``operators[p]``: a cut there separates ``operators[:p]`` from
``operators[p:]``. A *stage* is a half-open range ``[start, stop)`` of operators. Everything here is
pure; :mod:`edge_partition.tflite.read_tflite` builds a :class:`Graph` from a file.
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

#: Scopes that Keras layers open inside their own scope.
_INNER_SCOPES = frozenset({"batchnorm", "moments"})
#: Last components of a path that name the main computation of a fused operator; the converter
#: numbers repeats.
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
        size_bytes: Bytes in memory and on the wire; for a constant, bytes in the file.
        is_constant: Whether the value is known before the first inference: a weight, or a result of
            an operator fed by constants alone.
        quantized: Scale and zero point of an integer tensor, if all values share one scale and one
            zero point.
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
    """One step of the model.

    Attributes:
        index: The operator's position in ``Graph.operators``.
        kind: The builtin operator's name such as ``CONV_2D``; for a custom operator, its custom
            code.
        inputs: Indexes of the activations that the operator reads, each once; constants and
            variables are left out.
        outputs: Indexes of the tensors that the operator writes.
        macs: Multiply-accumulates of one inference; 0 for operators that mainly move or map values.
        weight_bytes: Bytes of ``constants`` in the file.
        constants: Indexes of the stored constants that the operator reads, directly or through
            operators fed by constants alone. For a shared buffer, the first tensor of the file with
            this buffer is listed.
        layer: A short label from the output's name: the Keras layer's name, if the output's name
            contains one.
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
    """An activation's lifetime: it crosses position ``p`` exactly if ``producer < p <= last_use``.

    Attributes:
        tensor: The activation.
        producer: Position of the operator that writes it; -1 for an input of the model.
        uses: Positions of the operators that read it, ascending.
        last_use: Position of its last reader; ``len(operators)`` for an output of the model.
    """

    tensor: Tensor
    producer: int
    uses: tuple[int, ...]
    last_use: int


@dataclass(frozen=True)
class Graph:
    """A model's operators in execution order, and the sizes of its stages and boundaries.

    Operators fed by constants alone (``DEQUANTIZE`` or ``DENSIFY`` of weights) are left out: they
    belong to every stage that reads their results.

    With ``n`` operators: :meth:`macs` and :meth:`boundary_bytes` take constant time after the first
    call, :meth:`weight_bytes` takes time in proportion to the range, :meth:`peak_activation_bytes`
    O(n); the two tables answer all ranges at once in O(n^2) time and ``8 * (n + 1)**2`` bytes each.

    Attributes:
        name: The model's name, for messages.
        tensors: All tensors; ``tensors[i].index == i``.
        operators: All operators, in execution order.
        inputs: Indexes of the model's inputs, in file order.
        outputs: Indexes of the model's outputs, in file order.
        cuts: Positions in ``1 .. n - 1`` where the model may be cut, ascending. A position is left
            out if the cut would separate operators that share state, or if a tensor that cannot be
            sent (a resource, strings, a tensor of packed elements or of open shape) would cross the
            cut.
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
        """Return whether an operator of ``[start, stop)`` keeps state between inferences."""
        return any(start <= position < stop for position in self.stateful)

    def boundary(self, position: int) -> tuple[Tensor, ...]:
        """Return the tensors that cross the cut before ``operators[position]``.

        The boundary consists of all tensors that a later stage or the caller still needs, including
        model inputs and finished model outputs. ``boundary(0)`` is the model inputs and
        ``boundary(n)`` the model outputs, in file order. In between, model inputs come first, then
        operators' outputs in execution order.

        Raises:
            IndexError: ``position`` is outside ``0 .. n``.
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
        """Return the dtype of ``tensor`` on the wire.

        Args:
            tensor: A tensor of the graph; the model's own inputs and outputs keep their dtype.
            wire: The dtype on the wire of all other float32 tensors.
        """
        is_end = tensor.index in self.inputs or tensor.index in self.outputs
        return wire if tensor.dtype == "float32" and not is_end else tensor.dtype

    def boundary_bytes(self, position: int, wire: Wire = "float32") -> int:
        """Return the bytes of ``boundary(position)`` on the wire; see :meth:`wire_dtype`."""
        self._check_range(position, position)
        return int(self._boundary_bytes[wire][position])

    def weight_bytes(self, start: int, stop: int) -> int:
        """Return the bytes in the file of the distinct constants that a stage reads."""
        self._check_range(start, stop)
        distinct = {index for op in self.operators[start:stop] for index in op.constants}
        return sum(self.tensors[index].size_bytes for index in distinct)

    def macs(self, start: int, stop: int) -> int:
        """Return the multiply-accumulates of a stage's operators for one inference."""
        self._check_range(start, stop)
        return self._macs_before[stop] - self._macs_before[start]

    def peak_activation_bytes(self, start: int, stop: int) -> int:
        """Return the activation bytes that a stage's arena must hold at once.

        At each operator the arena holds the inputs that the stage reads (the runtime keeps them for
        the whole inference), the stage's earlier results that are still needed, and the operator's
        outputs. Stage outputs live until the end. Forwarded tensors are never in the arena. The
        result is a lower bound: the runtime adds packing, scratch memory and alignment. The
        lifetimes are those of TensorFlow Lite's ``arena_planner.cc``.
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
            int64, shape ``(n + 1, n + 1)``, in bytes: entry ``[start, stop]``; 0 where
            ``start >= stop``.
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
            int64, shape ``(n + 1, n + 1)``, in bytes: entry ``[start, stop]``; 0 where
            ``start >= stop``.
        """
        n = len(self.operators)
        inputs = np.zeros((n + 2, n + 2), np.int64)
        made = np.zeros((n + 2, n + 2), np.int64)
        for span in self._spans:
            size_bytes = span.tensor.size_bytes
            previous = span.producer
            for use in span.uses:
                # It is a stage's input if the stage starts after the producer and holds this use.
                _add_first_uses(inputs, previous, use, size_bytes)
                previous = use
            if span.producer >= 0:
                # Alive at operators producer .. last_use of every stage that starts by then.
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
            layer_name: A Keras layer's name, the path of a layer in a nested model joined with
                ``/``, an operator's ``layer``, or a tensor's exact name. The end of a path also
                denotes a layer if only one layer's path has this end.

        Raises:
            UnknownLayerError: No layer or tensor has this name.
            AmbiguousLayerError: Several layers have this name.
        """
        return self.layer_names.last_operator(layer_name) + 1

    @cached_property
    def layer_names(self) -> LayerNames:
        """The names that :meth:`position_after` accepts."""
        return LayerNames(self)

    def _check_range(self, start: int, stop: int) -> None:
        n = len(self.operators)
        if not 0 <= start <= stop <= n:
            raise IndexError(f"[{start}, {stop}) is not a range of {self.name}'s {n} operators")

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
    """Return the path of each operation that was fused into a tensor: scopes, then its name."""
    return [tuple(path.split("/")) for path in tensor_name.split(";")]


def layer_label(tensor_name: str) -> str:
    """Return a short name for a tensor's layer; the tensor's own name if it has no path."""
    paths = [path for path in layer_paths(tensor_name) if path[-1]]
    if not paths:
        return tensor_name
    main = next((path for path in paths if _COMPUTE_LEAF.fullmatch(path[-1])), paths[0])
    scopes = [part for part in main[1:-1] if part not in _INNER_SCOPES]
    return "/".join(scopes) or main[-1]


def _add_first_uses(change: NDArray[np.int64], previous: int, use: int, size_bytes: int) -> None:
    """Add a size to all ranges whose first use is ``use``: start in (previous, use], stop > use.

    ``change`` holds differences along both axes; :func:`_ranges` sums them.
    """
    change[previous + 1, use + 1] += size_bytes
    change[use + 1, use + 1] -= size_bytes


def _ranges(change: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.cumsum(np.cumsum(change, axis=0), axis=1)[:-1, :-1]
