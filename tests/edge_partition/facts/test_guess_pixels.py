from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from tflite_models import FlatModel

from edge_core.contract.manifest import Pixels, Quantized
from edge_partition.facts.guess_pixels import (
    FirstSteps,
    calibrated_range,
    first_steps,
    pixels_of_range,
)
from edge_partition.inputs.describe_pixels import describe_pixels, parse_pixels
from edge_partition.tflite.read_tflite import TfliteModel, read_tflite

SHAPE = (1, 8, 8, 3)


def described(pixels: Pixels | None) -> str | None:
    return None if pixels is None else describe_pixels(pixels).partition(" (")[0]


@pytest.mark.parametrize(
    ("quantized", "dtype", "words"),
    [
        (Quantized(1 / 127.5, 0), "int8", "-1..1 RGB"),
        (Quantized(1 / 127.5, -1), "int8", "-1..1 RGB"),
        (Quantized(1 / 127.5, 127), "uint8", "-1..1 RGB"),
        (Quantized(0.0078125, 128), "uint8", "-1..1 RGB"),
        (Quantized(1 / 255, -128), "int8", "0..1 RGB"),
        (Quantized(1 / 255, 0), "uint8", "0..1 RGB"),
        (Quantized(1.0, 0), "uint8", "0..255 RGB"),
        (Quantized(1.0, -128), "int8", "0..255 RGB"),
        # Calibrated on pictures without a fully white pixel.
        (Quantized(0.984 / 255, -128), "int8", "0..1 RGB"),
        (
            Quantized(4.75 / 255, -14),
            "int8",
            "RGB normalized with ImageNet's mean and standard deviation",
        ),
        (Quantized(274.7 / 255, -13), "int8", "BGR minus ImageNet's mean"),
        (Quantized(16 / 255, -128), "int8", None),
        (Quantized(0.1, 0), "int8", None),
    ],
)
def test_the_range_of_integers_gives_the_pixels(
    quantized: Quantized, dtype: str, words: str | None
) -> None:
    found = pixels_of_range(*calibrated_range(quantized, dtype))
    assert described(found) == words
    assert found is None or found.said_by == "quantization"


def convolved(flat: FlatModel, tensor: int, filters: np.ndarray) -> bytes:
    """``filters``: ``[out, 1, 1, 3]``."""
    weights = flat.constant("filters", filters.astype(np.float32))
    bias = flat.constant("bias", np.zeros(len(filters), np.float32))
    made = flat.tensor("made", (1, 8, 8, len(filters)))
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = 1
    flat.operator("CONV_2D", [tensor, weights, bias], [made], options)
    return flat.to_bytes([0], [made])


def by_constant(
    flat: FlatModel, kind: str, tensor: int, values: list[float], *, first: bool = False
) -> int:
    constant = flat.constant(f"c{tensor}", np.array(values, np.float32))
    made = flat.tensor(f"t{tensor}", SHAPE)
    flat.operator(kind, [constant, tensor] if first else [tensor, constant], [made])
    return made


def steps_of(data: bytes) -> FirstSteps:
    tflite: TfliteModel = read_tflite(data, name="m")
    return first_steps(tflite, tflite.graph.inputs[0])


TRAINED = np.full((2, 1, 1, 3), 0.5)  # norm 0.87


@pytest.mark.parametrize(
    ("operations", "factor"),
    [
        ([("MUL", [1 / 255])], 1 / 255),
        ([("DIV", [255.0])], 1 / 255),
        ([("SUB", [127.5]), ("DIV", [127.5])], 1 / 127.5),
        ([("MUL", [1 / 127.5]), ("ADD", [-1.0])], 1 / 127.5),
        ([("SUB", [124.0, 116.0, 104.0]), ("DIV", [58.0, 57.0, 57.0])], 1 / 57.33),
        ([("MUL", [1 / 255]), ("SUB", [0.5]), ("DIV", [0.25])], 4 / 255),
    ],
)
def test_operators_that_rescale_values_are_found(
    operations: list[tuple[str, list[float]]], factor: float
) -> None:
    flat = FlatModel()
    tensor = flat.tensor("image", SHAPE)
    reshaped = flat.tensor("reshaped", SHAPE)
    shape = flat.constant("shape", np.array(SHAPE, np.int32))
    flat.operator("RESHAPE", [tensor, shape], [reshaped])
    tensor = reshaped
    for kind, values in operations:
        tensor = by_constant(flat, kind, tensor, values)
    found = steps_of(convolved(flat, tensor, TRAINED))
    assert found.factor == pytest.approx(factor, rel=1e-3)
    assert found.rescales
    assert not found.keeps_large


def test_channels_that_are_split_and_joined_are_followed() -> None:
    """Keras's own ``preprocess_input`` inside a model: BGR, minus a mean."""
    flat = FlatModel()
    image = flat.tensor("image", SHAPE)
    parts = [flat.tensor(f"part {at}", (1, 8, 8, 1)) for at in range(3)]
    flat.operator("SPLIT", [flat.constant("axis", np.array(3, np.int32)), image], parts)
    joined = flat.tensor("joined", SHAPE)
    flat.operator("CONCATENATION", parts[::-1], [joined])
    less = by_constant(flat, "ADD", joined, [-103.9, -116.8, -123.7])
    assert steps_of(convolved(flat, less, TRAINED)).prepares


def test_a_subtracted_mean_prepares_values_without_rescaling_them() -> None:
    flat = FlatModel()
    less = by_constant(flat, "SUB", flat.tensor("image", SHAPE), [103.9, 116.8, 123.7])
    found = steps_of(convolved(flat, less, TRAINED))
    assert found.prepares
    assert not found.rescales
    assert not found.keeps_large
    flat = FlatModel()
    little = by_constant(flat, "ADD", flat.tensor("image", SHAPE), [0.5])
    assert not steps_of(convolved(flat, little, TRAINED)).prepares


def test_the_first_filters_show_a_model_that_does_not_rescale_values() -> None:
    flat = FlatModel()
    found = steps_of(convolved(flat, flat.tensor("image", SHAPE), TRAINED))
    assert found.filter_norm == pytest.approx(np.sqrt(3) / 2)
    assert found.keeps_large

    flat = FlatModel()
    folded = steps_of(convolved(flat, flat.tensor("image", SHAPE), TRAINED / 255))
    assert not folded.rescales
    assert not folded.keeps_large


def test_doubling_a_picture_is_not_a_rescaling() -> None:
    flat = FlatModel()
    doubled = by_constant(flat, "MUL", flat.tensor("image", SHAPE), [2.0])
    found = steps_of(convolved(flat, doubled, TRAINED))
    assert not found.rescales
    assert found.keeps_large


def test_an_inverse_is_not_a_rescaling() -> None:
    flat = FlatModel()
    inverse = by_constant(flat, "DIV", flat.tensor("image", SHAPE), [1 / 255], first=True)
    assert steps_of(convolved(flat, inverse, TRAINED)) == FirstSteps()


def test_int8_filters_are_measured_with_their_scales() -> None:
    flat = FlatModel()
    image = flat.tensor("image", SHAPE)
    data = convolved(flat, image, TRAINED)
    filters = next(tensor for tensor in flat.main.tensors if tensor.name == "filters")
    filters.type = schema.TensorType.INT8
    filters.quantization = schema.QuantizationParametersT()
    filters.quantization.scale = [0.01, 0.03]
    filters.quantization.zeroPoint = [0, 0]
    flat.model.buffers[filters.buffer].data = np.full(6, 50, np.int8).view(np.uint8)
    assert steps_of(data) != steps_of(flat.to_bytes([0], [len(flat.main.tensors) - 1]))
    found = steps_of(flat.to_bytes([0], [len(flat.main.tensors) - 1]))
    assert found.filter_norm == pytest.approx(np.sqrt(3) * (0.5 + 1.5) / 2)


def test_a_calibration_shows_in_the_scale_of_quantize() -> None:
    flat = FlatModel()
    image = flat.tensor("image", SHAPE)
    made = flat.tensor("quantized", SHAPE)
    tensor = flat.main.tensors[made]
    tensor.type = schema.TensorType.INT8
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = [1 / 127.5], [-1]
    flat.operator("QUANTIZE", [image], [made])
    found = steps_of(flat.to_bytes([image], [made]))
    assert found.calibrated == pytest.approx((-0.996, 1.004), abs=1e-3)
    assert described(pixels_of_range(*found.calibrated or (0, 0))) == "-1..1 RGB"


def test_unknown_first_operators_give_no_evidence() -> None:
    flat = FlatModel()
    image, made = flat.tensor("image", SHAPE), flat.tensor("made", SHAPE)
    flat.operator("ABS", [image], [made])
    assert steps_of(flat.to_bytes([image], [made])) == FirstSteps()


def test_the_known_ranges_are_the_ranges_of_the_option() -> None:
    for text in ("0..255", "0..1", "-1..1"):
        low, high = (float(end) for end in text.split(".."))
        found = pixels_of_range(low, high)
        asked = parse_pixels(text)
        assert found is not None
        assert (found.mean, found.std, found.unit) == (asked.mean, asked.std, asked.unit)
