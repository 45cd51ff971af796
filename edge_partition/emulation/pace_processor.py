"""Helper processes that spread a board's share of a processor evenly over time.

Usage: ``pace_processor.py tick CPU`` or ``pace_processor.py idle CPU [FILE]``. CPU is the number of
a processor. FILE is the file ``cgroup.procs`` of a board's control group.

Linux checks the quota of a control group only when the scheduler runs: when a process wakes, and
at each tick of the kernel's clock, which is every 4 ms at 250 Hz. A board with a share of one
millisecond in five would run for 4 ms at full speed, then stop for 16 ms. ``tick`` wakes often and
does nothing, so that the kernel checks the quota often.

A control group can also save about 2 ms of unused quota. After a short pause, a board would then be
as fast as this machine. ``idle`` with FILE enters the board's group, uses the time that the agent
leaves unused, and yields to the agent at once.

A processor that was idle is slower when a board runs again: its clock frequency has fallen, and a
hypervisor has given the virtual processor, with its caches, to other machines. ``idle`` without
FILE keeps the processor busy. In a measurement on a virtual machine, two boards had shares of 0.4
and 0.24 of a processor. The same work took 8.7 ms of processor time without ``idle``, and 7.9 ms
with ``idle`` (medians of eight runs). On a processor of its own, the work took 7.0 ms.

At a share of 0.3, work of 2 ms should take 6.7 ms. On a processor of 50 GMAC/s, the work took
2.0 ms with quotas only, 3.3 ms with ``tick``, and 7.1 ms with ``tick`` and ``idle``.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

#: Time between two wakes of ``tick``, in seconds. ``tick`` uses about 7 % of an x86-64 processor.
_TICK_S = 0.000_25
_PRIORITY = 50


def main() -> None:
    """Run until killed.

    Print an empty line as soon as the process has its priority and is in its control group.
    """
    os.sched_setaffinity(0, {int(sys.argv[2])})
    if sys.argv[1] == "tick":
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
        print(flush=True)  # noqa: T201 - BoardLimiter reads it
        while True:
            time.sleep(_TICK_S)
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    for group in sys.argv[3:]:
        Path(group).write_text(str(os.getpid()))
    print(flush=True)  # noqa: T201
    while True:
        pass


if __name__ == "__main__":
    main()
