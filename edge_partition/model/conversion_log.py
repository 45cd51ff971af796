"""Write TensorFlow's output to a log file, and explain TensorFlow's exceptions."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_core.errors import EdgePartitionError
from edge_core.program.redirect_output import STDERR, STDOUT, redirect_output
from edge_partition.model.explain_conversion import explain_conversion

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


class ConversionError(EdgePartitionError):
    """A model cannot be converted to TFLite.

    Attributes:
        model: The model's name.
        reason: Cause of the error and advice for the user.
        operators: TensorFlow's names of the operators that TFLite lacks; may be empty.
        layers: Layers that cause the error. A layer in a nested model is given as a path, such as
            ``encoder/conv_1``.
        log_path: File with the converter's output; None if the converter did not run.
    """

    def __init__(
        self, model: str, reason: str, *, operators: tuple[str, ...] = (),
        layers: tuple[str, ...] = (), log_path: Path | None = None,
    ) -> None:  # fmt: skip
        self.model = model
        self.reason = reason
        self.operators = operators
        self.layers = layers
        self.log_path = log_path
        log = f" The converter's log: {log_path}" if log_path else ""
        super().__init__(f"{model} cannot be converted to TFLite: {reason}{log}")


@contextlib.contextmanager
def explained_errors(
    model: str, layers: Collection[str], log_path: str | Path | None
) -> Iterator[None]:
    """Within the block, write TensorFlow's output to a log, and explain TensorFlow's exceptions.

    Args:
        model: The model's name.
        layers: Names of the layers, as they appear in the names of graph nodes.
        log_path: The log file. With None, a temporary file is used, which is deleted unless
            TensorFlow raises an exception.

    Raises:
        ConversionError: TensorFlow raised an exception. The error names the layers that caused
            the exception.
    """
    log = Path(log_path) if log_path else make_log()
    try:
        with _output_to(log), _unfiltered_tracebacks():
            yield
    except ConversionError:
        if log_path is None:
            log.unlink()
        raise
    except Exception as error:  # TensorFlow raises many types and documents none.
        found = explain_conversion(error, log.read_text(errors="replace"), layers)
        raise ConversionError(
            model, found.reason, operators=found.operators, layers=found.layers, log_path=log
        ) from error
    if log_path is None:
        log.unlink()


def make_log() -> Path:
    """Return a new empty temporary file, which is not deleted automatically."""
    descriptor, path = tempfile.mkstemp(prefix="edge-partition-convert-", suffix=".log")
    os.close(descriptor)
    return Path(path)


@contextlib.contextmanager
def _unfiltered_tracebacks() -> Iterator[None]:
    """Switch off the filtering of tracebacks within the block.

    Filtering adds the arguments of calls to error messages, and removes the calls of Keras's layers
    from tracebacks.
    """
    with contextlib.ExitStack() as stack:
        for config in _traceback_switches():
            if config.is_traceback_filtering_enabled():
                config.disable_traceback_filtering()
                stack.callback(config.enable_traceback_filtering)
        yield


def _traceback_switches() -> list[Any]:
    """Return the modules that switch traceback filtering, if loaded.

    The modules are ``keras.config`` for Keras 3, and ``tensorflow.debugging`` for Keras 2.
    """
    modules = (("keras", "config"), ("tensorflow", "debugging"))
    return [getattr(sys.modules[name], part) for name, part in modules if name in sys.modules]


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Within the block, write the output of Python and of C++ libraries to the file ``path``."""
    with path.open("w") as log, contextlib.ExitStack() as stack:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        stack.enter_context(redirect_output(log, STDOUT, STDERR))
        # TensorFlow's first warning adds a handler to the root logger. After the block, this
        # handler would write to the closed log, so the earlier handlers are restored.
        root = logging.getLogger()
        stack.callback(setattr, root, "handlers", root.handlers[:])
        stack.enter_context(contextlib.redirect_stdout(log))
        stack.enter_context(contextlib.redirect_stderr(log))
        yield
