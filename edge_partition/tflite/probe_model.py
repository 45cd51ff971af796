"""Run a ``.tflite`` file on this machine to find out the shapes of its tensors.

The file may come from anyone, and the runtime is native code. Therefore the model runs in a
separate process, so that a crash does no harm. For example, this command starts the process, and
gives a shape to the input that has tensor index 0:

    python -m edge_partition.tflite.probe_model FILE '{"0": [1, 224, 224, 3]}'
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_core.errors import EdgePartitionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from edge_partition.tflite.file_tables import Bytes

_TIMEOUT_S = 120
_CUSTOM = re.compile(r"unresolved custom op: ([^\s.]+)")


class CannotRunError(EdgePartitionError):
    """The TFLite runtime on this machine cannot run a model.

    Attributes:
        model_name: The model's name.
        reason: The runtime's error message.
        custom_operator: The first custom operator that the runtime lacks; None if the error has
            another reason.
    """

    def __init__(self, model_name: str, reason: str) -> None:
        self.model_name = model_name
        self.reason = reason
        custom = _CUSTOM.search(reason)
        self.custom_operator = custom[1] if custom else None
        super().__init__(
            f"{model_name} needs the custom operator {custom[1]}, which the TFLite runtime lacks, "
            "here and on the boards. Use another variant of the model, or ask its author for a "
            "variant with builtin operators only."
            if custom
            else f"{model_name} does not run in the TFLite runtime, here or on a board: {reason} "
            "Convert the model again for this runtime."
        )


@dataclass(frozen=True)
class ProbedShapes:
    """The shapes that the runtime gives to the tensors of a model's main subgraph.

    Attributes:
        shapes: Shapes by tensor index. If the model has operators that only XNNPACK implements,
            ``shapes`` contains only inputs and outputs.
        varying: Shapes of the tensors whose shape differs between runs, by tensor index. Each size
            that differs is -1. These tensors are not in ``shapes``.
        ran: Whether the model ran on two or more sets of input values. If False, ``shapes`` are the
            shapes before the first run.
    """

    shapes: Mapping[int, tuple[int, ...]]
    varying: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    ran: bool = False


def probe_model(
    name: str, data: Bytes, input_shapes: Mapping[int, Sequence[int]] | None = None
) -> ProbedShapes:
    """Run a model on zeros and on random numbers, and return the shapes of its tensors.

    Args:
        name: The model's name, for the error.
        data: The ``.tflite`` file.
        input_shapes: Shapes that the inputs get before the first run, by tensor index.

    Raises:
        CannotRunError: The model cannot be loaded, crashes on zeros, or takes too long. A crash on
            random numbers is no error, because the model may look up the numbers in a table that
            has fewer entries.
    """
    shapes = {str(index): list(shape) for index, shape in (input_shapes or {}).items()}
    with tempfile.TemporaryDirectory(prefix="edge-partition-") as scratch:
        file = Path(scratch) / "model.tflite"
        file.write_bytes(data)
        words = [
            sys.executable,
            "-m",
            "edge_partition.tflite.probe_model",
            str(file),
            json.dumps(shapes),
        ]
        try:
            result = subprocess.run(
                words, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise CannotRunError(name, f"the trial run took more than {_TIMEOUT_S} s.") from None
    found = list(_parsed(result.stdout))
    if found and "error" in found[0]:
        raise CannotRunError(name, found[0]["error"])
    if not any("zeros" in step for step in found):
        raise CannotRunError(name, f"the runtime crashed (exit status {result.returncode}).")
    return _compared(found)


def _parsed(text: str) -> Iterator[dict[str, Any]]:
    """Yield the steps of :func:`_probe` in the child process's output.

    If the process crashed, the steps before the crash are yielded.
    """
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return


def _compared(steps: list[dict[str, Any]]) -> ProbedShapes:
    runs = [
        {int(index): tuple(shape) for index, shape in shapes.items()}
        for step in steps
        for key, shapes in step.items()
        if key != "loaded" and shapes is not None
    ]
    if len(runs) < 2:  # noqa: PLR2004 - one run shows no difference
        loaded = steps[0]["loaded"]
        return ProbedShapes({int(index): tuple(shape) for index, shape in loaded.items()})
    shapes, varying = {}, {}
    for index, first in runs[0].items():
        seen = {run[index] for run in runs if index in run}
        if len(seen) == 1:
            shapes[index] = first
        elif {len(shape) for shape in seen} == {len(first)}:
            sizes = zip(*seen, strict=True)
            varying[index] = tuple(size[0] if len(set(size)) == 1 else -1 for size in sizes)
        else:
            varying[index] = (-1,) * len(first)
    return ProbedShapes(shapes, varying, ran=True)


def _probe(file: str, shapes: dict[str, list[int]]) -> Iterator[dict[str, Any]]:
    """Yield the shapes after each step: loading, a run on zeros, two runs on random numbers.

    Each step is a dict with one entry. The key is ``loaded``, ``zeros`` or ``random``. The value is
    the shapes by tensor index, or None for a failed run. If the model cannot be loaded, the only
    step has the key ``error`` and the runtime's message.
    """
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
        yield {"error": text if text.endswith(".") else f"{text}."}
        return
    try:
        # With XNNPACK, the tensors between operators cannot be read. But some operators exist
        # only in XNNPACK.
        interpreter = load(OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    except (RuntimeError, ValueError):
        interpreter = as_on_board

        def known() -> list[dict[str, Any]]:
            return [*interpreter.get_input_details(), *interpreter.get_output_details()]
    else:
        known = interpreter.get_tensor_details
        _run(as_on_board, None)
    yield {"loaded": _shapes(known())}
    yield {"zeros": _shapes(known()) if _run(interpreter, None) else None}
    # Integers are probably positions in a table of unknown length, so they stay below 2.
    for scale, positions in ((1, 1), (100, 2)):
        ran = _run(interpreter, np.random.default_rng(scale), scale, positions)
        yield {"random": _shapes(known()) if ran else None}


def _run(
    interpreter: Any,
    generator: np.random.Generator | None,
    scale: float = 1,
    positions: int = 1,
) -> bool:
    """Run the model on zeros or on random numbers, and return whether the run succeeded.

    Args:
        interpreter: The interpreter with the loaded model.
        generator: Generates the random numbers; None for zeros.
        scale: Standard deviation of random floats.
        positions: Random integers are below this number.
    """
    try:
        for detail in interpreter.get_input_details():
            values = _values(detail, generator, scale, positions)
            interpreter.set_tensor(detail["index"], values)
        interpreter.invoke()
    except (RuntimeError, ValueError):
        return False
    return True


def _values(
    detail: dict[str, Any], generator: np.random.Generator | None, scale: float, positions: int
) -> Any:
    shape, dtype = detail["shape"], np.dtype(detail["dtype"])
    if generator is None:
        return np.zeros(shape, dtype)
    if dtype.kind in "iu" and len(detail["quantization_parameters"]["scales"]):
        limits = np.iinfo(dtype)
        return generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    if dtype.kind in "iu":
        return generator.integers(0, positions, shape, dtype)
    if dtype.kind == "b":
        return generator.integers(0, 2, shape).astype(bool)
    return np.asarray(scale * generator.standard_normal(shape)).astype(dtype)


def _shapes(details: list[dict[str, Any]]) -> dict[str, list[int]]:
    return {str(item["index"]): [int(size) for size in item["shape"]] for item in details}


if __name__ == "__main__":
    for step in _probe(sys.argv[1], json.loads(sys.argv[2])):
        print(json.dumps(step), flush=True)  # noqa: T201 - a crash must not lose earlier steps
