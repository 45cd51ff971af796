"""Fit non-negative unknowns to measurements by least squares.

Lawson & Hanson describe the problem: Solving Least Squares Problems (1974), chapter 23. The method
is coordinate descent (Franc, Hlavac & Navara, 2005). This method needs little code, and it is fast
for a few dozen unknowns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Largest number of sweeps over all unknowns.
_SWEEPS = 20_000
#: The descent ends when a sweep changes no scaled unknown by this number or more.
_CONVERGED = 1e-12


def fit_relative(
    terms: NDArray[np.float64], measured: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the ``x >= 0`` for which ``terms @ x`` is closest to ``measured``.

    The closest ``x`` has the least ``sum(weight * error**2)``. The errors are relative:
    ``error = (terms @ x - measured) / measured``. There are ``m`` measurements and ``n`` unknowns.

    Args:
        terms: ``(m, n)``, coefficient of each unknown in each measurement.
        measured: ``(m,)``, the measurements, above 0.
        weight: ``(m,)``, weight of each measurement.

    Returns:
        ``x``: float64, shape ``(n,)``.
    """
    target = np.sqrt(weight)
    weighted = terms * (target / measured)[:, None]
    # Columns are scaled to unit length, so unknowns with different units converge equally fast.
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
