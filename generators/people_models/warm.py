"""Run commands in forks of a process that has loaded TensorFlow and Keras.

Loading these takes seconds, so the commands share it. ``python -m people_models.warm`` reads one
JSON object a line, ``{"words", "folder", "seconds"}``, runs the command in a fork, and prints the
exit status. The command's output is in the files ``stdout`` and ``stderr`` of its working folder.
"""

# ruff: noqa: PLC0415
from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

_POLL_SECONDS = 0.02


def serve() -> None:
    """Answer requests until standard input ends."""
    import keras  # noqa: F401
    import tensorflow as tf  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if not child:
            os._exit(_run(request["words"], Path(request["folder"])))
        print(json.dumps(_wait(child, request["seconds"])), flush=True)


def _run(words: list[str], folder: Path) -> int:
    """Run ``edge-partition ..``, or a module of this package with its arguments."""
    os.setpgid(0, 0)
    os.chdir(folder)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
        os.dup2(file, descriptor)
    sys.stdin = open(os.devnull)  # noqa: SIM115, PTH123
    sys.argv = words
    status = 0
    try:
        if words[0] == "edge-partition":
            from edge_partition.cli import main

            status = main() or 0
        else:
            runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:  # noqa: BLE001 -- as the interpreter would
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return int(status)


def _wait(child: int, seconds: float) -> dict[str, Any]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return {"status": os.waitstatus_to_exitcode(status)}
        time.sleep(_POLL_SECONDS)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return {"status": -9, "late": True}


if __name__ == "__main__":
    serve()
