"""Enter control groups, then become a command: ``python enter_groups.py FILE... -- COMMAND...``.

A program of its own, and not a ``preexec_fn``: code between fork and exec may deadlock in a
process that has threads.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    """Write this process into every ``cgroup.procs`` named, then exec what follows ``--``."""
    end = sys.argv.index("--")
    for members in sys.argv[1:end]:
        Path(members).write_text(str(os.getpid()))
    words = sys.argv[end + 1 :]
    os.execv(words[0], words)  # noqa: S606


if __name__ == "__main__":
    main()
