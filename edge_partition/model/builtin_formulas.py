"""Formulas that compute TensorFlow's operators with TFLite's operators.

A formula exists only for operators that TFLite lacks. Results differ from TensorFlow's results by
float32 rounding only. Results of maximum pooling, patches, bit operations and diagonals are
identical to TensorFlow's results.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_partition.model.axis_formulas import AXIS_FORMULAS
from edge_partition.model.elementwise_formulas import BIT_FORMULAS, ELEMENTWISE_FORMULAS
from edge_partition.model.image_formulas import IMAGE_FORMULAS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_partition.model.formula import Formula

#: The formula for each operator, by TensorFlow's operator name and the dtype of the first input.
FORMULAS: Mapping[tuple[str, str], Formula] = {
    (name, dtype): formula
    for dtype, formulas in (
        ("float32", {**AXIS_FORMULAS, **ELEMENTWISE_FORMULAS, **IMAGE_FORMULAS}),
        ("int32", BIT_FORMULAS),
    )
    for name, formula in formulas.items()
}
