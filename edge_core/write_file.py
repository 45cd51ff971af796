"""Writing a file completely or not at all."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from edge_core.errors import EdgePartitionError

if TYPE_CHECKING:
    from mmap import mmap
    from pathlib import Path


class WriteError(EdgePartitionError):
    """A file cannot be written.

    Attributes:
        path: Path of the file.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        super().__init__(f"{path}: can't be written: {reason}.")


def write_file(path: Path, data: bytes | mmap) -> None:
    """Write ``data`` to a temporary file in the same folder, and rename that file to ``path``.

    Raises:
        WriteError: The disk is full, or permissions are missing. An old file at ``path`` stays
            unchanged.
    """
    scratch = None
    try:
        handle, scratch = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        # mkstemp lets only the owner read the file.
        os.chmod(scratch, 0o644)  # noqa: PTH101
        os.replace(scratch, path)  # noqa: PTH105
    except OSError as error:
        if scratch is not None:
            os.unlink(scratch)  # noqa: PTH108
        raise WriteError(path, error.strerror or str(error)) from None
