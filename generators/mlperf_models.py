"""The models of MLPerf Inference v2.0's times on a Raspberry Pi 4, rebuilt in Keras.

The times are those of one inference of TensorFlow Lite 2.7.1 with ruy. MobileNets are Keras's own.
Keras has no EfficientNet-Lite, so :func:`efficientnet_lite` builds one: EfficientNet (Tan and Le,
2019) with ReLU6 in place of swish, without squeeze-and-excite, and with an unscaled stem and head
(tensorflow/tpu, ``models/official/efficientnet/lite``).
"""

from __future__ import annotations

import math
import re
from typing import Any

#: Width, depth and resolution of EfficientNet-Lite 0 to 4.
_LITE = ((1.0, 1.0, 224), (1.0, 1.1, 240), (1.1, 1.2, 260), (1.2, 1.4, 280), (1.4, 1.8, 300))
#: Kernel size, repeats, filters, expansion and stride of EfficientNet-B0's groups of blocks.
_BLOCKS = (
    (3, 1, 16, 1, 1),
    (3, 2, 24, 6, 2),
    (5, 2, 40, 6, 2),
    (3, 3, 80, 6, 2),
    (5, 3, 112, 6, 1),
    (5, 4, 192, 6, 2),
    (3, 1, 320, 6, 1),
)
_QUANTIZED = re.compile(r"[-_](quantized|uint8)$")
_FLOAT = re.compile(r"[-_](non-quantized|float)$")


def split_name(name: str) -> tuple[str, bool]:
    """Return the network's part of a model's name, and whether the model is quantized."""
    if _FLOAT.search(name):
        return _FLOAT.sub("", name), False
    if _QUANTIZED.search(name):
        return _QUANTIZED.sub("", name), True
    raise ValueError(f"{name} does not end in float, non-quantized, quantized or uint8")


def build(network: str) -> Any:
    """Return the Keras model of a network such as ``mobilenet-v1-0.25-128``, without weights."""
    import keras  # noqa: PLC0415 -- takes seconds

    applications = keras.applications
    if found := re.fullmatch(r"efficientnet-lite(\d)", network):
        return efficientnet_lite(*_LITE[int(found[1])])
    if found := re.fullmatch(r"mobilenet-v([12])-([\d.]+)-(\d+)", network):
        kind = applications.MobileNet if found[1] == "1" else applications.MobileNetV2
        size = int(found[3])
        return kind(input_shape=(size, size, 3), alpha=float(found[2]), weights=None)
    found = re.fullmatch(r"mobilenet-v3-(large|small)(-minimalistic)?_(\d+)_([\d.]+)", network)
    if found is None:
        raise ValueError(f"no network is known by the name {network}")
    kind = applications.MobileNetV3Large if found[1] == "large" else applications.MobileNetV3Small
    size = int(found[3])
    return kind(
        input_shape=(size, size, 3),
        alpha=float(found[4]),
        minimalistic=found[2] is not None,
        weights=None,
        include_preprocessing=False,
    )


def efficientnet_lite(width: float, depth: float, resolution: int) -> Any:
    """Return an EfficientNet-Lite with 1000 classes, without weights."""
    import keras  # noqa: PLC0415 -- takes seconds

    inputs = keras.Input((resolution, resolution, 3))
    x = _convolution(inputs, 32, 3, stride=2)
    for group, (kernel, repeats, filters, expansion, stride) in enumerate(_BLOCKS):
        is_end = group in (0, len(_BLOCKS) - 1)
        for repeat in range(repeats if is_end else math.ceil(depth * repeats)):
            x = _block(x, kernel, _scaled(filters, width), expansion, 1 if repeat else stride)
    x = _convolution(x, 1280, 1)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(1000, activation="softmax")(x))


def _scaled(filters: int, width: float) -> int:
    """Return the nearest multiple of 8 that is at least 9/10 of ``filters * width``."""
    wanted = filters * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def _convolution(x: Any, filters: int, kernel: int, *, stride: int = 1, relu: bool = True) -> Any:
    import keras  # noqa: PLC0415 -- takes seconds

    x = keras.layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    return keras.layers.ReLU(6.0)(x) if relu else x


def _block(x: Any, kernel: int, filters: int, expansion: int, stride: int) -> Any:
    import keras  # noqa: PLC0415 -- takes seconds

    given, channels = x, x.shape[-1]
    if expansion > 1:
        x = _convolution(x, channels * expansion, 1)
    x = keras.layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False)(x)
    x = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(x))
    x = _convolution(x, filters, 1, relu=False)
    return keras.layers.Add()([given, x]) if stride == 1 and channels == filters else x
