"""TensorFlow's output goes to a log, and its exceptions become conversion errors."""

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
    """TensorFlow could not convert the model.

    Attributes:
        model: The model's name.
        reason: Cause of the error and advice for the user.
        operators: TensorFlow's names of operators without a TFLite builtin.
        layers: Keras layers with these operators, each preceded by the models that it is nested in.
        log_path: The converter's output; ``None`` if the converter did not run.
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
    """Write TensorFlow's output to a log, and raise its exceptions as errors that name layers.

    Args:
        model: The model's name.
        layers: Names of the layers, as parts of node names.
        log_path: The log; ``None`` for a temporary file, which is deleted unless TensorFlow fails.

    Raises:
        ConversionError: TensorFlow raised an exception.
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
    """Switch off traceback filtering, which adds arguments to errors and hides Keras's layers."""
    with contextlib.ExitStack() as stack:
        for config in _traceback_switches():
            if config.is_traceback_filtering_enabled():
                config.disable_traceback_filtering()
                stack.callback(config.enable_traceback_filtering)
        yield


def _traceback_switches() -> list[Any]:
    """Return the loaded modules that switch traceback filtering; Keras 2 uses TensorFlow's."""
    modules = (("keras", "config"), ("tensorflow", "debugging"))
    return [getattr(sys.modules[name], part) for name, part in modules if name in sys.modules]


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Write the output of this process, and of its C++ libraries, to ``path``."""
    with path.open("w") as log, contextlib.ExitStack() as stack:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        stack.enter_context(redirect_output(log, STDOUT, STDERR))
        # The first warning of TensorFlow binds a handler of the root logger to standard error.
        root = logging.getLogger()
        stack.callback(setattr, root, "handlers", root.handlers[:])
        stack.enter_context(contextlib.redirect_stdout(log))
        stack.enter_context(contextlib.redirect_stderr(log))
        yield
