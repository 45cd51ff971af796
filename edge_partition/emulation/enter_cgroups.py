"""Enter control groups (cgroups), then run a command.

Usage: ``enter_cgroups.py CPU FILE... -- COMMAND...``. CPU is the number of a processor, or ``any``.
Each FILE is the file ``cgroup.procs`` of a control group.

This is a program and not a ``preexec_fn``, because code between fork and exec may deadlock in a
process with threads.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

#: The argument CPU for a command that may run on any processor.
ANY_CPU = "any"


def main() -> None:
    """Bind this process to a processor, enter the control groups, then execute the command."""
    end = sys.argv.index("--")
    cpu, *groups = sys.argv[1:end]
    if cpu != ANY_CPU:
        os.sched_setaffinity(0, {int(cpu)})
    for members in groups:
        Path(members).write_text(str(os.getpid()))
    words = sys.argv[end + 1 :]
    os.execv(words[0], words)  # noqa: S606


if __name__ == "__main__":
    main()
