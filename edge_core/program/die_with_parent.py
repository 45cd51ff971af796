"""Run a command that ends when its parent process ends, even if the parent is killed.

``python die_with_parent.py PARENT_PID COMMAND ARGUMENT...`` asks the kernel to send SIGTERM when
the parent dies, then becomes the command. This is a program and not a ``preexec_fn``, because code
between fork and exec may deadlock in a process with threads.

The request to the kernel survives ``exec``, but not a change of user (prctl(2),
PR_SET_PDEATHSIG): a command that drops privileges gets no SIGTERM.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def bound_to_caller(command: Sequence[str]) -> list[str]:
    """Return a command line that runs ``command`` and is terminated when this process ends.

    To the kernel, the parent is not the process but the thread that starts the command (prctl(2)).
    Start the command from a thread that lives at least as long as the command.
    """
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main() -> None:
    """Ask the kernel for a SIGTERM when the parent dies, then become the command."""
    parent_pid = int(sys.argv[1])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    # If the parent died before the request, the kernel sends no signal.
    if os.getppid() != parent_pid:
        sys.exit(1)
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606


if __name__ == "__main__":
    main()
