"""Conversion of float32 activations to float16 on the wire: ``--wire float16``.

Values round to nearest, ties to even (IEEE 754-2019, section 4.3.1). The relative error is at most
2**-11 for magnitudes from 2**-14 to 65,504; the absolute error is at most 2**-25 for smaller
magnitudes.
"""

from __future__ import annotations

import numpy as np

#: The largest finite float16.
FLOAT16_MAX = 65504.0


def to_float16(values: np.ndarray) -> np.ndarray:
    """Return float32 ``values`` as little-endian float16 of the same shape.

    A finite value beyond the range of float16 becomes 65,504 with the same sign. A plain conversion
    would make the value infinite. The next stage could then subtract two infinite values, or
    multiply one by zero, and the result would be NaN. Infinities and NaN in ``values`` do not
    change.
    """
    with np.errstate(over="ignore"):
        narrow = values.astype("<f2")
    overflowed = np.isinf(narrow)
    if overflowed.any():
        overflowed &= np.isfinite(values)
        narrow[overflowed] = np.copysign(np.float16(FLOAT16_MAX), values[overflowed])
    return narrow
