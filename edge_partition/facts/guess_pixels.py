"""Find evidence in a model's graph about the pixel format that the model takes.

The scale and the zero point of an integer input give the range that the input's values had during
the calibration. For a float input, the result of the ``QUANTIZE`` operator that reads the input
gives this range. If the first operators multiply by a constant, the model itself rescales pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_partition.inputs.describe_pixels import parse_pixels
from edge_partition.inputs.pixels import (
    FULL_RANGE,
    IMAGENET,
    IMAGENET_BGR,
    MINUS_ONE_TO_ONE,
    value_range,
)
from edge_partition.tflite.file_tables import buffer_bytes

if TYPE_CHECKING:
    from edge_core.contract.manifest import Pixels, Quantized
    from edge_partition.tflite.graph import Operator, Tensor
    from edge_partition.tflite.read_tflite import TfliteModel

#: Operators that neither scale nor shift pixels. They may come before the first operator that does.
_KEEP_VALUES = frozenset(
    {
        "RESHAPE", "TRANSPOSE", "PAD", "PADV2", "MIRROR_PAD", "CAST", "RESIZE_BILINEAR",
        "RESIZE_NEAREST_NEIGHBOR", "SQUEEZE", "EXPAND_DIMS", "QUANTIZE", "DEQUANTIZE",
        "STRIDED_SLICE", "SLICE", "GATHER", "REVERSE_V2", "SPACE_TO_DEPTH", "PACK", "UNPACK",
        "CONCATENATION", "SPLIT",
    }
)  # fmt: skip
_SCALING = frozenset({"MUL", "DIV"})
_SHIFTING = frozenset({"ADD", "SUB"})
_FILTERS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
#: Number of operators after the input in which a rescaling of pixels is searched.
_MOST_STEPS = 16
#: Largest factor that counts as a rescaling of pixels from 0 to 255. Models divide such pixels by
#: numbers from 58 (the standard deviation of ImageNet's pixels) to 255.
_RESCALES_BELOW = 1 / 16
#: Smallest added or subtracted constant that counts as the mean of pixels from 0 to 255.
_LEAST_MEAN = 16.0
#: If the mean norm of the first filters is below this value, the converter folded a rescaling of
#: pixels into the filters. Filters that were trained on values near 1 have a norm near 1. With a
#: folded division by 58 or more, the norm is near 1/58 or less.
FOLDED_BELOW = 0.1
#: Largest difference between the ends of a calibrated range and of a known range, as a part of the
#: width of the known range.
_TOLERANCE = 0.04
_KNOWN = (
    MINUS_ONE_TO_ONE,
    replace(parse_pixels("0..1"), said_by="guess"),
    FULL_RANGE,
    IMAGENET,
    IMAGENET_BGR,
)


@dataclass(frozen=True)
class FirstSteps:
    """Effect of a model's first operators on the values of an input.

    Attributes:
        factor: Product of the constants by which operators multiply the values; 1 without such
            operators. For a constant with one number per channel, the geometric mean of the numbers
            is used.
        shift: Largest absolute constant that operators add or subtract; 0 without such operators.
        calibrated: Smallest and largest value that the result of ``QUANTIZE`` can represent; None
            without ``QUANTIZE``.
        filter_norm: Mean Euclidean norm of the filters of the first convolution or dense layer;
            None if the filters cannot be read.
    """

    factor: float = 1.0
    shift: float = 0.0
    calibrated: tuple[float, float] | None = None
    filter_norm: float | None = None

    @property
    def rescales(self) -> bool:
        """Whether the first operators turn pixels from 0 to 255 into small values."""
        return self.factor <= _RESCALES_BELOW

    @property
    def prepares(self) -> bool:
        """Whether the first operators make pixels from 0 to 255 smaller, or subtract a mean."""
        return self.rescales or self.shift >= _LEAST_MEAN

    @property
    def keeps_large(self) -> bool:
        """Whether pixels from 0 to 255 would reach filters that were trained on small values.

        This is True if no operator before the first filters rescales pixels or subtracts a mean,
        and the norm of the filters is large.
        """
        norm = self.filter_norm
        return not self.prepares and norm is not None and norm >= FOLDED_BELOW


def calibrated_range(quantized: Quantized, dtype: str) -> tuple[float, float]:
    """Return the smallest and the largest real value that integers of ``dtype`` represent."""
    limits = np.iinfo(dtype)
    return (
        (int(limits.min) - quantized.zero_point) * quantized.scale,
        (int(limits.max) - quantized.zero_point) * quantized.scale,
    )


def pixels_of_range(low: float, high: float) -> Pixels | None:
    """Return the known pixel format whose range is about ``low`` to ``high``; None without one."""
    for pixels in _KNOWN:
        expected = value_range(pixels)
        allowed = _TOLERANCE * (expected[1] - expected[0])
        if abs(low - expected[0]) <= allowed and abs(high - expected[1]) <= allowed:
            return replace(pixels, said_by="quantization")
    return None


def first_steps(tflite: TfliteModel, index: int) -> FirstSteps:
    """Return the effect of a model's first operators on an input.

    Args:
        tflite: The model.
        index: Index of the input in ``tflite.graph.tensors``.
    """
    graph = tflite.graph
    found, tensor, position = FirstSteps(), index, 0
    for _ in range(_MOST_STEPS):
        op = next((op for op in graph.operators[position:] if tensor in op.inputs), None)
        if op is None or not op.outputs:
            return found
        if op.kind == "QUANTIZE" and found.calibrated is None and found.factor == 1:
            made = graph.tensors[op.outputs[0]]
            if made.quantized is not None:
                span = calibrated_range(made.quantized, made.dtype)
                found = replace(found, calibrated=span)
        elif op.kind in _SCALING:
            factor = _factor(tflite, op)
            if factor is None:
                return found
            found = replace(found, factor=found.factor * factor)
        elif op.kind in _SHIFTING and len(op.inputs) == 1:
            found = replace(found, shift=max(found.shift, _shift(tflite, op)))
        elif op.kind in _FILTERS:
            return replace(found, filter_norm=_filter_norm(tflite, op))
        elif op.kind not in _KEEP_VALUES:
            return found
        tensor, position = op.outputs[0], op.index + 1
    return found


def _factor(tflite: TfliteModel, op: Operator) -> float | None:
    """Return the constant factor of a MUL or DIV; None without a constant factor.

    A constant with one number per channel gives the geometric mean of the numbers.
    """
    values = _operand(tflite, op)
    if values is None or (op.kind == "DIV" and _file_inputs(tflite, op)[0] not in op.inputs):
        return None
    magnitudes = np.abs(values)
    if not magnitudes.all() or not np.isfinite(magnitudes).all():
        return None
    mean = float(np.exp(np.log(magnitudes).mean()))
    return 1 / mean if op.kind == "DIV" else mean


def _shift(tflite: TfliteModel, op: Operator) -> float:
    """Return the largest absolute value in the constant operand of an ``ADD`` or ``SUB``.

    The result is 0 if no operand is constant.
    """
    values = _operand(tflite, op)
    return 0.0 if values is None else float(np.abs(values).max())


def _operand(tflite: TfliteModel, op: Operator) -> np.ndarray[Any, Any] | None:
    """Return the constant operand of an operator that has two operands.

    The result is None if the operator does not have exactly one constant operand, or if its values
    cannot be read.
    """
    inputs = _file_inputs(tflite, op)
    constant = next((tensor for tensor in inputs if tensor not in op.inputs), None)
    if len(op.inputs) != 1 or len(inputs) != 2 or constant is None:  # noqa: PLR2004
        return None
    values = _constant(tflite, tflite.graph.tensors[constant])
    return values if values is not None and values.size else None


def _filter_norm(tflite: TfliteModel, op: Operator) -> float | None:
    inputs = _file_inputs(tflite, op)
    weights = tflite.graph.tensors[inputs[1]] if len(inputs) > 1 else None
    values = None if weights is None or not weights.is_constant else _constant(tflite, weights)
    if values is None or values.ndim < 2:  # noqa: PLR2004
        return None
    # Depthwise filters have the shape [1, height, width, out], others [out, ...].
    rows = values.reshape(-1, values.shape[-1]).T if op.kind == "DEPTHWISE_CONV_2D" else values
    return float(np.linalg.norm(rows.reshape(len(rows), -1), axis=1).mean())


def _file_inputs(tflite: TfliteModel, op: Operator) -> tuple[int, ...]:
    table = tflite.schema.Subgraphs(0).Operators(tflite.file_operators[op.index])
    found = table.InputsAsNumpy()
    return () if isinstance(found, int) else tuple(int(tensor) for tensor in found if tensor >= 0)


def _constant(tflite: TfliteModel, tensor: Tensor) -> np.ndarray[Any, Any] | None:
    """Return a constant tensor's values as float64, dequantized; None if they cannot be read."""
    maker = tflite.constant_makers.get(tensor.index)
    if maker is not None:
        table = tflite.schema.Subgraphs(0).Operators(maker)
        stored = tflite.graph.tensors[int(table.Inputs(0))]
        # DEQUANTIZE keeps the shape of float16 or int8 weights. Other operators may change shapes.
        same = stored.shape == tensor.shape and stored.index not in tflite.constant_makers
        return _constant(tflite, stored) if same else None
    table = tflite.schema.Subgraphs(0).Tensors(tensor.index)
    raw = buffer_bytes(tflite.schema, table.Buffer(), tflite.data)
    if tensor.dtype not in {"float32", "float16", "float64", "int8", "uint8", "int16"}:
        return None
    values = np.frombuffer(raw.tobytes(), np.dtype(tensor.dtype).newbyteorder("<"))
    if values.size != math.prod(tensor.shape):
        return None
    real = values.astype(np.float64).reshape(tensor.shape)
    return real if tensor.dtype.startswith("float") else _dequantized(real, table)


def _dequantized(values: np.ndarray[Any, Any], table: Any) -> np.ndarray[Any, Any] | None:
    """Return the real values of quantized integers; None if the scales do not fit the shape.

    Args:
        values: The stored integers, as float64.
        table: The tensor's FlatBuffers table, with a single scale or one scale per channel.
    """
    parameters = table.Quantization()
    if parameters is None or not parameters.ScaleLength():
        return None
    scales, axis = parameters.ScaleAsNumpy(), parameters.QuantizedDimension()
    points = parameters.ZeroPointAsNumpy() if parameters.ZeroPointLength() else np.zeros(1)
    if len(scales) == 1:
        return np.asarray((values - points[0]) * scales[0])
    if not axis < values.ndim or values.shape[axis] != len(scales):
        return None
    shape = [-1 if place == axis else 1 for place in range(values.ndim)]
    return np.asarray((values - points.reshape(shape)) * scales.reshape(shape))
