"""Non-negative least squares: what fits measurements best when no part of them may be negative.

The problem: Lawson & Hanson, Solving Least Squares Problems (1974), chapter 23. Solved by
coordinate descent (Franc, Hlavac & Navara, 2005), which takes ten lines where there are some
dozens of unknowns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SWEEPS = 20_000
_CONVERGED = 1e-12


def fit_relative(
    terms: NDArray[np.float64], measured: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the ``x >= 0`` for which ``terms @ x`` has the least squared relative errors.

    Args:
        terms: ``(m, n)``, how often each unknown is in each measurement.
        measured: ``(m,)``, over 0.
        weight: ``(m,)``, how many times each measurement counts.

    Returns:
        float64, shape ``(n,)``.
    """
    target = np.sqrt(weight)
    weighted = terms * (target / measured)[:, None]
    # Columns of unit length: bytes and nanoseconds converge alike.
    length = np.linalg.norm(weighted, axis=0)
    length[length == 0] = 1
    scaled = weighted / length
    gram, pull = scaled.T @ scaled, scaled.T @ target
    found = np.zeros(len(pull))
    for _ in range(_SWEEPS):
        largest = 0.0
        for index in range(len(found)):
            value = max(0.0, float(found[index] + pull[index] - gram[index] @ found))
            largest = max(largest, abs(value - found[index]))
            found[index] = value
        if largest < _CONVERGED:
            break
    result: NDArray[np.float64] = found / length
    return result
