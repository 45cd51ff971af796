"""What the runtime here makes of a ``.tflite`` file: its tensors' shapes, or why it cannot run it.

The file may come from anyone and the runtime is native code, so it is tried in a process of its
own, which can crash without harm.

    python -m edge_partition.probe_model FILE '{"0": [1, 224, 224, 3]}'
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from broker_config.errors import EdgePartitionError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge_partition.read_tflite import Bytes

_TIMEOUT_S = 120
_CUSTOM = re.compile(r"unresolved custom op: ([^\s.]+)")


class CannotRunError(EdgePartitionError):
    """The runtime here does not run a model.

    Attributes:
        model_name: Which model.
        reason: What the runtime said.
        custom_operator: The first custom operator that it has not, if that is the reason.
    """

    def __init__(self, model_name: str, reason: str) -> None:
        self.model_name = model_name
        self.reason = reason
        custom = _CUSTOM.search(reason)
        self.custom_operator = custom[1] if custom else None
        super().__init__(
            f"{model_name} needs the custom operator {custom[1]}, which the TFLite runtime has "
            "not, here or on a board. Convert the model with builtin operators only."
            if custom
            else f"{model_name} cannot be run by the TFLite runtime here, nor on a board: {reason} "
            "Convert the model again, for this runtime."
        )


def probe_model(
    name: str, data: Bytes, input_shapes: Mapping[int, Sequence[int]] | None = None
) -> dict[int, tuple[int, ...]]:
    """Load a model and run it on zeros and on random numbers.

    Args:
        name: For the error.
        data: The ``.tflite`` file.
        input_shapes: Inputs to resize first, by their place in the main subgraph.

    Returns:
        The shapes of the main subgraph's tensors, by index, those left out that changed from one
        run to the other. Where it loads and cannot be run on such inputs: as loading leaves them;
        where only XNNPACK has its operators: the inputs' alone.

    Raises:
        CannotRunError: It does not load, or crashes.
    """
    shapes = {str(index): list(shape) for index, shape in (input_shapes or {}).items()}
    with tempfile.TemporaryDirectory(prefix="edge-partition-") as scratch:
        file = Path(scratch) / "model.tflite"
        file.write_bytes(data)
        words = [sys.executable, "-m", "edge_partition.probe_model", str(file), json.dumps(shapes)]
        try:
            result = subprocess.run(
                words, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise CannotRunError(name, f"it takes more than {_TIMEOUT_S} s.") from None
    try:
        found = json.loads(result.stdout)
    except ValueError:
        raise CannotRunError(
            name, f"the runtime crashed on it (exit status {result.returncode})."
        ) from None
    if "error" in found:
        raise CannotRunError(name, found["error"])
    return {int(index): tuple(shape) for index, shape in found["shapes"].items()}


def _probe(file: str, shapes: dict[str, list[int]]) -> dict[str, Any]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType  # noqa: PLC0415

    def load(resolver: OpResolverType) -> Interpreter:
        interpreter = Interpreter(file, experimental_op_resolver_type=resolver)
        for index, shape in shapes.items():
            interpreter.resize_tensor_input(int(index), shape)
        interpreter.allocate_tensors()
        return interpreter

    try:
        as_on_board = load(OpResolverType.AUTO)
    except (RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())
        return {"error": text if text.endswith(".") else f"{text}."}
    try:
        # XNNPACK hides the tensors between its operators, but has some that nobody else has.
        interpreter = load(OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    except (RuntimeError, ValueError):
        _run(as_on_board, scale=0)
        return {"shapes": _shapes(as_on_board.get_input_details())}
    _run(as_on_board, scale=0)
    settled = _shapes(interpreter.get_tensor_details())
    runs = []
    for scale in (0, 1):
        if not _run(interpreter, scale=scale):
            return {"shapes": settled}
        runs.append(_shapes(interpreter.get_tensor_details()))
    return {"shapes": {index: shape for index, shape in runs[0].items() if runs[1][index] == shape}}


def _run(interpreter: Any, *, scale: float) -> bool:
    """Run on random numbers times ``scale``; return whether the runtime did."""
    generator = np.random.default_rng(1)
    try:
        for detail in interpreter.get_input_details():
            values = np.asarray(scale * generator.standard_normal(detail["shape"]))
            interpreter.set_tensor(detail["index"], values.astype(detail["dtype"]))
        interpreter.invoke()
    except (RuntimeError, ValueError):
        return False
    return True


def _shapes(details: list[dict[str, Any]]) -> dict[str, list[int]]:
    return {str(item["index"]): [int(size) for size in item["shape"]] for item in details}


if __name__ == "__main__":
    json.dump(_probe(sys.argv[1], json.loads(sys.argv[2])), sys.stdout)
