"""Output of C++ libraries goes where it is redirected, and back afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from edge_core.program.redirect_output import STDERR, STDOUT, redirect_output

if TYPE_CHECKING:
    from pathlib import Path


def test_output_to_the_descriptors_reaches_the_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "log").open("w+b") as log:
        with redirect_output(log, STDOUT, STDERR):
            os.write(STDOUT, b"one")
            os.write(STDERR, b"two")
        os.write(STDERR, b"three")
        log.seek(0)
        assert log.read() == b"onetwo"
    assert capfd.readouterr() == ("", "three")


def test_an_error_inside_restores_the_descriptors(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "log").open("wb") as log, pytest.raises(KeyError), redirect_output(log, 2):
        raise KeyError
    os.write(STDERR, b"here")
    assert capfd.readouterr().err == "here"


def test_a_closed_descriptor_stays_closed(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "from edge_core.program.redirect_output import redirect_output\n"
        "os.close(2)\n"
        "with open(sys.argv[1], 'wb') as log, redirect_output(log, 2): pass\n"
        "try: os.fstat(2)\n"
        "except OSError: print('closed')\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "log"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert result.stdout == "closed\n"
