"""float32 <-> float16 at a stage's ends: ``--wire float16``.

Rounding is to nearest even (IEEE 754-2019, section 4.3.1): a relative error of 2**-11 at most for
magnitudes of 2**-14 to 65,504, an absolute one of 2**-25 below.
"""

from __future__ import annotations

import numpy as np

#: The largest finite float16.
FLOAT16_MAX = 65504.0


def to_float16(values: np.ndarray) -> np.ndarray:
    """Return float32 ``values`` as little-endian float16 of the same shape.

    What is beyond float16's range becomes its largest finite value, 65,504 with the sign kept,
    where a plain conversion makes an infinity: the next stage would subtract two of those or
    multiply one by zero, and one large activation would turn the whole answer into NaN. Values
    that are infinite or NaN themselves stay so.
    """
    with np.errstate(over="ignore"):
        narrow = values.astype("<f2")
    overflowed = np.isinf(narrow)
    if overflowed.any():
        overflowed &= np.isfinite(values)
        narrow[overflowed] = np.copysign(np.float16(FLOAT16_MAX), values[overflowed])
    return narrow
