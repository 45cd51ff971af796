"""Compute bounds of an operator's inputs from bounds of its outputs. The functions are pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Upper bound that is guessed for an input that determines the size of a tensor.
_MOST_SIZE = 8
#: Least ``n`` for which a value that is compared with ``0, 1, .. n - 1`` is taken for a length.
_LEAST_RANGE = 3
#: Kinds of operators that pass on values of their inputs, unchanged or rounded.
_PASSING = frozenset(
    {
        "CAST", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "SLICE", "STRIDED_SLICE",
        "CONCATENATION", "TILE", "PACK", "UNPACK", "SPLIT", "SPLIT_V", "BROADCAST_TO", "REVERSE_V2",
        "GATHER", "GATHER_ND", "PAD", "PADV2", "MIRROR_PAD", "MINIMUM", "MAXIMUM", "SELECT",
        "SELECT_V2", "ROUND", "FLOOR", "CEIL", "REDUCE_MAX", "REDUCE_MIN", "UNIQUE",
        "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND", "DYNAMIC_UPDATE_SLICE", "REVERSE_SEQUENCE",
    }
)  # fmt: skip
#: Which inputs of these operators hold the values that are passed on. For other kinds, it is the
#: first input.
_VALUES: dict[str, slice] = {
    "CONCATENATION": slice(None), "PACK": slice(None), "MINIMUM": slice(None),
    "MAXIMUM": slice(None), "SELECT": slice(1, None), "SELECT_V2": slice(1, None),
    "SPLIT": slice(1, 2), "DYNAMIC_UPDATE_SLICE": slice(0, 2),
}  # fmt: skip
_COMPARISONS = frozenset({"LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL"})


class Bounds(NamedTuple):
    """The smallest and the largest allowed value of a tensor's elements.

    Attributes:
        low: The smallest allowed value; minus infinity if there is no lower bound.
        high: The largest allowed value; infinity if there is no upper bound.
    """

    low: float
    high: float

    def meet(self, other: Bounds) -> Bounds:
        """Return the range of the values that lie within these bounds and within ``other``."""
        return Bounds(max(self.low, other.low), min(self.high, other.high))

    @property
    def is_known(self) -> bool:
        """Whether both bounds are finite and an integer lies within them."""
        return math.isfinite(self.low + self.high) and math.ceil(self.low) <= self.high


ANY = Bounds(-math.inf, math.inf)


@dataclass
class BoundOperator:
    """An operator, with functions that look up its tensors in the file.

    Attributes:
        kind: The operator's name.
        inputs: Tensor indexes of the inputs, -1 for an absent optional input.
        outputs: Tensor indexes of the outputs.
        table: The operator's FlatBuffers table (``schema_py_generated.Operator``).
        shape: Function that takes a tensor's index and returns the tensor's shape.
        values: Function that takes a tensor's index and returns the tensor's values; None if the
            values are not in the file.
        quantized: Function that takes a tensor's index and returns the tensor's scale and zero
            point; None if the tensor does not have exactly one scale.
    """

    kind: str
    inputs: list[int]
    outputs: list[int]
    table: Any
    shape: Callable[[int], tuple[int, ...]]
    values: Callable[[int], np.ndarray[Any, Any] | None]
    quantized: Callable[[int], tuple[float, int] | None]

    @property
    def options(self) -> Any:
        """The operator's builtin options, such as ``GatherOptionsT``."""
        return schema.OperatorT.InitFromObj(self.table).builtinOptions


def bounds_of_inputs(
    op: BoundOperator, made: list[Bounds], *, is_lenient: bool
) -> Iterator[tuple[int, Bounds]]:
    """Yield bounds of an operator's inputs. Each result is a pair of tensor index and bounds.

    Args:
        op: The operator.
        made: Bounds of the operator's outputs.
        is_lenient: Whether to guess which inputs are lengths or sizes, and to bound them.
    """
    if op.kind in _INDEXING and (indexed := _INDEXING[op.kind](op)) is not None:
        place, bounds = indexed
        yield op.inputs[place], bounds
    if is_lenient:
        yield from _sizes(op)
    wanted = ANY
    for bounds in made:
        wanted = wanted.meet(bounds)
    if wanted != ANY:
        yield from _against_the_flow(op, wanted)


def _against_the_flow(op: BoundOperator, wanted: Bounds) -> Iterator[tuple[int, Bounds]]:
    """Yield the bounds of an operator's inputs that follow from ``wanted``.

    Each result is a pair of tensor index and bounds.

    Args:
        op: The operator.
        wanted: Bounds of all outputs of the operator.
    """
    first = op.inputs[0] if op.inputs else -1
    if op.kind in _PASSING:
        for tensor in op.inputs[_VALUES.get(op.kind, slice(0, 1))]:
            yield tensor, wanted
    elif op.kind in {"QUANTIZE", "DEQUANTIZE"}:
        yield first, _requantized(op, wanted)
    elif op.kind in {"CUMSUM", "SUM"}:
        count = max(1, math.prod(op.shape(first)) // _kept(op))
        yield first, Bounds(wanted.low / count, wanted.high / count)
    elif op.kind == "NEG":
        yield first, Bounds(-wanted.high, -wanted.low)
    elif op.kind == "ABS":
        yield first, Bounds(-wanted.high, wanted.high)
    elif op.kind in _ARITHMETIC:
        yield from _arithmetic(op, wanted)


def _gather(op: BoundOperator) -> tuple[int, Bounds] | None:
    shape = op.shape(op.inputs[0])
    axis = getattr(op.options, "axis", 0)
    return (1, _below(shape[axis % len(shape)])) if shape else None


def _gather_nd(op: BoundOperator) -> tuple[int, Bounds]:
    depth = op.shape(op.inputs[1])[-1:]
    sizes = op.shape(op.inputs[0])[: depth[0]] if depth else ()
    return 1, _below(min(sizes, default=1))


def _one_hot(op: BoundOperator) -> tuple[int, Bounds] | None:
    depth = op.values(op.inputs[1])
    return None if depth is None else (0, _below(int(depth[0])))


def _scatter_nd(op: BoundOperator) -> tuple[int, Bounds] | None:
    target, depth = op.values(op.inputs[2]), op.shape(op.inputs[0])[-1:]
    return None if target is None or not depth else (0, _below(int(min(target[: depth[0]]))))


def _segments(op: BoundOperator) -> tuple[int, Bounds] | None:
    count = op.values(op.inputs[2])
    return None if count is None else (1, _below(int(count[0])))


def _reversed_lengths(op: BoundOperator) -> tuple[int, Bounds]:
    return 1, Bounds(1, op.shape(op.inputs[0])[getattr(op.options, "seqDim", 0)])


def _update_start(op: BoundOperator) -> tuple[int, Bounds]:
    rooms = zip(op.shape(op.inputs[0]), op.shape(op.inputs[1]), strict=True)
    return 2, Bounds(0, min((whole - part for whole, part in rooms), default=0))


def _slice_start(op: BoundOperator) -> tuple[int, Bounds] | None:
    sizes = op.values(op.inputs[2])
    if sizes is None:
        return None
    rooms = zip(op.shape(op.inputs[0]), sizes, strict=False)
    return 1, Bounds(0, max(0, min((w - max(1, int(part)) for w, part in rooms), default=0)))


#: Functions for the kinds of operators that have an index or a length among their inputs. Each
#: returns this input's position among the inputs and its bounds, which follow from the size of the
#: indexed tensor; None if the size is not known.
_INDEXING: dict[str, Callable[[BoundOperator], tuple[int, Bounds] | None]] = {
    "GATHER": _gather,
    "EMBEDDING_LOOKUP": lambda op: (0, _below(op.shape(op.inputs[1])[0])),
    "GATHER_ND": _gather_nd,
    "ONE_HOT": _one_hot,
    "SCATTER_ND": _scatter_nd,
    "UNSORTED_SEGMENT_SUM": _segments,
    "UNSORTED_SEGMENT_MAX": _segments,
    "UNSORTED_SEGMENT_MIN": _segments,
    "UNSORTED_SEGMENT_PROD": _segments,
    "REVERSE_SEQUENCE": _reversed_lengths,
    "DYNAMIC_UPDATE_SLICE": _update_start,
    "SLICE": _slice_start,
}


def _sizes(op: BoundOperator) -> Iterator[tuple[int, Bounds]]:
    """Yield guessed bounds of an operator's inputs that are probably lengths or sizes."""
    if op.kind in _COMPARISONS:
        for tensor, other in (op.inputs, op.inputs[::-1]):
            values = op.values(other)
            if (
                values is not None
                and len(values) >= _LEAST_RANGE
                and np.array_equal(values, np.arange(len(values)))
            ):
                yield tensor, Bounds(1, len(values))
    elif op.kind in {"RANGE", "FILL"}:
        for tensor in op.inputs if op.kind == "RANGE" else op.inputs[:1]:
            yield tensor, Bounds(1, _MOST_SIZE)
    elif op.kind in {"TILE", "BROADCAST_TO", "RESHAPE"} and len(op.inputs) > 1:
        yield op.inputs[1], Bounds(1, _MOST_SIZE)


def _below(size: int) -> Bounds:
    return Bounds(0, max(0, size - 1))


def _kept(op: BoundOperator) -> int:
    """Return the number of sums that a ``SUM`` or ``CUMSUM`` computes.

    A row of running sums along the axis of ``CUMSUM`` counts as one sum.
    """
    shape = op.shape(op.inputs[0])
    if op.kind == "SUM":
        return max(1, math.prod(op.shape(op.outputs[0])))
    axis = op.values(op.inputs[1])
    along = 0 if axis is None or not shape else int(axis[0]) % len(shape)
    return max(1, math.prod(shape) // max(1, shape[along] if shape else 1))


def _requantized(op: BoundOperator, wanted: Bounds) -> Bounds:
    """Convert bounds of an operator's output to bounds of its first input.

    The operator is a ``QUANTIZE`` or ``DEQUANTIZE``. The bounds of a quantized tensor are bounds of
    the stored integers.
    """
    (scale_in, zero_in), (scale_out, zero_out) = (
        op.quantized(tensor) or (1.0, 0) for tensor in (op.inputs[0], op.outputs[0])
    )
    low, high = ((end - zero_out) * scale_out / scale_in + zero_in for end in wanted)
    return Bounds(low, high)


_ARITHMETIC = frozenset({"ADD", "SUB", "MUL", "DIV", "FLOOR_DIV", "FLOOR_MOD"})


def _arithmetic(op: BoundOperator, wanted: Bounds) -> Iterator[tuple[int, Bounds]]:
    left, right = op.inputs[:2]
    constants = [op.values(tensor) for tensor in (left, right)]
    if constants[0] is None and constants[1] is None:
        yield from _of_two(op, wanted)
        return
    is_left = constants[0] is not None
    values = constants[0] if is_left else constants[1]
    if values is None or not np.isfinite(values.astype(np.float64)).all():
        return
    tensor = right if is_left else left
    low, high = float(values.min()), float(values.max())
    match op.kind:
        case "ADD":
            yield tensor, Bounds(wanted.low - low, wanted.high - high)
        case "SUB" if is_left:
            yield tensor, Bounds(high - wanted.high, low - wanted.low)
        case "SUB":
            yield tensor, Bounds(wanted.low + high, wanted.high + low)
        case "MUL":
            yield tensor, _divided(wanted, low).meet(_divided(wanted, high))
        case "DIV" | "FLOOR_DIV" if not is_left and low > 0:
            yield tensor, Bounds(wanted.low * high, (wanted.high + 1) * low - 1)
        case "FLOOR_MOD" if not is_left and low > 0:
            # A remainder is always below the divisor, so it may already lie within the bounds.
            yield tensor, ANY if wanted.low <= 0 and high - 1 <= wanted.high else wanted


def _divided(wanted: Bounds, factor: float) -> Bounds:
    if factor == 0:
        return ANY
    ends = sorted(end / factor for end in wanted)
    return Bounds(*ends)


def _of_two(op: BoundOperator, wanted: Bounds) -> Iterator[tuple[int, Bounds]]:
    """Yield bounds of the two operands of an ``ADD`` or ``MUL`` that has no constant operand.

    Both operands get the same bounds. Nothing is yielded if ``wanted`` does not contain 0.
    """
    if wanted.low > 0 or wanted.high < 0 or op.kind not in {"ADD", "MUL"}:
        return
    if op.kind == "ADD":
        each = Bounds(wanted.low / 2, wanted.high / 2)
    else:
        each = Bounds(0, math.sqrt(wanted.high))
    for tensor in op.inputs[:2]:
        yield tensor, each
