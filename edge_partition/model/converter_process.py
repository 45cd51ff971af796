"""TFLite's converter in a process of its own, so that its crash ends in a sentence.

The child is :func:`main` with a folder: it loads TensorFlow, waits for a line on its standard
input, converts what stands in the folder, and leaves the ``.tflite`` file or the reason of its
failure there. It ends when its standard input does.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
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

from edge_core.program import die_with_parent
from edge_partition.model import keras_setup  # noqa: F401 -- the child gets these settings too
from edge_partition.model.conversion_log import ConversionError, make_log
from edge_partition.model.convert_tflite import (
    FrozenModel,
    check_options,
    convert_tflite,
    give_back_memory,
)
from edge_partition.model.explain_conversion import explain_crash
from edge_partition.model.freeze_model import GRAPH_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from edge_partition.tflite.read_tflite import Bytes

_EXAMPLES, _REQUEST, _RESULT, _FAILURE = "examples.npz", "request.json", "model.tflite", "why.json"
#: This package may lie where only this process looks for it.
_CHILD = (
    "import sys; sys.path.append(sys.argv[2]); "
    "from edge_partition.model.converter_process import main; sys.exit(main())"
)
_GO = b"\n"
_LOG, _CHILD_LOG = "convert.log", "child.log"


class ConverterProcess:
    """Converts one model in a child process, which starts at once to load TensorFlow.

    The child ends with the ``with`` block, and when this process ends, however that ends.
    """

    def __init__(self) -> None:
        self._resources = contextlib.ExitStack()
        self._folder = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._model: _Outline | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            folder = tempfile.TemporaryDirectory(
                prefix="edge-partition-convert-", ignore_cleanup_errors=True
            )
            self._folder = Path(stack.enter_context(folder))
            self._process = _start(self._folder)
            stack.callback(_end, self._process)
            self._resources = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    @property
    def pid(self) -> int:
        """The child's process id; 0 outside the ``with`` block."""
        return self._process.pid if self._process else 0

    def write_examples(self, examples: Iterable[Sequence[np.ndarray]]) -> None:
        """Take the examples to calibrate with, one at a time.

        Args:
            examples: Each an array an input in the model's order, with a batch of 1.

        Raises:
            ConversionError: The disk is full.
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
        """Take the model to convert; the caller can let go of it then.

        Raises:
            ConversionError: The disk is full.
        """
        with _disk_errors(frozen.name, self._folder):
            frozen.save(self._folder)
        self._model = _Outline(frozen)

    def convert(self, *, quantization: str = "none") -> Bytes:
        """Convert the model that was written.

        Args:
            quantization: As for :func:`~edge_partition.model.convert_tflite.convert_tflite`.

        Returns:
            The ``.tflite`` file, mapped into memory.

        Raises:
            ConversionError: As :func:`~edge_partition.model.convert_tflite.convert_tflite`, or the
            child
                crashed. The log that the error names stays.
        """
        process, model = self._process, self._model
        if process is None or process.stdin is None or model is None:
            raise RuntimeError("write_model() comes first, in the with block")
        check_options(model.name, quantization, calibrated=(self._folder / _EXAMPLES).exists())
        give_back_memory()  # the child wants it
        (self._folder / _REQUEST).write_text(json.dumps({"quantization": quantization}))
        # A child that died says so by its status.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(_GO)
            process.stdin.flush()
        status = process.wait()
        result = self._folder / _RESULT
        if status == 0 and result.exists():
            # Imported here: the child needs none of it.
            from edge_partition.tflite.read_tflite import map_file  # noqa: PLC0415

            return map_file(result)
        raise self._failure(model, status, quantization)

    def _failure(self, model: _Outline, status: int, quantization: str) -> ConversionError:
        log = make_log()
        with log.open("wb") as stream:
            for name in (_LOG, _CHILD_LOG):
                if (self._folder / name).exists():
                    stream.write((self._folder / name).read_bytes())
        why = self._folder / _FAILURE
        if why.exists():
            found = json.loads(why.read_text())
            return ConversionError(
                model.name,
                found["reason"],
                operators=tuple(found["operators"]),
                layers=tuple(found["layers"]),
                log_path=log,
            )
        spoken = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        found = explain_crash(status, quantization, model.loops, spoken[-1] if spoken else "")
        return ConversionError(model.name, found.reason, layers=found.layers, log_path=log)


class _Outline:
    """What is still known of a model that was written: its name, and its layers that loop."""

    def __init__(self, frozen: FrozenModel) -> None:
        self.name = frozen.name
        self.loops = frozen.loops()


def _start(folder: Path) -> subprocess.Popen[bytes]:
    """Start the child; its life is bound to the calling thread's."""
    package = str(Path(__file__).resolve().parents[1])
    command = [sys.executable, "-P", "-c", _CHILD, str(folder), package]
    with (folder / _CHILD_LOG).open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", die_with_parent.__file__, str(os.getpid()), *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            # Ctrl-C reaches this process alone, and its `with` block ends the child.
            start_new_session=True,
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    if process.stdin is not None:
        # What was not written yet has no reader any more.
        with contextlib.suppress(OSError):
            process.stdin.close()


@contextlib.contextmanager
def _disk_errors(model: str, folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        free_gb = shutil.disk_usage(folder).free / 1e9
        raise ConversionError(
            model,
            f"{folder.parent} takes no more ({error.strerror or error}; {free_gb:.1f} GB free). "
            "Make room there, or set TMPDIR to a folder with room for twice the model.",
        ) from error


class _Examples:
    """Examples in a file, read one at a time, as often as anybody asks."""

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
    """Be the child."""
    faulthandler.enable()
    folder = Path(sys.argv[1])
    from tensorflow import lite  # noqa: PLC0415 -- while the parent reads the model

    lite.TFLiteConverter  # noqa: B018 -- loaded when first named
    if not os.read(0, len(_GO)):
        return 0
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    request = json.loads((folder / _REQUEST).read_text())
    examples = folder / _EXAMPLES
    try:
        frozen = FrozenModel.load(folder)
        (folder / GRAPH_FILE).unlink()  # nobody needs it twice, and some folders are memory
        content = convert_tflite(
            frozen,
            quantization=request["quantization"],
            calibration=_Examples(examples) if examples.exists() else None,
            log_path=folder / _LOG,
        )
    except ConversionError as error:
        facts = {"reason": error.reason, "operators": error.operators, "layers": error.layers}
        (folder / _FAILURE).write_text(json.dumps(facts))
        return 1
    (folder / _RESULT).write_bytes(content)
    return 0


def _end_with_stdin() -> None:
    """End this process when the parent's end of the pipe closes: the parent is gone."""
    # Not through sys.stdin, whose lock a waiting thread would hold when this process ends.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)
