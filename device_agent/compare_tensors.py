"""Compare a stage's output with the host's output for the same input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edge_core.contract.messages import CommandError, ErrorCode
from edge_core.contract.tensors import decode_tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_core.contract.manifest import TensorSpec

#: Largest difference of floats, relative to the largest value of the tensor: processors add in
#: different orders, and a value near zero may be the difference of two large values.
RELATIVE_TOLERANCE = 1e-3
#: As RELATIVE_TOLERANCE, plus one step of a float16, which is up to 2**-10 of the value
#: (``--wire float16``).
FLOAT16_TOLERANCE = RELATIVE_TOLERANCE + 2**-10
#: Largest difference of integers: a quantized value may be rounded to the next step.
INTEGER_TOLERANCE = 1


def compare_tensors(specs: Sequence[TensorSpec], found: bytes, expected: bytes, what: str) -> float:
    """Return the largest absolute difference between two payloads; 0: equal bits.

    Args:
        specs: Tensors of both payloads.
        found: Payload computed on this board.
        expected: Payload computed on the host.
        what: Name of the stage in errors.

    Raises:
        CommandError: With ``wrong-result``: a tensor differs by more than the tolerance.
    """
    if found == expected:
        return 0.0
    ours, theirs = decode_tensors(specs, found), decode_tensors(specs, expected)
    largest = 0.0
    for spec in specs:
        if spec.dtype == "bool" or spec.size_bytes == 0:
            difference = float(np.any(ours[spec.name] != theirs[spec.name]))
            tolerance = 0.0
        else:
            wide = np.complex128 if spec.dtype.startswith("complex") else np.float64
            one, other = ours[spec.name].astype(wide), theirs[spec.name].astype(wide)
            both_nan = np.isnan(one) & np.isnan(other)
            gaps = np.where(both_nan | (one == other), 0.0, np.abs(one - other))
            difference = float(np.max(gaps))
            finite = np.abs(other[np.isfinite(other)])
            magnitude = float(np.max(finite)) if finite.size else 0.0
            relative = FLOAT16_TOLERANCE if spec.dtype == "float16" else RELATIVE_TOLERANCE
            tolerance = float(INTEGER_TOLERANCE) if "int" in spec.dtype else relative * magnitude
        # The comparison is negated so that NaN fails where the host has a number.
        if not difference <= tolerance:
            raise CommandError(
                ErrorCode.WRONG_RESULT,
                f"{what} gives another result on this board than on the host: {spec.name} differs "
                f"by up to {difference:.6g}; expected at most {tolerance:.6g}.",
            )
        largest = max(largest, difference)
    return largest
