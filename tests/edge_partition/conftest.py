from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session", autouse=True)
def _converter() -> Iterator[None]:
    """One child converts the models of all tests of this process, and starts with the first."""
    from edge_partition.model.converter_process import kept_converter  # noqa: PLC0415 -- numpy

    with kept_converter():
        yield


@pytest.fixture(scope="session")
def small_mobilenet() -> Callable[[str], bytes]:
    """``quantization -> .tflite`` of one MobileNetV3Small (96 x 96, 10 logits), seeded weights."""
    import keras  # noqa: PLC0415 - seconds, which other tests need not take
    import numpy as np  # noqa: PLC0415

    from edge_partition.model.convert_tflite import convert_tflite  # noqa: PLC0415
    from edge_partition.model.seeded_weights import seed_weights  # noqa: PLC0415
    from edge_partition.model.wrap_operations import wrap_operations  # noqa: PLC0415

    model = wrap_operations(
        keras.applications.MobileNetV3Small(
            input_shape=(96, 96, 3), weights=None, classes=10, classifier_activation=None
        )
    )
    seed_weights(model)

    @cache
    def convert(quantization: str) -> bytes:
        calibration = None
        if quantization == "int8":
            rng = np.random.default_rng(1)
            calibration = [
                [rng.uniform(0, 255, (1, 96, 96, 3)).astype(np.float32)] for _ in range(2)
            ]
        return convert_tflite(model, quantization=quantization, calibration=calibration)

    return convert
