"""Check that every tensor has a value before an operator reads it. The functions are pure."""

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
    """Check that a model's operators can run in file order.

    Args:
        model_name: The model's name, for the error.
        found: The tensors of the main subgraph.
        constants: The main subgraph's constants, and its operators in file order.
        inputs: Tensor indexes of the model's inputs.
        outputs: Tensor indexes of the model's outputs.

    Raises:
        InvalidModelError: An operator reads a tensor that has no value yet, or writes a tensor that
            already has a value. Or an output of the model is a constant in the file, or no operator
            writes the output.
    """
    available = {*inputs, *constants.stored, *found.variables}
    for op in constants.operators:
        for tensor in op.inputs:
            if tensor not in available:
                raise cannot_split(
                    model_name,
                    f"operator {op.index} ({op.kind}) reads tensor {tensor}, which is not an "
                    "input, a constant or an output of an earlier operator. Convert the model "
                    "again",
                )
        for tensor in op.outputs:
            # A variable's first value may be stored as float16. The operator that converts this
            # constant then writes the variable.
            is_first_state = tensor in found.variables and constants.makers.get(tensor) == op.index
            if tensor in available and not is_first_state:
                raise cannot_split(
                    model_name,
                    f"operator {op.index} ({op.kind}) writes tensor {tensor}, which already has a "
                    "value. Convert the model again",
                )
            available.add(tensor)
    made = available - constants.stored - found.variables
    for tensor in outputs:
        if tensor not in made:
            raise cannot_split(
                model_name,
                f"output {found.tensors[tensor].name!r} does not depend on the inputs: it is a "
                "constant, or no operator computes it. Remove this output from the model",
            )
