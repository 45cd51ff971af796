"""Enter control groups, then become a command: ``enter_groups.py CPU FILE... -- COMMAND...``.

A program of its own, and not a ``preexec_fn``: code between fork and exec may deadlock in a
process that has threads.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

#: In place of a processor: any.
ANY_CPU = "any"


def main() -> None:
    """Bind this process to a processor and every ``cgroup.procs`` named, then exec the command."""
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
