"""Run a command that ends when its parent process ends, even if the parent is killed.

``python die_with_parent.py PARENT_PID COMMAND ARGUMENT...`` asks the kernel for a SIGTERM at the
parent's death, then becomes the command. This is a program and not a ``preexec_fn``, because code
between fork and exec may deadlock in a process with threads.

The kernel keeps the request across ``exec``, but not across a change of user (prctl(2),
PR_SET_PDEATHSIG): a command that drops privileges loses the request.
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
    """Return a command line that runs ``command`` and ends with the calling thread's process.

    To the kernel the "parent" is the thread that starts the child (prctl(2)): start the child from
    a thread that lives as long as the child must live.
    """
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main() -> None:
    """Ask for the signal, then become the command."""
    parent_pid = int(sys.argv[1])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    # The parent may have died before the request.
    if os.getppid() != parent_pid:
        sys.exit(1)
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606


if __name__ == "__main__":
    main()
