"""The meaning of a model's outputs, such as labels with scores, or boxes.

The outputs are return values of a pipeline's ``infer``, ``map`` or ``stream``. The functions here
are pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edge_partition.answers.answers import describe_answer
from edge_partition.answers.outputs import Values
from edge_partition.client.errors import OutputsError
from edge_partition.client.result import Result

if TYPE_CHECKING:
    from edge_core.contract.manifest import Manifest
    from edge_partition.answers.answers import Answer
    from edge_partition.client.result import Outputs


def explain_outputs(manifest: Manifest, outputs: Result | Outputs, *, top: int) -> Answer:
    """Return the meaning of outputs: labels, values or boxes; see :meth:`Pipeline.answer`.

    Raises:
        OutputsError: The outputs are not the model's.
    """
    size = None
    if isinstance(outputs, Result):
        size, outputs = outputs.picture_size, outputs.outputs
    named = _name_outputs(manifest, outputs)
    return describe_answer(manifest, named, top=top, picture_size=size)


def best_labels(
    manifest: Manifest, outputs: Result | Outputs, *, top: int
) -> list[tuple[str, float]]:
    """Return pairs of label and score, best first; see :meth:`Pipeline.labels`.

    Raises:
        OutputsError: The outputs are not the model's, or they belong to several inputs.
    """
    answer = explain_outputs(manifest, outputs, top=top)
    if not answer.labels:
        _check_one_input(manifest, answer)
    return [(best.label, best.score) for best in answer.labels]


def _name_outputs(manifest: Manifest, outputs: Any) -> dict[str, np.ndarray]:
    """Return a dict of the output arrays by output name, from one array or a dict.

    Raises:
        OutputsError: The outputs are not the model's.
    """
    names = [spec.name for spec in manifest.outputs]
    if not isinstance(outputs, dict):
        if len(names) == 1:
            return {names[0]: _as_output(names[0], outputs)}
        given = "One array" if isinstance(outputs, np.ndarray) else type(outputs).__name__
        raise OutputsError(
            f"{given} given; expected a dict with an array for each of the outputs {names}."
        )
    missing = [name for name in names if name not in outputs]
    if missing:
        raise OutputsError(
            f"The dict has no outputs {missing}; expected an array for each of the outputs {names}."
        )
    return {name: _as_output(name, outputs[name]) for name in names}


def _as_output(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError:  # Lists of unequal lengths.
        array = np.asarray(None)
    if array.dtype.kind in "OSU":
        raise OutputsError(
            f"{type(value).__name__} given for output {name!r}; expected the return value of "
            "infer, map or stream: an array, a dict of arrays by output name, or a Result."
        )
    return array


def _check_one_input(manifest: Manifest, answer: Answer) -> None:
    """Check that no output has one row of scores for each of several inputs.

    Raises:
        OutputsError: An output has a row of scores for each of several inputs.
    """
    for spec, output in zip(manifest.outputs, answer.outputs, strict=True):
        rows = output.tensor.shape[0] if output.tensor.shape else 0
        are_rows = rows > 1 and output.tensor.values.size == rows * output.tensor.shape[-1]
        are_scores = bool(spec.scores) or output.tensor.shape[-1:] == (len(manifest.model.labels),)
        is_stack = spec.shape != output.tensor.shape and spec.shape[1:] == output.tensor.shape[1:]
        is_stack |= all(taken.shape[:1] == (rows,) for taken in manifest.inputs)
        if isinstance(output, Values) and are_rows and (are_scores or is_stack):
            raise OutputsError(
                f"Output {spec.name!r} has {rows} rows, one for each input; expected the outputs "
                "of one input. Call `labels(row)` with one row at a time."
            )
