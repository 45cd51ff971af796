"""Run TFLite's converter in a child process, and explain a crash of the converter.

The child process runs :func:`main`, which loads TensorFlow and reads requests from standard input.
A request is one line of JSON, which names a folder. The child converts the model in this folder,
writes the ``.tflite`` file into the folder, and writes one line of JSON to standard output as the
answer. The child ends when its standard input is closed.

A child converts one model. Within :func:`kept_converter`, a child converts several models.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from edge_core.program import heap
from edge_core.program.die_with_parent import bound_to_caller
from edge_partition.model import keras_setup  # noqa: F401 -- the child gets these settings too
from edge_partition.model.conversion_log import ConversionError, make_log
from edge_partition.model.convert_tflite import check_options, convert_tflite
from edge_partition.model.explain_conversion import explain_crash
from edge_partition.model.frozen_model import GRAPH_FILE, FrozenModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from edge_partition.tflite.file_tables import Bytes

_EXAMPLES, _RESULT, _LOG = "examples.npz", "model.tflite", "convert.log"
#: Python code of the child. The code adds the folder of this package to the module search path,
#: because the package may be outside Python's standard folders.
_CHILD = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from edge_partition.model.converter_process import main; sys.exit(main())"
)


@contextlib.contextmanager
def kept_converter() -> Iterator[None]:
    """Within the block, let one child convert all models of the calling thread, one after another.

    A child takes seconds to load TensorFlow. Within the block, a program that converts many models
    waits for TensorFlow only once. The child holds TensorFlow's memory until the block ends. If a
    child crashes or does not finish a conversion, this process ends the child, and the next model
    gets a new child.

    Each thread has its own child. The kernel ends a child together with the thread that started the
    child, so a child cannot serve another thread, which may live longer.
    """
    if _current_keeper() is not None:
        yield
        return
    keeper = _thread_data.keeper = _Keeper()
    try:
        yield
    finally:
        _thread_data.keeper = None
        keeper.end()


class ConverterProcess:
    """Context manager that converts one model in a child process.

    The child starts to load TensorFlow when the ``with`` block begins. The child ends after the
    conversion, or earlier if the block, this process or the calling thread ends. Within
    :func:`kept_converter`, an idle child is kept for the next model.
    """

    def __init__(self) -> None:
        self._resources = contextlib.ExitStack()
        self._folder = Path()
        self._child: _Child | None = None
        self._keeper: _Keeper | None = None
        self._model: _ModelSummary | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            folder = tempfile.TemporaryDirectory(
                prefix="edge-partition-convert-", ignore_cleanup_errors=True
            )
            self._folder = Path(stack.enter_context(folder))
            self._keeper = _current_keeper()
            self._child = (self._keeper and self._keeper.take()) or _Child()
            stack.callback(self._release_child)
            self._resources = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    @property
    def pid(self) -> int:
        """The process id of the child; 0 outside the ``with`` block."""
        return self._child.process.pid if self._child else 0

    def write_examples(self, examples: Iterable[Sequence[np.ndarray]]) -> None:
        """Write the calibration examples to a file for the child.

        Only one example at a time is in memory if ``examples`` is an iterator.

        Args:
            examples: Examples with one array per input, in the model's order and with a batch of 1.

        Raises:
            ConversionError: The disk is full or not writable.
        """
        with (
            _disk_errors("the model", self._folder),
            zipfile.ZipFile(self._folder / _EXAMPLES, "w", zipfile.ZIP_STORED) as archive,
        ):
            for number, example in enumerate(examples):
                for position, array in enumerate(example):
                    with archive.open(f"{number}-{position}.npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)

    def write_model(self, frozen: FrozenModel) -> None:
        """Write the model to files for the child. Afterwards, the caller can release the model.

        Raises:
            ConversionError: The disk is full or not writable.
        """
        with _disk_errors(frozen.name, self._folder):
            frozen.save(self._folder)
        self._model = _ModelSummary(frozen)

    def convert(self, *, quantization: str = "none") -> Bytes:
        """Convert the model that :meth:`write_model` wrote. A model can be converted only once.

        Args:
            quantization: One of :data:`~edge_partition.model.quantizations.QUANTIZATIONS`.

        Returns:
            The ``.tflite`` file, mapped into memory.

        Raises:
            ConversionError: The model cannot be converted, or the child crashed. The log file that
                the error names is not deleted.
            RuntimeError: :meth:`write_model` was not called, or the ``with`` block has ended.
        """
        child, model = self._child, self._model
        if child is None or model is None:
            raise RuntimeError("There is no model to convert; call write_model() before convert().")
        check_options(model.name, quantization, calibrated=(self._folder / _EXAMPLES).exists())
        self._model = None
        heap.give_back()  # the child needs the memory
        answer = child.ask({"folder": str(self._folder), "quantization": quantization})
        if answer is None or answer["failure"] is not None:
            raise self._failure(model, child, answer, quantization)
        # Imported here, because the child does not need the module.
        from edge_partition.tflite.file_tables import map_file  # noqa: PLC0415

        content = map_file(self._folder / _RESULT)
        if self._keeper is None:
            child.end()  # the caller may need the memory
        return content

    def _failure(
        self,
        model: _ModelSummary,
        child: _Child,
        answer: Mapping[str, Any] | None,
        quantization: str,
    ) -> ConversionError:
        log = make_log()
        printed = self._folder / _LOG
        log.write_bytes((printed.read_bytes() if printed.exists() else b"") + child.output())
        if answer is not None:
            found = answer["failure"]
            return ConversionError(
                model.name,
                found["reason"],
                operators=tuple(found["operators"]),
                layers=tuple(found["layers"]),
                log_path=log,
            )
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        status = child.process.wait()
        crash = explain_crash(status, quantization, model.loops, lines[-1] if lines else "")
        return ConversionError(model.name, crash.reason, layers=crash.layers, log_path=log)

    def _release_child(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        # The keeper may be gone: the `with` block may end in another thread than it began in, or
        # after the block of kept_converter.
        if self._keeper is not None and self._keeper is _current_keeper():
            self._keeper.give_back(child)
        else:
            child.end()


class _ModelSummary:
    """A model's name, and the names of its layers with loops, for error messages."""

    def __init__(self, frozen: FrozenModel) -> None:
        self.name = frozen.name
        self.loops = frozen.loops()


class _Child:
    """A process that converts models. The process ends when the thread that started it ends."""

    def __init__(self) -> None:
        checkout = str(Path(__file__).resolve().parents[2])
        command = [sys.executable, "-P", "-c", _CHILD, checkout]
        with contextlib.ExitStack() as stack:
            self._log = stack.enter_context(tempfile.TemporaryFile())
            self.process = subprocess.Popen(
                bound_to_caller(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                # In its own session, the child gets no signal on Ctrl-C. This process gets the
                # signal, and its `with` block ends the child.
                start_new_session=True,
            )
            self._resources = stack.pop_all()
        self._is_busy = False
        self._served = 0
        #: Offset in the log, in bytes, at which the output for the current model begins. The output
        #: for the first model includes the output of the child's start.
        self._log_offset = 0

    @property
    def is_idle(self) -> bool:
        """Whether the process runs and has answered its last request."""
        return not self._is_busy and self.process.poll() is None

    def ask(self, request: Mapping[str, str]) -> dict[str, Any] | None:
        """Send a request and return the answer; None if the child ends without an answer."""
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError(
                "The converter's child process has no standard input or output. Create a new "
                "ConverterProcess."
            )
        if self._served:
            self._log_offset = os.fstat(self._log.fileno()).st_size
        self._is_busy = True
        # If the child has ended, the write fails, and readline returns no answer.
        with contextlib.suppress(BrokenPipeError):
            stdin.write(json.dumps(request).encode() + b"\n")
            stdin.flush()
        line = stdout.readline()
        if not line.endswith(b"\n"):
            return None
        self._is_busy = False
        self._served += 1
        answer: dict[str, Any] = json.loads(line)
        return answer

    def output(self) -> bytes:
        """Return the child's output for the current model, without the converter's own log."""
        descriptor = self._log.fileno()
        # The child and this process share the position in the file, and pread does not move it.
        return os.pread(descriptor, os.fstat(descriptor).st_size, self._log_offset)

    def end(self) -> None:
        """Kill the process, even during a conversion."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                # Closing fails if data is left that the ended child did not read.
                with contextlib.suppress(OSError):
                    stream.close()
        self._resources.close()


class _Keeper:
    """Keeps an idle child between the conversions of two models."""

    def __init__(self) -> None:
        self._spare: _Child | None = None

    def take(self) -> _Child | None:
        child, self._spare = self._spare, None
        if child is not None and not child.is_idle:
            child.end()
            return None
        return child

    def give_back(self, child: _Child) -> None:
        if self._spare is None and child.is_idle:
            self._spare = child
        else:
            child.end()

    def end(self) -> None:
        child, self._spare = self._spare, None
        if child is not None:
            child.end()


_thread_data = threading.local()


def _current_keeper() -> _Keeper | None:
    """Return the keeper of the calling thread; None outside :func:`kept_converter`."""
    keeper: _Keeper | None = getattr(_thread_data, "keeper", None)
    return keeper


@contextlib.contextmanager
def _disk_errors(model: str, folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        free_gb = shutil.disk_usage(folder).free / 1e9
        raise ConversionError(
            model,
            f"a file in {folder.parent} cannot be written ({error.strerror or error}; "
            f"{free_gb:.1f} GB free). Delete files on this disk, or set the environment variable "
            "TMPDIR to a folder on a larger disk. The conversion needs free space for twice the "
            "size of the model.",
        ) from error


class _Examples:
    """Calibration examples in a file. Each iteration reads the examples again, one at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[list[np.ndarray[Any, Any]]]:
        with np.load(self._path, allow_pickle=False) as archive:
            arrays: dict[int, list[str]] = {}
            for name in archive.files:  # in the order of writing
                arrays.setdefault(int(name.partition("-")[0]), []).append(name)
            for names in arrays.values():
                yield [archive[name] for name in names]


def main() -> int:
    """Run in the child process: convert one model for each request on standard input."""
    faulthandler.enable()
    # All other output to standard output is redirected to the log, because the parent process would
    # read it as an answer.
    answers = os.dup(1)
    os.dup2(2, 1)
    requests: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    from tensorflow import lite  # noqa: PLC0415 -- loads before the first request comes

    lite.TFLiteConverter  # noqa: B018 -- TensorFlow loads the converter on first access
    while True:
        request = requests.get()
        failure = _convert_folder(Path(request["folder"]), request["quantization"])
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os.write(answers, json.dumps({"failure": failure}).encode() + b"\n")
        heap.give_back()


def _convert_folder(folder: Path, quantization: str) -> dict[str, Any] | None:
    """Convert the model in ``folder``.

    Returns:
        None if the conversion succeeds; otherwise the attributes of the error by name.
    """
    examples = folder / _EXAMPLES
    try:
        frozen = FrozenModel.load(folder)
        (folder / GRAPH_FILE).unlink()  # not needed again; the folder may occupy memory (tmpfs)
        content = convert_tflite(
            frozen,
            quantization=quantization,
            calibration=_Examples(examples) if examples.exists() else None,
            log_path=folder / _LOG,
        )
    except ConversionError as error:
        return {"reason": error.reason, "operators": error.operators, "layers": error.layers}
    (folder / _RESULT).write_bytes(content)
    return None


def _read_requests(requests: queue.SimpleQueue[dict[str, str]]) -> None:
    """Put each request into the queue. Kill this process when the parent closes the pipe.

    If the pipe closes during a conversion, the parent has ended and does not need the result.
    """
    # os.read takes no lock. A thread that reads sys.stdin would hold its lock at the process's end.
    unread = b""
    while found := os.read(0, 1 << 16):
        *lines, unread = (unread + found).split(b"\n")
        for line in lines:
            requests.put(json.loads(line))
    os.kill(os.getpid(), signal.SIGKILL)
