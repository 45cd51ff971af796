from __future__ import annotations

import resource
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from edge_core.write_file import WriteError, write_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def full_disk(size_bytes: int) -> Iterator[None]:
    """Let the kernel refuse writes beyond a size, like a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_is_readable_for_all_and_replaces_an_old_file(tmp_path: Path) -> None:
    file = tmp_path / "model.tflite"
    write_file(file, b"first, longer")
    write_file(file, b"second")
    assert file.read_bytes() == b"second"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [file]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "model.tflite"
    write_file(file, b"old")
    with full_disk(10_000), pytest.raises(WriteError, match="File too large") as caught:
        write_file(file, bytes(100_000))
    assert caught.value.path == file
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_an_error_names_a_missing_folder_and_a_folder_at_the_path(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"missing/x: can't be written: No such file"):
        write_file(tmp_path / "missing" / "x", b"")
    (tmp_path / "taken").mkdir()
    with pytest.raises(WriteError, match=r"taken: can't be written: Is a directory"):
        write_file(tmp_path / "taken", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
