"""Read the ZIP archive that may follow the model in a ``.tflite`` file.

The archive contains, for example, files with labels.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_partition.tflite.file_tables import Bytes

#: Size limit of a packed file. A label file of 100,000 classes has less than 10 MB.
_MAX_PACKED_BYTES = 32 << 20
_MAX_PACKED_FILES = 1000
#: Exceptions that ``zipfile`` and ``flatbuffers`` raise on damaged data.
UNREADABLE = (
    zipfile.BadZipFile, zlib.error, OSError, RuntimeError, NotImplementedError, EOFError,
    ValueError, KeyError, IndexError, TypeError, struct.error, OverflowError, MemoryError,
)  # fmt: skip


class PackedFiles(Mapping[str, bytes]):
    """The files in the ZIP archive of a ``.tflite`` file, as a mapping from name to bytes.

    Each lookup unpacks one file. Names are only keys, never paths on disk. A lookup raises
    ``KeyError`` for a missing file, a file of more than 32 MiB, and a file that cannot be unpacked.

    Attributes:
        notes: Sentences for the user about faults of the archive.
    """

    def __init__(self, data: Bytes) -> None:
        self.notes: tuple[str, ...] = ()
        self._archive: zipfile.ZipFile | None = None
        self._entries: dict[str, zipfile.ZipInfo] = {}
        # The end-of-archive record lies in the last 64 KiB (PKWARE APPNOTE, 4.3.16).
        if bytes(data[-65_557:]).rfind(b"PK\5\6") < 0:
            return
        try:
            self._archive = zipfile.ZipFile(io.BufferedReader(_Stream(data)))
            entries = self._archive.infolist()
        except UNREADABLE as error:
            self.notes = (f"The files packed with the model cannot be read ({one_line(error)}).",)
            return
        if len(entries) > _MAX_PACKED_FILES:
            note = (
                f"{len(entries):,} files are packed with the model; only the first "
                f"{_MAX_PACKED_FILES:,} are read."
            )
            self.notes = (note,)
        self._entries = {
            entry.filename: entry
            for entry in entries[:_MAX_PACKED_FILES]
            if not entry.is_dir() and entry.file_size <= _MAX_PACKED_BYTES
        }

    def __getitem__(self, name: str) -> bytes:
        if self._archive is None:
            raise KeyError(name)
        entry = self._entries[name]
        try:
            with self._archive.open(entry) as file:
                found = file.read(_MAX_PACKED_BYTES + 1)
        except UNREADABLE as error:
            raise KeyError(name) from error
        if len(found) > _MAX_PACKED_BYTES:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def size_bytes(self, name: str) -> int:
        """Return a file's unpacked size in bytes, according to the archive's directory."""
        return self._entries[name].file_size


class _Stream(io.RawIOBase):
    """A read-only file object for bytes or a memory map, which are not copied."""

    def __init__(self, data: Bytes) -> None:
        self._data = data
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._data)}[whence]
        if start + offset < 0:
            raise ValueError(f"Position {start + offset} is before the start of the file.")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        chunk = self._data[self._at : self._at + len(buffer)]
        buffer[: len(chunk)] = chunk
        self._at += len(chunk)
        return len(chunk)


def one_line(error: BaseException) -> str:
    """Return an exception's text as one line; without a text, the name of the exception's type."""
    return " ".join(str(error).split()) or type(error).__name__
