from __future__ import annotations

import importlib
import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from tflite_models import FlatModel

from edge_core.contract.manifest import Pixels, Quantized, TensorSpec
from edge_partition.facts.application_pixels import application_pixels
from edge_partition.inputs.describe_pixels import parse_pixels
from edge_partition.inputs.pixels import (
    FULL_RANGE,
    IMAGENET,
    IMAGENET_BGR,
    MINUS_ONE_TO_ONE,
    PixelsError,
    apply_pixels,
    quantize,
)

RAMP = np.stack([np.arange(256), np.arange(256)[::-1], np.roll(np.arange(256), 77)], -1)
#: All 256 values of every channel, each beside other values of the other two.
PICTURE = RAMP.reshape(16, 16, 3).astype(np.uint8)
RGB = TensorSpec("image", "float32", (1, 16, 16, 3))


def applied(pixels: Pixels, spec: TensorSpec = RGB, picture: Any = PICTURE) -> np.ndarray:
    return apply_pixels(picture, replace(spec, pixels=pixels))


def test_every_application_gets_the_bits_of_its_own_preprocessing() -> None:
    import keras  # noqa: PLC0415 -- seconds, which other tests need not take

    modes = (FULL_RANGE, MINUS_ONE_TO_ONE, IMAGENET, IMAGENET_BGR)
    applications = inspect.getmembers(keras.applications, inspect.isfunction)
    assert len(applications) == 40
    seen = set()
    for name, make in applications:
        module = importlib.import_module(make.__module__)
        expected = module.preprocess_input(PICTURE[None].astype(np.float32))
        pixels = application_pixels(name)
        assert pixels is not None, name
        assert pixels.said_by == "application"
        # Wrong pixels would show: of the four ways exactly one fits.
        fits = [np.array_equal(applied(mode), expected) for mode in modes]
        assert fits.count(True) == 1, name
        np.testing.assert_array_equal(applied(pixels), expected, err_msg=name)
        seen.add(fits.index(True))
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("name", "expected", "resize"),
    [
        ("mobilenetv2_1.00_224", MINUS_ONE_TO_ONE, "bilinear"),
        ("mobilenet_0.50_128", MINUS_ONE_TO_ONE, "bilinear"),
        ("MobileNetV3Small", FULL_RANGE, "bilinear"),
        ("efficientnetv2-b0", FULL_RANGE, "bilinear"),
        ("efficientnetb0", FULL_RANGE, "bicubic"),
        ("convnext_tiny", FULL_RANGE, "bicubic"),
        ("inception_resnet_v2", MINUS_ONE_TO_ONE, "bilinear"),
        ("NASNet", MINUS_ONE_TO_ONE, "bilinear"),
        ("resnet50", IMAGENET_BGR, "bilinear"),
        ("resnet50v2", MINUS_ONE_TO_ONE, "bilinear"),
        ("densenet121", IMAGENET, "bilinear"),
    ],
)
def test_a_model_is_known_by_the_name_that_its_application_gave_it(
    name: str, expected: Pixels, resize: str
) -> None:
    found = application_pixels(name)
    assert found == replace(expected, resize=resize, said_by="application")


@pytest.mark.parametrize(
    "name", ["", "sequential", "functional", "resnet", "my_resnet50", "resnet50_flowers", "vgg"]
)
def test_other_models_are_not_applications(name: str) -> None:
    assert application_pixels(name) is None


def test_mean_and_deviation_are_per_channel_in_the_models_order() -> None:
    made = applied(parse_pixels("10,20,30/1,2,4,bgr"))[0]
    red, green, blue = (PICTURE[..., channel].astype(np.float32) for channel in range(3))
    np.testing.assert_array_equal(made[..., 0], blue - 10)
    np.testing.assert_array_equal(made[..., 1], (green - 20) / 2)
    np.testing.assert_array_equal(made[..., 2], (red - 30) / 4)


@pytest.mark.parametrize(
    ("shape", "of_rgb"),
    [
        ((1, 16, 16, 3), lambda rgb: rgb[None]),
        ((8, 16, 16, 3), lambda rgb: rgb[None]),
        ((1, 3, 16, 16), lambda rgb: rgb.transpose(2, 0, 1)[None]),
        ((3, 16, 16), lambda rgb: rgb.transpose(2, 0, 1)),
        ((16, 16, 3), lambda rgb: rgb),
    ],
)
def test_values_are_placed_according_to_the_layout(shape: tuple[int, ...], of_rgb: Any) -> None:
    made = applied(parse_pixels("0..255"), TensorSpec("x", "float32", shape))
    np.testing.assert_array_equal(made, of_rgb(PICTURE.astype(np.float32)))


@pytest.mark.parametrize(
    ("shape", "repeats"),
    [((16, 16), 1), ((1, 16, 16), 1), ((1, 16, 16, 1), 1), ((1, 16, 16, 3), 3)],
)
def test_gray_values_fill_all_channels(shape: tuple[int, ...], repeats: int) -> None:
    gray = PICTURE[..., :1]
    made = applied(parse_pixels("0..255,gray"), TensorSpec("x", "float32", shape), gray)
    assert made.shape == shape
    np.testing.assert_array_equal(made.reshape(16, 16, repeats), gray.repeat(repeats, axis=2))


def test_alpha_is_a_fourth_channel_and_stays_last() -> None:
    rgba = np.dstack([PICTURE, np.full((16, 16), 51, np.uint8)])
    made = applied(parse_pixels("0..1,bgr"), TensorSpec("x", "float32", (1, 16, 16, 4)), rgba)[0]
    np.testing.assert_allclose(made[..., 3], 0.2, atol=1e-7)
    np.testing.assert_allclose(made[..., :3], rgba[..., 2::-1] / 255, atol=1e-7)


INT8 = TensorSpec("x", "int8", (1, 16, 16, 3))


@pytest.mark.parametrize(
    ("text", "quantized", "dtype", "expected"),
    [
        ("0..1", Quantized(1 / 255, -128), "int8", lambda v: v - 128),
        ("0..1", Quantized(1 / 255, 0), "uint8", lambda v: v),
        ("0..255", Quantized(1.0, -128), "int8", lambda v: v - 128),
        ("0..255", Quantized(2.0, 0), "uint8", lambda v: (v + 1) // 2),
        # A scale that can't hold all values: clipped, not wrapped around.
        ("0..255", Quantized(0.5, 0), "uint8", lambda v: np.minimum(2 * v, 255)),
        ("-128..127", Quantized(0.5, 0), "int8", lambda v: np.clip(2 * (v - 128), -128, 127)),
        ("0..1", Quantized(1 / 32767, 0), "int16", lambda v: np.round(v * 32767 / 255)),
    ],
)
def test_integers_are_quantized_by_scale_and_zero_point(
    text: str, quantized: Quantized, dtype: str, expected: Any
) -> None:
    spec = replace(INT8, dtype=dtype, quantized=quantized)
    made = applied(parse_pixels(text), spec)
    assert made.dtype == dtype
    np.testing.assert_array_equal(made[0], expected(PICTURE.astype(np.int64)))


def test_integers_without_a_scale_are_pixels_in_their_range() -> None:
    for dtype, shift in (("uint8", 0), ("int8", 128), ("int32", 0)):
        made = applied(FULL_RANGE, replace(INT8, dtype=dtype))
        np.testing.assert_array_equal(made[0].astype(int) + shift, PICTURE)


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point"),
    [("int8", 0.007843138, -1), ("int8", 0.0186, 12), ("uint8", 0.0078125, 128)],
)
def test_rounding_equals_the_runtimes_quantize(dtype: str, scale: float, zero_point: int) -> None:
    model = FlatModel()
    x, q = model.tensor("x", (1, 2000)), model.tensor("q", (1, 2000))
    tensor = model.main.tensors[q]
    tensor.type = getattr(schema.TensorType, dtype.upper())
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero_point]
    model.operator("QUANTIZE", [x], [q])
    interpreter = Interpreter(model_content=model.to_bytes([x], [q]))
    interpreter.allocate_tensors()
    real = np.random.default_rng(3).uniform(-2, 3, (1, 2000)).astype(np.float32)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], real)
    interpreter.invoke()
    expected = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    assert len(np.unique(expected)) > 100  # It could differ.
    np.testing.assert_array_equal(quantize(real, dtype, Quantized(scale, zero_point)), expected)


def test_halves_are_rounded_away_from_zero() -> None:
    halves = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999997], np.float32)
    assert quantize(halves, "int8", Quantized(1.0, 0)).tolist() == [-3, -2, -1, 1, 2, 3, 0]


def test_a_picture_of_another_size_is_refused() -> None:
    with pytest.raises(PixelsError, match=r"\[16, 15, 3\]; expected \[16, 16, 3\]"):
        apply_pixels(PICTURE[:, :15], RGB)
