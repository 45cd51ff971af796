"""Replacements of operators that TFLite lacks give the results of TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from chained_slices import run_chained, run_whole

from edge_partition.model.convert_tflite import ConversionError, convert_tflite, freeze_function
from edge_partition.model.seeded_weights import keras
from edge_partition.tflite.read_tflite import TfliteModel, read_tflite

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

import tensorflow as tf  # after Keras's settings

layers = keras.layers
ops = keras.ops


def converted(compute: Callable[[Any], Sequence[Any]], *shape: int) -> TfliteModel:
    """Return a function of one float32 tensor as a model of several outputs."""
    outputs = [f"y{place}" for place in range(len(compute(tf.zeros(shape))))]
    frozen = freeze_function(
        lambda x: dict(zip(outputs, compute(x), strict=True)),
        name="m",
        inputs=[("x", tf.TensorSpec(shape, tf.float32))],
        output_names=outputs,
    )
    return read_tflite(convert_tflite(frozen))


def answers(model: TfliteModel, x: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """Run a model whole and in two parts, which must give the same bits."""
    graph = model.graph
    payload = run_whole(model, x.tobytes())
    middle = graph.cuts[len(graph.cuts) // 2 : len(graph.cuts) // 2 + 1]
    assert run_chained(model, middle, x.tobytes()) == payload
    found, start = [], 0
    for tensor in graph.boundary(len(graph.operators)):
        array = np.frombuffer(payload, tensor.dtype, int(np.prod(tensor.shape)), start)
        found.append(array.reshape(tensor.shape))
        start += array.nbytes
    assert start == len(payload)
    return found


def check(
    compute: Callable[[Any], Sequence[Any]], x: np.ndarray[Any, Any], tolerance: float
) -> TfliteModel:
    """Compare a converted function with TensorFlow, relative to the largest value."""
    model = converted(compute, *x.shape)
    for place, (found, expected) in enumerate(
        zip(answers(model, x), compute(tf.constant(x)), strict=True)
    ):
        largest = np.nanmax(np.abs(np.where(np.isinf(expected), 0, expected)), initial=0)
        assert largest > 0, f"output {place} is constant"
        np.testing.assert_allclose(
            found, expected, rtol=0, atol=tolerance * largest, err_msg=f"output {place}"
        )
    return model


def noise(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).normal(size=shape).astype("float32")


def kinds(model: TfliteModel) -> list[str]:
    return [operator.kind for operator in model.graph.operators]


def test_three_dimensional_maxima_are_exact_and_means_are_close() -> None:
    video = keras.Input((7, 9, 8, 3), name="video")
    odd = {"pool_size": (3, 2, 3), "strides": (2, 3, 1), "padding": "same"}
    maxima = [
        layers.MaxPooling3D(2)(video),
        layers.MaxPooling3D(**odd)(video),
        layers.GlobalMaxPooling3D()(video),
        layers.MaxPooling3D(2, data_format="channels_first")(video),
    ]
    means = [
        layers.AveragePooling3D(2)(video),
        layers.AveragePooling3D(**odd)(video),
        layers.GlobalAveragePooling3D()(video),
    ]
    model = keras.Model(video, [*maxima, *means])
    x = noise(1, 7, 9, 8, 3)
    found = answers(read_tflite(convert_tflite(model)), x)
    for place, (y, expected) in enumerate(zip(found, model(x), strict=True)):
        tolerance = 0 if place < len(maxima) else 1e-6
        np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance)


def fourier(x: Any) -> list[Any]:
    """Compute every transform of Keras, also with lengths that are not powers of two."""
    spectrum = ops.stft(x, 12, 5, 15)
    rows = ops.reshape(x, (1, 6, 10))
    return [
        *ops.fft((rows, rows * rows)),
        *ops.fft2((rows, ops.zeros_like(rows))),
        *ops.ifft2((rows, -rows)),
        *ops.rfft(rows),
        *ops.rfft(rows, 14),
        ops.rfft(rows, 1)[0],  # its imaginary part is 0
        ops.irfft((rows, rows)),
        ops.irfft((rows, rows), 15),
        *spectrum,
        *ops.stft(x, 16, 4, 16, window=None),
        ops.istft(ops.stft(x, 12, 4, 12), 12, 4, 12),
    ]


def test_keras_fourier_transforms_are_within_1e_5() -> None:
    model = check(fourier, noise(1, 60), 1e-5)
    assert "RFFT2D" in kinds(model)  # of the frames of 16


def test_complex_numbers_are_computed_as_pairs() -> None:
    def compute(x: Any) -> list[Any]:
        z = tf.complex(x, x[:, ::-1])
        square = tf.reshape(z, (4, 4))
        results = [
            tf.matmul(square, tf.transpose(square), adjoint_a=True),
            tf.einsum("ij,kj->ik", square, square),
            z * tf.exp(tf.complex(0.0, x)) / (z + 3) - tf.math.conj(z) * (2 + 1j),
            tf.signal.ifft(tf.signal.fft(tf.cast(x, tf.complex64)) * z),
            tf.concat(tf.split(tf.square(square), 2, 1), 0),
        ]
        parts = [part for y in results for part in (tf.math.real(y), tf.math.imag(y))]
        absolute = tf.abs(tf.signal.fft(tf.cast(x, tf.complex64)))
        return [*parts, absolute, tf.math.angle(z), tf.signal.irfft2d(square)]

    check(compute, noise(1, 16), 1e-5)


def test_a_transform_that_litert_has_is_not_replaced() -> None:
    model = check(lambda x: [tf.abs(tf.signal.stft(x, 16, 8, 16))], noise(1, 64), 1e-6)
    assert {"RFFT2D", "COMPLEX_ABS"} <= set(kinds(model))


def test_a_transform_that_would_take_a_huge_matrix_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"transform of 5,000 values.* of 100 MB.*shorter"):
        converted(lambda x: [tf.math.real(tf.signal.rfft(x))], 1, 5000)


def test_a_complex_output_is_refused_with_an_alternative() -> None:
    with pytest.raises(ConversionError, match="one for the imaginary parts") as raised:
        converted(lambda x: [tf.complex(x, x)], 1, 4)
    assert raised.value.log_path is not None
    raised.value.log_path.unlink()


def test_elementwise_functions_agree_over_their_whole_range() -> None:
    tiny = np.array([0, -0.0, 1e-30, -1e-7, 1e-4, -0.01], "float32")
    x = np.concatenate([tiny, np.linspace(-4, 4, 80), [-8, 9, -30, 40, 88, -88]])

    def compute(x: Any) -> list[Any]:
        inner = tf.clip_by_value(x, -1.25, 1.25)  # inverse functions take values up to 1
        return [
            tf.math.erf(x),
            tf.math.erfc(x),
            tf.math.erfinv(inner),
            tf.asin(inner),
            tf.acos(inner),
            tf.atan(x),
            tf.asinh(x * 1e4),
            tf.acosh(x * 1e3),
            tf.atanh(inner),
            tf.tan(inner),
            tf.sinh(x / 4),
            tf.cosh(x / 4),
        ]

    check(compute, x.astype("float32")[None], 1e-6)


def test_near_zero_small_numbers_keep_their_digits() -> None:
    x = np.array([[1e-20, -1e-7, 1e-5, -1e-3]], "float32")

    def compute(x: Any) -> list[Any]:
        functions = (tf.math.erf, tf.asin, tf.atan, tf.asinh, tf.atanh, tf.sinh)
        return [function(x) for function in (*functions, tf.tan)]

    for found, expected in zip(answers(converted(compute, 1, 4), x), compute(x), strict=True):
        np.testing.assert_allclose(found, expected, rtol=3e-6)


def test_gelu_stays_one_operator_and_its_other_spellings_convert() -> None:
    def fused(x: Any) -> list[Any]:
        left, right, both = x - 1, x + 1, 2 * x
        return [
            tf.nn.gelu(left),
            right * 0.5 * (1 + tf.math.erf(right / 2**0.5)),
            keras.activations.gelu(both),
        ]

    def spelled(x: Any) -> list[Any]:
        return [0.5 * (1 + tf.math.erf(x / 2**0.5)) * x, x * 0.5 * (1 + tf.math.erf(x / 1.4142))]

    assert kinds(check(fused, noise(1, 16), 1e-6)).count("GELU") == 3
    assert "GELU" not in kinds(check(spelled, noise(1, 16), 1e-6))


def test_operators_that_move_values_or_bits_are_exact() -> None:
    def compute(x: Any) -> list[Any]:
        picture = tf.reshape(x[0, :90], (1, 6, 5, 3))
        whole = tf.cast(x * 1e9, tf.int32)
        other = tf.reverse(whole, [1])
        patches = tf.image.extract_patches
        return [
            patches(picture, (1, 3, 2, 1), (1, 2, 2, 1), (1, 1, 2, 1), "SAME"),
            patches(picture, (1, 3, 5, 1), (1, 3, 5, 1), (1, 1, 1, 1), "VALID"),
            tf.linalg.diag_part(tf.reshape(x[0, :90], (2, 9, 5)), k=-2),
            tf.bitwise.bitwise_and(whole, other),
            tf.bitwise.bitwise_or(whole, other),
            tf.bitwise.invert(whole),
            tf.bitwise.left_shift(whole, tf.cast(tf.abs(x * 9), tf.int32)),
            tf.searchsorted([[-1.0, 0, 0, 1]], x, side="right"),
            tf.searchsorted([[-1.0, 0, 0, 1]], tf.round(x)),
        ]

    check(compute, noise(1, 96), 0)


def test_products_along_an_axis_and_colours_agree() -> None:
    def compute(x: Any) -> list[Any]:
        colours = tf.sigmoid(tf.reshape(x, (1, 2, 8, 3)))
        rows = tf.reshape(x, (6, 8))
        return [
            tf.math.cumprod(rows, 1),
            tf.math.cumprod(rows, 0, exclusive=True, reverse=True),
            tf.linalg.cross(colours, colours[:, ::-1]),
            tf.image.rgb_to_hsv(colours),
            tf.image.hsv_to_rgb(colours),
            tf.image.adjust_hue(colours, 0.3),
            tf.image.adjust_saturation(colours, 1.7),
            tf.image.adjust_contrast(colours, 1.7),
        ]

    check(compute, noise(1, 48), 2e-6)


def test_every_interpolation_of_keras_resizes() -> None:
    picture = keras.Input((6, 7, 3), name="picture")
    outputs = [
        layers.Resizing(9, 4, interpolation=interpolation, antialias=antialias)(picture)
        for interpolation in ("bicubic", "lanczos3", "lanczos5")
        for antialias in (False, True)
    ]
    outputs.append(layers.Resizing(9, 4, interpolation="area")(picture))
    outputs.append(layers.UpSampling2D(2, interpolation="bicubic")(picture))
    model = keras.Model(picture, outputs)
    x = noise(1, 6, 7, 3)
    found = answers(read_tflite(convert_tflite(model)), x)
    for y, expected in zip(found, model(x), strict=True):
        np.testing.assert_allclose(y, expected, rtol=0, atol=2e-6)


def test_a_model_without_keras_converts_too(tmp_path: Path) -> None:
    class Spectrum(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((1, 12), tf.float32, "x")])
        def __call__(self, x: Any) -> dict[str, Any]:
            return {"y": tf.abs(tf.signal.fft(tf.cast(x, tf.complex64)))}

    tf.saved_model.save(Spectrum(), str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    function = loaded.signatures["serving_default"]
    x = noise(1, 12)
    frozen = freeze_function(
        function, name="m", inputs=[("x", tf.TensorSpec((1, 12)))], output_names=["y"]
    )
    (found,) = answers(read_tflite(convert_tflite(frozen)), x)
    np.testing.assert_allclose(found, np.abs(np.fft.fft(x)), atol=1e-5)


def test_equal_matrices_are_kept_once() -> None:
    def mix(x: Any) -> list[Any]:
        y = tf.reshape(x, (1, 64, 64))
        for _ in range(4):
            y = tf.math.real(tf.signal.fft2d(tf.cast(y, tf.complex64))) / 64
        return [y]

    matrix_bytes = 64 * 64 * 4
    model = check(mix, noise(1, 4096), 1e-5)
    assert len(model.data) < 4 * matrix_bytes


def test_an_operator_that_is_too_coarse_in_int8_is_refused_with_its_layer() -> None:
    x = keras.Input((4,), name="x")
    y = keras.layers.Dense(4, name="before")(x)
    model = keras.Model(x, keras.layers.Lambda(ops.arcsinh, name="curve")(y), name="m")
    samples = [[np.ones((1, 4), np.float32)]]
    with pytest.raises(
        ConversionError, match=r"Asinh in layer m/curve\. .* Choose --quantize dynamic or float16"
    ) as raised:
        convert_tflite(model, quantization="int8", calibration=samples)
    assert (raised.value.operators, raised.value.layers) == (("Asinh",), ("m/curve",))
    assert convert_tflite(model, quantization="dynamic")
