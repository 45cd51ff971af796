"""Commands as processes, and their errors as one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_partition.cli import main

BIN = Path(sys.executable).parent


def run(command: str, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / command, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, **environment},
    )


def failed(*words: object) -> str:
    """Run ``edge-partition``, assert status 1 and one line on standard error; return the line."""
    result = run("edge-partition", *words)
    _assert_one_line(result.returncode, result.stdout, result.stderr)
    return result.stderr


def failed_here(capfd: pytest.CaptureFixture[str], *words: object) -> str:
    """Do the same in this process, which loads TensorFlow only once."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([*map(str, words)])
    printed = capfd.readouterr()
    _assert_one_line(ended.value.code, printed.out, printed.err)
    return printed.err


def _assert_one_line(status: object, output: str, error: str) -> None:
    assert (status, output) == (1, ""), error
    assert error.startswith("edge-partition: ")
    assert error.count("\n") == 1, error
    assert "internal error" not in error
