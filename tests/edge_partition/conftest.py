from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


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
