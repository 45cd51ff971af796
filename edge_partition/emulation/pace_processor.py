"""Makes a share of a processor an even one: ``pace_boards.py tick CPU`` or ``idle CPU [FILE]``.

Linux looks at a group's quota when it schedules: when a process wakes, and at its clock's tick,
4 ms apart at 250 Hz. A board with one millisecond in five would run four at full speed, then stand
still for sixteen. ``tick`` wakes often and does nothing.

A group may also use later what it left unused, some 2 ms of it: after a short pause a board would
be as fast as this machine. ``idle`` enters the board's group, given by its ``cgroup.procs``, uses
what the agent leaves, and gives way to it at once.

And a processor that rests between a board's turns is slower in them: its clock falls, and a virtual
one is lent to others meanwhile, caches and all. ``idle`` without a group keeps it awake. On a
virtual machine with boards at 0.4 and 0.24 of a processor the same work took 8.7 ms of processor
time without it, 7.9 ms with it (medians of eight), and 7.0 ms on a processor of its own.

On a processor of 50 GMAC/s, at a share of 0.3: 2 ms of work took 2.0 ms with quotas alone, 3.3 ms
with ticks, 7.1 ms with both, and should take 6.7 ms.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

#: Some 7 % of an x86-64 processor.
_TICK_S = 0.000_25
_PRIORITY = 50


def main() -> None:
    """Run until ended; one line says that the kernel lets us."""
    os.sched_setaffinity(0, {int(sys.argv[2])})
    if sys.argv[1] == "tick":
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
        print(flush=True)  # noqa: T201 - read by who started this
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
