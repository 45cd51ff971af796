"""What a model's own graph tells of the pixels that it takes.

Integer inputs and ``QUANTIZE`` have a scale and a zero point, which span the values that the model
was calibrated on. Operators at the beginning that multiply by a constant show whether the model
rescales pictures by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_partition.inputs.pixels import (
    FULL_RANGE,
    IMAGENET,
    IMAGENET_BGR,
    MINUS_ONE_TO_ONE,
    parse_pixels,
    value_range,
)
from edge_partition.tflite.read_tflite import buffer_bytes

if TYPE_CHECKING:
    from edge_core.contract.manifest import Pixels, Quantized
    from edge_partition.tflite.graph import Operator, Tensor
    from edge_partition.tflite.read_tflite import TfliteModel

#: Operators that move values or keep them, on the way from a picture to the first that computes.
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
#: Further from the input nothing rescales pictures.
_MOST_STEPS = 16
#: Rescaling from 0..255 divides by 58 (ImageNet's deviation) to 255.
_RESCALES_BELOW = 1 / 16
#: A mean of values from 0 to 255 is above.
_LEAST_MEAN = 16.0
#: The converter may fold a division by 58 to 255 into the first filters. Trained filters that take
#: values near 1 have a norm near 1, folded ones of 1/58 at most.
FOLDED_BELOW = 0.1
#: As far as a calibrated range may be from the one that it stands for, of its width.
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
    """What a model does first with the values of an input.

    Attributes:
        factor: What they are multiplied by, in the mean over channels; 1 where nothing does.
        shift: The largest constant that is added to them or taken from them, without its sign.
        calibrated: The least and the greatest value that ``QUANTIZE`` lets through; None without.
        filter_norm: Of the first filters, in the mean over them; None where they are not known.
    """

    factor: float = 1.0
    shift: float = 0.0
    calibrated: tuple[float, float] | None = None
    filter_norm: float | None = None

    @property
    def rescales(self) -> bool:
        """Whether operators make values from 0 to 255 small."""
        return self.factor <= _RESCALES_BELOW

    @property
    def prepares(self) -> bool:
        """Whether operators rescale values from 0 to 255 or take a mean from them."""
        return self.rescales or self.shift >= _LEAST_MEAN

    @property
    def keeps_large(self) -> bool:
        """Whether values from 0 to 255 meet filters that were trained on small ones."""
        norm = self.filter_norm
        return not self.prepares and norm is not None and norm >= FOLDED_BELOW


def calibrated_range(quantized: Quantized, dtype: str) -> tuple[float, float]:
    """Return the least and the greatest real value that integers of ``dtype`` stand for."""
    limits = np.iinfo(dtype)
    return (
        (int(limits.min) - quantized.zero_point) * quantized.scale,
        (int(limits.max) - quantized.zero_point) * quantized.scale,
    )


def pixels_of_range(low: float, high: float) -> Pixels | None:
    """Return the usual pixels that span ``low`` to ``high``; None where none do."""
    for pixels in _KNOWN:
        expected = value_range(pixels)
        allowed = _TOLERANCE * (expected[1] - expected[0])
        if abs(low - expected[0]) <= allowed and abs(high - expected[1]) <= allowed:
            return replace(pixels, said_by="quantization")
    return None


def first_steps(tflite: TfliteModel, index: int) -> FirstSteps:
    """Return what the graph does first with input ``index`` of ``tflite.graph.tensors``."""
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
    """Return what a MUL or DIV by a constant multiplies by; None where it is by no constant."""
    values = _operand(tflite, op)
    if values is None or (op.kind == "DIV" and _file_inputs(tflite, op)[0] not in op.inputs):
        return None
    magnitudes = np.abs(values)
    if not magnitudes.all() or not np.isfinite(magnitudes).all():
        return None
    mean = float(np.exp(np.log(magnitudes).mean()))
    return 1 / mean if op.kind == "DIV" else mean


def _shift(tflite: TfliteModel, op: Operator) -> float:
    """Return the largest constant that an ADD or SUB shifts by; 0 where it is not known."""
    values = _operand(tflite, op)
    return 0.0 if values is None else float(np.abs(values).max())


def _operand(tflite: TfliteModel, op: Operator) -> np.ndarray[Any, Any] | None:
    """Return the constant of an operator on one activation and one constant; None for others."""
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
    # Depthwise filters lie as [1, height, width, out], the others as [out, ...].
    rows = values.reshape(-1, values.shape[-1]).T if op.kind == "DEPTHWISE_CONV_2D" else values
    return float(np.linalg.norm(rows.reshape(len(rows), -1), axis=1).mean())


def _file_inputs(tflite: TfliteModel, op: Operator) -> tuple[int, ...]:
    table = tflite.schema.Subgraphs(0).Operators(tflite.file_operators[op.index])
    found = table.InputsAsNumpy()
    return () if isinstance(found, int) else tuple(int(tensor) for tensor in found if tensor >= 0)


def _constant(tflite: TfliteModel, tensor: Tensor) -> np.ndarray[Any, Any] | None:
    """Return a constant's real values; None where they can't be had without running anything."""
    maker = tflite.constant_makers.get(tensor.index)
    if maker is not None:
        table = tflite.schema.Subgraphs(0).Operators(maker)
        stored = tflite.graph.tensors[int(table.Inputs(0))]
        # float16 or int8 weights through DEQUANTIZE have the shape of what it makes.
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
    """Return integers as real values, by one scale or by one a channel."""
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
