"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from edge_core.errors import EdgePartitionError

if TYPE_CHECKING:
    from mmap import mmap
    from pathlib import Path


class WriteError(EdgePartitionError):
    """A file can't be written.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        super().__init__(f"{path}: can't be written: {reason}.")


def write_file(path: Path, data: bytes | mmap) -> None:
    """Write ``data`` beside its place and rename it into it.

    Raises:
        WriteError: The disk or its permissions say no; what was there is still there.
    """
    scratch = None
    try:
        handle, scratch = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        # mkstemp is for its owner alone; this is an ordinary file.
        os.chmod(scratch, 0o644)  # noqa: PTH101
        os.replace(scratch, path)  # noqa: PTH105
    except OSError as error:
        if scratch is not None:
            os.unlink(scratch)  # noqa: PTH108
        raise WriteError(path, error.strerror or str(error)) from None
