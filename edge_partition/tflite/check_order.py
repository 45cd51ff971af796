"""Check that every value is available before an operator reads it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_partition.tflite.file_tables import cannot_split

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge_partition.tflite.find_constants import Constants
    from edge_partition.tflite.read_tensors import FileTensors


def check_order(
    model_name: str,
    found: FileTensors,
    constants: Constants,
    inputs: Iterable[int],
    outputs: Iterable[int],
) -> None:
    """Check the data flow of a main subgraph.

    Raises:
        InvalidModelError: An operator reads a tensor without a value, or writes a tensor that
            already has a value; or an output does not depend on the inputs.
    """
    available = {*inputs, *constants.stored, *found.variables}
    for op in constants.operators:
        for tensor in op.inputs:
            if tensor not in available:
                raise cannot_split(
                    model_name,
                    f"operator {op.index} ({op.kind}) reads tensor {tensor}, which is not "
                    "an input, a constant or an output of an earlier operator",
                )
        for tensor in op.outputs:
            # The first value of a state may be a constant of another type, such as float16.
            is_first_state = tensor in found.variables and constants.makers.get(tensor) == op.index
            if tensor in available and not is_first_state:
                raise cannot_split(
                    model_name,
                    f"operator {op.index} ({op.kind}) writes tensor {tensor}, which already has a "
                    "value",
                )
            available.add(tensor)
    made = available - constants.stored - found.variables
    for tensor in outputs:
        if tensor not in made:
            raise cannot_split(
                model_name,
                f"output {found.tensors[tensor].name!r} does not depend on the inputs: it is a "
                "constant, or no operator makes it. Remove this output from the model",
            )
