"""Formulas for operators that TensorFlow has and TFLite lacks, by operators that TFLite has.

Results are TensorFlow's up to float32 rounding; maximum pooling, patches, bits and diagonals are
TensorFlow's bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_partition.model.axis_formulas import AXIS_FORMULAS
from edge_partition.model.elementwise_formulas import BIT_FORMULAS, ELEMENTWISE_FORMULAS
from edge_partition.model.image_formulas import IMAGE_FORMULAS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_partition.model.formula import Formula

#: Keys are TensorFlow's name of the operator and the dtype of its first input.
FORMULAS: Mapping[tuple[str, str], Formula] = {
    (name, dtype): formula
    for dtype, formulas in (
        ("float32", {**AXIS_FORMULAS, **ELEMENTWISE_FORMULAS, **IMAGE_FORMULAS}),
        ("int32", BIT_FORMULAS),
    )
    for name, formula in formulas.items()
}
