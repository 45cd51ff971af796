"""One stage's TFLite interpreter, for boards and for ``verify`` on the host.

Only this module depends on the installed runtime: ``ai-edge-litert``, or ``tflite-runtime`` on
boards without a wheel of ``ai-edge-litert``. The runtime is imported when the first model is
loaded, so the import of this module loads numpy but no runtime.

A payload has the tensors one after another, in the order of the manifest. Each tensor is
little-endian and in C order.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from edge_core.contract.tensors import payload_bytes
from edge_core.errors import (
    EdgePartitionError,
    ModelLoadError,
    PayloadError,
    RuntimeUnavailableError,
)
from edge_core.program.redirect_output import STDERR, redirect_output
from edge_core.runtime.payload_places import OutputTensor, find_inputs, find_outputs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edge_core.contract.manifest import TensorSpec

Payload: TypeAlias = bytes | bytearray | memoryview

_RUNTIMES = (
    ("ai_edge_litert.interpreter", "ai-edge-litert"),
    ("tflite_runtime.interpreter", "tflite-runtime"),
)
#: ``MADV_DONTNEED`` of madvise(2) on Linux.
_MADV_DONTNEED = 4
#: Positions of the state tensors among the inputs of the fused recurrent operators, from TensorFlow
#: Lite's kernels (``unidirectional_sequence_lstm.cc``, ``svdf.cc``, ...). ``reset_all_variables``
#: sets a state tensor to zeros, even if another operator computed the tensor's initial value.
_STATE_INPUTS = {
    "LSTM": (18, 19), "UNIDIRECTIONAL_SEQUENCE_LSTM": (18, 19), "SVDF": (4,), "RNN": (4,),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (4,), "BIDIRECTIONAL_SEQUENCE_RNN": (4, 8),
    "BIDIRECTIONAL_SEQUENCE_LSTM": (35, 36, 37, 38),
}  # fmt: skip
#: A second load of a model releases the file's mapped pages only if the file has at least this
#: size, in bytes. For a smaller file, the release takes too long for the memory that it frees.
_RELEASE_FROM_BYTES = 1 << 20
#: Operators with state that ``reset_all_variables`` keeps, and operators that call subgraphs, which
#: may have such state. The function resets variable tensors, but neither resource variables nor
#: random generators.
_KEEPS_STATE = frozenset(
    {
        "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE", "IF", "WHILE", "CALL",
        "RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL", "MULTINOMIAL",
    }
)  # fmt: skip


def runtime_name() -> str:
    """Return the runtime's name and version, such as ``ai-edge-litert 2.3.0``.

    Raises:
        RuntimeUnavailableError: No runtime is installed.
    """
    _, distribution = _import_runtime()
    return f"{distribution} {metadata.version(distribution)}"


class InvokeError(EdgePartitionError):
    """A loaded model failed to run."""


class StageInterpreter:
    """A stage that the TFLite runtime has loaded.

    A tensor may be float16 in the manifest and float32 in the model's file. Such an input is
    converted to float32, and such an output to float16
    (:func:`~edge_core.contract.narrow_floats.to_float16`).

    A model may keep state between requests. With ``state="reset"``, each :meth:`invoke` starts from
    the initial state, bit-identical to the state of a new interpreter. With ``state="keep"``, each
    :meth:`invoke` continues from the state after the previous call; :meth:`start_over` restores the
    initial state.

    Not thread-safe: one thread at a time may call :meth:`invoke`, which releases the GIL while the
    runtime computes.

    Attributes:
        input_bytes: Size of a request's payload, in bytes.
        output_bytes: Size of a result's payload, in bytes.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        *,
        num_threads: int,
        by_position: bool = False,
        state: str = "",
    ) -> None:
        """Load a stage.

        Args:
            model: Path of the ``.tflite`` file, which the runtime maps; or the file's bytes.
            inputs: Tensors of a request's payload, in order. The file may have fewer inputs.
            outputs: Tensors of a result's payload, in order. Each is an output of the file, or one
                of ``inputs`` that the stage passes on unchanged.
            num_threads: Number of threads of the runtime.
            by_position: Whether to match the file's tensors with ``inputs`` and ``outputs`` by
                order instead of by name. A model from another program may have tensors without
                names or with equal names.
            state: What happens to the stage's state between requests, one of
                :data:`~edge_core.contract.manifest.STATES`; empty: the model keeps no state.

        Raises:
            RuntimeUnavailableError: No runtime is installed.
            ModelLoadError: The runtime cannot load the model, or the model's tensors do not match
                ``inputs`` and ``outputs``.
        """
        self.input_bytes = payload_bytes(inputs)
        self.output_bytes = payload_bytes(outputs)
        label = f"A model of {len(model):,} bytes" if isinstance(model, bytes) else os.fspath(model)
        self._model = model  # The runtime keeps pointers into the bytes.
        self._label, self._num_threads = label, num_threads
        self._interpreter = _load(model, label, num_threads)
        self._state = state
        self._is_used = False
        self._can_be_reset = bool(state) and _can_be_reset(self._interpreter)
        self._inputs = find_inputs(
            label, self._interpreter.get_input_details(), inputs, by_position=by_position
        )
        self._outputs = find_outputs(
            label, self._interpreter.get_output_details(), inputs, outputs, by_position=by_position
        )

    def start_over(self) -> None:
        """Restore the initial state, bit-identical to the state of a new interpreter.

        If variable tensors have all the state, they are reset in place. A model with other state,
        such as resource variables, is loaded again, because an interpreter initializes resource
        variables only once. For a model that keeps no state, this method does nothing.

        Raises:
            ModelLoadError: The runtime cannot load the model.
        """
        if not (self._state and self._is_used):
            return
        if self._can_be_reset:
            self._interpreter.reset_all_variables()
        else:
            # Free the old interpreter's memory before the new one needs its own.
            self._interpreter = None
            self._interpreter = _load(self._model, self._label, self._num_threads, again=True)
        self._is_used = False

    def invoke(self, payload: Payload) -> bytes:
        """Run the stage once; return a copy of the outputs, :attr:`output_bytes` bytes in all.

        Arguments and errors are those of :meth:`invoke_in_place`.
        """
        # The join is the only copy. After the join, no view of the runtime's memory is left.
        return b"".join(self.invoke_in_place(payload))

    def invoke_in_place(self, payload: Payload) -> list[memoryview]:
        """Run the stage once; return views of the outputs, without copying them.

        Args:
            payload: The stage's inputs, :attr:`input_bytes` bytes.

        Returns:
            One view for each output, in order; together they have :attr:`output_bytes` bytes. The
            views point into the runtime's memory or into ``payload``, so the caller must drop the
            views before the next call.

        Raises:
            PayloadError: The payload does not have :attr:`input_bytes` bytes.
            InvokeError: The runtime failed, or the outputs do not have :attr:`output_bytes` bytes.
        """
        view = memoryview(payload).cast("B")
        if len(view) != self.input_bytes:
            raise PayloadError(
                f"The payload has {len(view):,} bytes; expected {self.input_bytes:,}."
            )
        if self._state == "reset" or self._interpreter is None:
            self.start_over()
        interpreter, self._is_used = self._interpreter, True
        try:
            for source in self._inputs:
                interpreter.set_tensor(source.tensor_index, source.read(view))
            interpreter.invoke()
            parts = [
                _bytes_of(
                    output.encode(interpreter.tensor(output.tensor_index)())
                    if isinstance(output, OutputTensor)
                    else output.encode(view)
                )
                for output in self._outputs
            ]
        except (RuntimeError, ValueError) as error:
            raise InvokeError(f"The TFLite runtime failed: {_one_line(error)}") from error
        made_bytes = sum(map(len, parts))
        if made_bytes != self.output_bytes:
            raise InvokeError(
                f"The stage's outputs have {made_bytes:,} bytes; expected {self.output_bytes:,} as "
                "in the manifest. The outputs' shapes are not fixed; convert the model with fixed "
                "shapes."
            )
        return parts


def _bytes_of(values: np.ndarray | memoryview) -> memoryview:
    """Return an array's bytes in C order; return a memoryview of bytes unchanged."""
    if isinstance(values, memoryview):
        return values
    try:
        return values.data.cast("B")
    except (TypeError, ValueError):
        # The method cast of memoryview fails for arrays without elements, for dtypes such as
        # complex64, and for arrays that are not in C order.
        return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


def _import_runtime() -> tuple[Any, str]:
    reasons = []
    for module, distribution in _RUNTIMES:
        try:
            return importlib.import_module(module), distribution
        except (ImportError, AttributeError) as error:  # tflite-runtime needs numpy 1.
            reasons.append(f"{distribution}: {_one_line(error)}")
    raise RuntimeUnavailableError(
        f"No TFLite runtime can be imported ({'; '.join(reasons)}). "
        "Install one with `pip install ai-edge-litert`."
    )


def _load(
    model: str | os.PathLike[str] | bytes, label: str, num_threads: int, *, again: bool = False
) -> Any:
    runtime, distribution = _import_runtime()
    source = (
        {"model_content": model} if isinstance(model, bytes) else {"model_path": os.fspath(model)}
    )
    try:
        # The runtime prints its INFO lines once per process.
        with contextlib.nullcontext() if again else _without_chatter():
            interpreter = runtime.Interpreter(**source, num_threads=num_threads)
            interpreter.allocate_tensors()
        if not isinstance(model, bytes) and not (
            again and Path(model).stat().st_size < _RELEASE_FROM_BYTES
        ):
            _release_file(model)
    except (RuntimeError, ValueError, TypeError, MemoryError) as error:
        raise ModelLoadError(
            f"{distribution} cannot load {label}: {_one_line(error)} "
            "Compare the file's SHA-256 digest with the manifest, or split the model again."
        ) from error
    return interpreter


def _can_be_reset(interpreter: Any) -> bool:
    """Return whether ``reset_all_variables`` restores the whole initial state of the model."""
    if not hasattr(interpreter, "_get_ops_details"):
        return False
    operators = interpreter._get_ops_details()  # noqa: SLF001 -- no public method lists operators
    made = {int(index) for item in operators for index in item["outputs"]}
    states = {
        int(item["inputs"][place])
        for item in operators
        for place in _STATE_INPUTS.get(item["op_name"], ())
        if place < len(item["inputs"])
    }
    return made.isdisjoint(states) and _KEEPS_STATE.isdisjoint(
        item["op_name"] for item in operators
    )


def _release_file(path: str | os.PathLike[str]) -> None:
    """Release the memory of a model file's mapped pages; a later read loads a page again.

    XNNPACK has its own packed copy of the weights and no longer reads the mapped weights. Without
    this release, the mapped weights stay in memory too: 97 MiB of the 246 MiB of resident memory
    that ResNet50 took. The runtime's Interpreter has no option for the release (LiteRT 2.3).
    """
    name = os.path.realpath(path)
    with contextlib.suppress(OSError, AttributeError):
        advise = ctypes.CDLL(None).madvise
        advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        # Linux only; proc(5): address range, permissions, offset, device, inode, path.
        for line in Path("/proc/self/maps").read_text(errors="replace").splitlines():
            fields = line.split(maxsplit=5)
            if fields[-1] == name and fields[1].startswith("r-"):
                start, end = (int(address, 16) for address in fields[0].split("-"))
                advise(start, end - start, _MADV_DONTNEED)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if text.endswith(".") else f"{text}."


@contextlib.contextmanager
def _without_chatter() -> Iterator[None]:
    """Keep the runtime's ``INFO`` lines from the terminal.

    The runtime writes these lines to file descriptor 2 from C++, and Python cannot switch them off.
    So all output goes to a temporary file first. Then all lines except the ``INFO`` lines are
    written to standard error.
    """
    with tempfile.TemporaryFile() as held:
        try:
            with redirect_output(held, STDERR):
                yield
        finally:
            held.seek(0)
            kept = b"".join(line for line in held if not line.startswith(b"INFO: "))
            if kept:
                with contextlib.suppress(OSError):
                    os.write(STDERR, kept)
