"""A broker and boards on this machine, for ``edge-partition deploy`` and ``run``."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

#: The boards' names of `edge-partition split --stages N` without a fleet.
BOARDS = ("board-0", "board-1", "board-2", "board-3")


class Desk:
    """A broker and four agents, until the ``with`` block ends."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._processes: list[subprocess.Popen[str]] = []
        self.url = ""

    def __enter__(self) -> Self:
        tools = Path(sys.executable).parent
        serve = [str(tools / "broker-config"), "serve", "--listen", "127.0.0.1:0", "--json"]
        broker = subprocess.Popen(
            serve, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._processes.append(broker)
        self.url = _first_document(broker)["url"]
        for name in BOARDS:
            words = [str(tools / "device-agent"), "--broker", self.url, "--name", name]
            words += ["--state-dir", str(Path(self._folder.name) / name), "--threads", "1"]
            self._processes.append(
                subprocess.Popen(
                    words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
                )
            )
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            process.terminate()
            process.wait()
        self._folder.cleanup()


def _first_document(process: subprocess.Popen[str]) -> dict[str, str]:
    """Return the first JSON document that a running process prints."""
    assert process.stdout is not None  # noqa: S101 -- opened as a pipe
    text = ""
    for line in process.stdout:
        text += line
        try:
            document = json.loads(text)
        except ValueError:
            continue
        return dict(document)
    raise RuntimeError(f"the broker ended before it printed a JSON document: {text}")
