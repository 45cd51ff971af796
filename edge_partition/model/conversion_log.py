"""What TensorFlow prints goes to a log, and what it raises becomes a sentence."""

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
        reason: What was wrong and what to do.
        operators: TensorFlow's names of the operators that TFLite has no builtin for.
        layers: The Keras layers that hold them, with the models they are nested in.
        log_path: What the converter printed; ``None`` if it did not get to run.
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
def explained(model: str, layers: Collection[str], log_path: str | Path | None) -> Iterator[None]:
    """Keep TensorFlow's output in a log, and say what it raises in words of the Keras model.

    Args:
        model: The model's name.
        layers: The parts of node names that are layers.
        log_path: The log; ``None`` for a temporary file, which stays only if TensorFlow fails.

    Raises:
        ConversionError: TensorFlow raised anything.
    """
    log = Path(log_path) if log_path else make_log()
    try:
        with _output_to(log), _plain_tracebacks():
            yield
    except ConversionError:
        if log_path is None:
            log.unlink()
        raise
    except Exception as error:  # TensorFlow documents no type, and raises many.
        found = explain_conversion(error, log.read_text(errors="replace"), layers)
        raise ConversionError(
            model, found.reason, operators=found.operators, layers=found.layers, log_path=log
        ) from error
    if log_path is None:
        log.unlink()


def make_log() -> Path:
    """Return a new empty file that stays."""
    descriptor, path = tempfile.mkstemp(prefix="edge-partition-convert-", suffix=".log")
    os.close(descriptor)
    return Path(path)


@contextlib.contextmanager
def _plain_tracebacks() -> Iterator[None]:
    """Keep Keras from writing the call's arguments into an error, and its layers out of it."""
    with contextlib.ExitStack() as stack:
        for config in _traceback_switches():
            if config.is_traceback_filtering_enabled():
                config.disable_traceback_filtering()
                stack.callback(config.enable_traceback_filtering)
        yield


def _traceback_switches() -> list[Any]:
    """Return Keras's switch and TensorFlow's, which is Keras 2's too, where they are loaded."""
    modules = (("keras", "config"), ("tensorflow", "debugging"))
    return [getattr(sys.modules[name], part) for name, part in modules if name in sys.modules]


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Send what this process prints, its C++ libraries included, to ``path``."""
    with path.open("w") as log, contextlib.ExitStack() as stack:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        stack.enter_context(redirect_output(log, STDOUT, STDERR))
        # Its first warning makes Python's logging write to where standard error is now.
        root = logging.getLogger()
        stack.callback(setattr, root, "handlers", root.handlers[:])
        stack.enter_context(contextlib.redirect_stdout(log))
        stack.enter_context(contextlib.redirect_stderr(log))
        yield
