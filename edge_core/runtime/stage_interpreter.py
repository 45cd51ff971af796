"""One stage's TFLite interpreter, the same on boards and in the host's ``verify``.

The only place that knows which runtime is installed: ``ai-edge-litert``, or ``tflite-runtime`` on
boards that it has no wheel for. The runtime is imported when the first model is loaded, so that
importing this module costs nothing but numpy.

Payloads are tensors in manifest order, each as C-order little-endian bytes, one after another
(DESIGN, "Tensors on the wire").
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from edge_core.contract.manifest import TensorSpec
from edge_core.contract.narrow_floats import to_float16
from edge_core.contract.tensors import payload_bytes, wire_dtype
from edge_core.errors import (
    EdgePartitionError,
    ModelLoadError,
    PayloadError,
    RuntimeUnavailableError,
)
from edge_core.program.redirect_output import STDERR, redirect_output

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Payload: TypeAlias = bytes | bytearray | memoryview

_RUNTIMES = (
    ("ai_edge_litert.interpreter", "ai-edge-litert"),
    ("tflite_runtime.interpreter", "tflite-runtime"),
)
#: madvise(2), on Linux.
_MADV_DONTNEED = 4
#: The inputs of the fused recurrent operators that are their state, as the kernels of TensorFlow
#: Lite number them (``unidirectional_sequence_lstm.cc``, ``svdf.cc``, ...). What sets them back
#: knows of zeros alone, and not of what another operator gave them to start with.
_STATE_INPUTS = {
    "LSTM": (18, 19), "UNIDIRECTIONAL_SEQUENCE_LSTM": (18, 19), "SVDF": (4,), "RNN": (4,),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (4,), "BIDIRECTIONAL_SEQUENCE_RNN": (4, 8),
    "BIDIRECTIONAL_SEQUENCE_LSTM": (35, 36, 37, 38),
}  # fmt: skip
#: A file whose memory is not worth the time that giving it back takes, where that is often.
_FEW_BYTES = 1 << 20
#: Operators whose state, or that of what they call, ``reset_all_variables`` leaves as it is: it
#: sets variable tensors back, resource variables and random generators not.
_LASTING = frozenset(
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
    """A model that was loaded failed to run."""


class _Slot(NamedTuple):
    """A tensor of the file and its place in the payload; ``dtype`` is the payload's."""

    tensor_index: int
    place: slice
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_narrowed: bool


@dataclass(frozen=True)
class _Recast:
    """A tensor that is passed on in another width of float than it came in."""

    place: slice
    given: str
    wanted: str

    def of(self, view: memoryview) -> Any:
        values = np.frombuffer(view[self.place], wire_dtype(self.given))
        return to_float16(values) if self.wanted == "float16" else values.astype(np.float32)


class StageInterpreter:
    """A stage's model, loaded and ready to run.

    Where the manifest says float16 and the file's tensor is float32, values are widened on the way
    in and narrowed on the way out (:func:`~edge_core.contract.narrow_floats.to_float16`).

    Where the model keeps state, ``state`` says what becomes of it: with ``reset`` each
    :meth:`invoke` starts from the initial state, as on an interpreter that was just made; with
    ``keep`` it goes on from the one before, until :meth:`start_over`.

    Not thread-safe: one thread at a time may call :meth:`invoke`, which releases the GIL while the
    runtime computes.

    Attributes:
        input_bytes: Bytes of a request's payload.
        output_bytes: Bytes of a result.
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
            model: Path of the ``.tflite`` file, which the runtime maps; or its bytes.
            inputs: What a payload holds, in its order. Tensors that the file does not read are
                passed over, or passed on where ``outputs`` names them.
            outputs: What a result holds, in its order: outputs of the file, or of ``inputs``.
            num_threads: Threads that the runtime computes with.
            by_position: The file's first input is the first of ``inputs``, and so on, whatever
                their names: a whole model from elsewhere may have tensors without one, or several
                of one name.
            state: One of :data:`~edge_core.contract.manifest.STATES`; empty: the model keeps none.

        Raises:
            RuntimeUnavailableError: No runtime is installed.
            ModelLoadError: The runtime does not take the model, or its tensors are not the ones
                that were named.
        """
        self.input_bytes = payload_bytes(inputs)
        self.output_bytes = payload_bytes(outputs)
        label = f"A model of {len(model):,} bytes" if isinstance(model, bytes) else os.fspath(model)
        self._model = model  # the runtime keeps pointers into bytes it was given
        self._label, self._num_threads = label, num_threads
        self._interpreter = _load(model, label, num_threads)
        self._state = state
        self._is_used = False
        self._can_be_reset = bool(state) and _can_be_reset(self._interpreter)
        takes, makes = (
            _rename(details, specs) if by_position else {item["name"]: item for item in details}
            for details, specs in (
                (self._interpreter.get_input_details(), inputs),
                (self._interpreter.get_output_details(), outputs),
            )
        )
        places = _places(inputs)
        missing = takes.keys() - places.keys()
        if missing:
            raise ModelLoadError(
                f"{label} reads {', '.join(sorted(missing))}, which the manifest's inputs "
                f"({', '.join(places)}) lack. Split the model again."
            )
        self._reads = [
            _slot(label, takes[spec.name], spec, places[spec.name])
            for spec in inputs
            if spec.name in takes
        ]
        # An output is the slot that makes it, or the place in the payload that holds it already.
        self._writes: list[_Slot | _Recast | slice] = []
        offset = 0
        for spec in outputs:
            place = slice(offset, offset + spec.size_bytes)
            offset = place.stop
            if spec.name in makes:
                self._writes.append(_slot(label, makes[spec.name], spec, place))
            elif spec in inputs:
                self._writes.append(places[spec.name])
            elif (given := _same_but_for_width(spec, inputs)) is not None:
                self._writes.append(_Recast(places[spec.name], given.dtype, spec.dtype))
            else:
                raise ModelLoadError(
                    f"{label} does not make {spec}, and it is not among the stage's inputs. "
                    "Split the model again."
                )

    def start_over(self) -> None:
        """Go back to the initial state, that of an interpreter which was just made, bit for bit.

        Variable tensors are set back in place. Resource variables are not: what sets them runs once
        an interpreter, so the model is loaded again. Of a model without state this does nothing.

        Raises:
            ModelLoadError: The runtime no longer takes the model.
        """
        if not (self._state and self._is_used):
            return
        if self._can_be_reset:
            self._interpreter.reset_all_variables()
        else:
            # The old one's memory goes first, so that two are never held.
            self._interpreter = None
            self._interpreter = _load(self._model, self._label, self._num_threads, again=True)
        self._is_used = False

    def invoke(self, payload: Payload) -> bytes:
        """Run the stage once.

        Args:
            payload: The stage's inputs, :attr:`input_bytes` long.

        Returns:
            The stage's outputs, :attr:`output_bytes` long.

        Raises:
            PayloadError: The payload has another size.
            InvokeError: The runtime failed, or made an output of another size.
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
            for slot in self._reads:
                source = np.frombuffer(view[slot.place], slot.dtype).reshape(slot.shape)
                if slot.is_narrowed:
                    source = source.astype(np.float32)
                interpreter.set_tensor(slot.tensor_index, source)
            interpreter.invoke()
            # tensor() gives views of the runtime's memory: joining them is the only copy made.
            result = b"".join(
                _read(interpreter, write)
                if isinstance(write, _Slot)
                else view[write]
                if isinstance(write, slice)
                else write.of(view)
                for write in self._writes
            )
        except (RuntimeError, ValueError) as error:
            raise InvokeError(f"The TFLite runtime failed: {_one_line(error)}") from error
        if len(result) != self.output_bytes:
            raise InvokeError(
                f"The stage made {len(result):,} bytes; the manifest says {self.output_bytes:,}. "
                "Its model has outputs of no fixed shape; convert it with fixed shapes."
            )
        return result


def _same_but_for_width(spec: TensorSpec, given: Sequence[TensorSpec]) -> TensorSpec | None:
    """Return the same tensor among ``given``, there in the other of two widths of float."""
    for other in given:
        if (other.name, other.shape) == (spec.name, spec.shape) and {other.dtype, spec.dtype} == {
            "float32",
            "float16",
        }:
            return other
    return None


def _import_runtime() -> tuple[Any, str]:
    reasons = []
    for module, distribution in _RUNTIMES:
        try:
            return importlib.import_module(module), distribution
        except (ImportError, AttributeError) as error:  # numpy 2 breaks tflite-runtime on import
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
        # What the runtime has to say it says once a process.
        with contextlib.nullcontext() if again else _without_chatter():
            interpreter = runtime.Interpreter(**source, num_threads=num_threads)
            interpreter.allocate_tensors()
        if not isinstance(model, bytes) and not (again and Path(model).stat().st_size < _FEW_BYTES):
            _release_file(model)
    except (RuntimeError, ValueError, TypeError, MemoryError) as error:
        raise ModelLoadError(
            f"{distribution} does not take {label}: {_one_line(error)} "
            "Check the file against the manifest's sha256, or split the model again."
        ) from error
    return interpreter


def _can_be_reset(interpreter: Any) -> bool:
    """Whether ``reset_all_variables`` brings back the initial state."""
    if not hasattr(interpreter, "_get_ops_details"):
        return False
    operators = interpreter._get_ops_details()  # noqa: SLF001 -- the only way to the operators
    made = {int(index) for item in operators for index in item["outputs"]}
    states = {
        int(item["inputs"][place])
        for item in operators
        for place in _STATE_INPUTS.get(item["op_name"], ())
        if place < len(item["inputs"])
    }
    return made.isdisjoint(states) and _LASTING.isdisjoint(item["op_name"] for item in operators)


def _release_file(path: str | os.PathLike[str]) -> None:
    """Give the memory of a mapped model's pages back; what is read of them comes from the file.

    XNNPACK has packed a copy of the weights by now, and reads the mapped ones no more: without
    this they stay resident as well, 97 MiB of ResNet50's 246. The runtime's Interpreter has no
    option for it (LiteRT 2.3; its CompiledModel can keep the packed copy in a file instead).
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


def _rename(
    details: Sequence[dict[str, Any]], specs: Sequence[TensorSpec]
) -> dict[str, dict[str, Any]]:
    """Return the file's tensors under the names of ``specs``, which stand in the same order."""
    # A file may name one tensor as two of its outputs.
    distinct = {detail["index"]: detail for detail in details}
    return dict(zip((spec.name for spec in specs), distinct.values(), strict=False))


def _places(specs: Sequence[TensorSpec]) -> dict[str, slice]:
    places = {}
    offset = 0
    for spec in specs:
        places[spec.name] = slice(offset, offset + spec.size_bytes)
        offset += spec.size_bytes
    return places


def _slot(label: str, detail: dict[str, Any], spec: TensorSpec, place: slice) -> _Slot:
    found = TensorSpec(
        spec.name, np.dtype(detail["dtype"]).name, tuple(int(size) for size in detail["shape"])
    )
    is_narrowed = (found.dtype, spec.dtype) == ("float32", "float16")
    if found != spec and not (is_narrowed and found.shape == spec.shape):
        raise ModelLoadError(
            f"{label} has {found} where the manifest says {spec}. Split the model again."
        )
    return _Slot(detail["index"], place, wire_dtype(spec.dtype), spec.shape, is_narrowed)


def _read(interpreter: Any, slot: _Slot) -> Any:
    values = interpreter.tensor(slot.tensor_index)()
    return to_float16(values) if slot.is_narrowed else values


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if text.endswith(".") else f"{text}."


@contextlib.contextmanager
def _without_chatter() -> Iterator[None]:
    """Keep the runtime's ``INFO`` lines from the terminal.

    It writes them to file descriptor 2 from C++ and offers Python no switch. What is written
    meanwhile goes to a temporary file, and from there, but for those lines, where it was meant to.
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
