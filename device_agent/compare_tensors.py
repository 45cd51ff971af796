"""Compare a stage's output with the host's output for the same input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edge_core.contract.messages import CommandError, ErrorCode
from edge_core.contract.tensors import decode_tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_core.contract.manifest import TensorSpec

#: Largest allowed difference between floats, as a fraction of the tensor's largest absolute value.
#: Processors add the same values in different orders, and round differently. The fraction is not of
#: the value itself, because a value near zero may be the difference of two large values.
RELATIVE_TOLERANCE = 1e-3
#: The same for float16 values (``--wire float16``): RELATIVE_TOLERANCE, plus the step from one
#: float16 value to the next, which is up to 2**-10 of the value.
FLOAT16_TOLERANCE = RELATIVE_TOLERANCE + 2**-10
#: Largest allowed difference between integers: rounding may move a quantized value by one step.
INTEGER_TOLERANCE = 1


def compare_tensors(specs: Sequence[TensorSpec], found: bytes, expected: bytes, what: str) -> float:
    """Return the largest absolute difference between the values of two payloads.

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
        # If only one of the values is NaN, the difference is NaN. `difference > tolerance` would be
        # false then, and the wrong result would pass.
        if not difference <= tolerance:
            raise CommandError(
                ErrorCode.WRONG_RESULT,
                f"{what} gives another result on this board than on the host: the tensor "
                f"{spec.name} differs by up to {difference:.6g}; expected at most {tolerance:.6g}. "
                "Try another version of the TFLite runtime on this board.",
            )
        largest = max(largest, difference)
    return largest
