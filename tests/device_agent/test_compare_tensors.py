from __future__ import annotations

import numpy as np
import pytest

from device_agent.compare_tensors import compare_tensors
from edge_core.contract.manifest import TensorSpec
from edge_core.contract.messages import CommandError


def test_float16_may_differ_by_one_more_step_than_float32() -> None:
    specs = [TensorSpec("x", "float16", (3,))]
    expected = np.array([0, 1, 1.0], np.float16)
    step = np.nextafter(np.float16(1), np.float16(2))
    found = np.array([0, step, 1], np.float16)
    assert compare_tensors(specs, expected.tobytes(), expected.tobytes(), "Stage 0") == 0
    difference = compare_tensors(specs, found.tobytes(), expected.tobytes(), "Stage 0")
    assert difference == pytest.approx(2**-10)
    wrong = np.array([0, 1 + 3 * 2**-10, 1], np.float16)
    with pytest.raises(CommandError, match=r"x differs by up to 0\.0029"):
        compare_tensors(specs, wrong.tobytes(), expected.tobytes(), "Stage 0")


def test_float32_may_differ_by_a_thousandth_of_the_largest_value() -> None:
    specs = [TensorSpec("x", "float32", (2,))]
    expected = np.array([1, 100], np.float32)
    near, far = expected + np.float32(0.09), expected + np.float32(0.11)
    assert compare_tensors(specs, near.tobytes(), expected.tobytes(), "Stage 0") > 0
    with pytest.raises(CommandError, match=r"expected at most 0\.1"):
        compare_tensors(specs, far.tobytes(), expected.tobytes(), "Stage 0")
