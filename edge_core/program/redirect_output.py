"""Redirect file descriptors, because C++ libraries bypass Python's streams."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

STDOUT = 1
STDERR = 2

#: File descriptors belong to the whole process, so only one thread at a time may redirect them.
_LOCK = threading.RLock()


@contextlib.contextmanager
def redirect_output(file: IO[Any], *descriptors: int) -> Iterator[None]:
    """While the context is open, redirect the process's output on ``descriptors`` into ``file``.

    A descriptor that is closed, such as the standard error of some services, stays closed.

    Args:
        file: An open file with a descriptor of its own.
        descriptors: :data:`STDOUT`, :data:`STDERR` or both.
    """
    with _LOCK, contextlib.ExitStack() as stack:
        for descriptor in descriptors:
            try:
                kept = os.dup(descriptor)
            except OSError:
                continue
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, descriptor)
            os.dup2(file.fileno(), descriptor)
        yield
