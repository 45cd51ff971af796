from __future__ import annotations

import warnings

import numpy as np
import pytest

from edge_core.contract.narrow_floats import to_float16


def test_values_are_rounded_to_the_nearest_float16() -> None:
    values = np.array([[0.1, -1.0], [1 + 2**-11, 1 + 3 * 2**-11]], np.float32)
    expected = np.array([[0.1, -1.0], [1, 1 + 2**-9]], np.float16)
    narrow = to_float16(values)
    assert narrow.dtype == np.dtype("<f2")
    np.testing.assert_array_equal(narrow, expected)
    assert not np.array_equal(narrow.astype(np.float32), values)


def test_values_out_of_range_keep_their_sign_and_infinities_and_nan_do_not_change() -> None:
    values = np.array([65519, 65520, 1e30, -1e9, np.inf, -np.inf, np.nan, 1e-9], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        narrow = to_float16(values)
    expected = np.array([65504, 65504, 65504, -65504, np.inf, -np.inf, np.nan, 0], np.float16)
    np.testing.assert_array_equal(narrow, expected)
    # With a plain conversion the sum of a large and a very negative value would be NaN.
    with np.errstate(all="ignore"):
        plain = values.astype(np.float16)
        assert np.isnan(plain[2] + plain[3])
    assert np.isfinite(narrow[2] + narrow[3])


@pytest.mark.parametrize("shape", [(), (0, 3)])
def test_scalars_and_empty_tensors_are_narrowed(shape: tuple[int, ...]) -> None:
    narrow = to_float16(np.full(shape, -1e6, np.float32))
    assert narrow.shape == shape
    assert (narrow == -65504).all()
