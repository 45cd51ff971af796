"""Spreads a board's share of a processor evenly over time.

``pace_processor.py tick CPU`` or ``pace_processor.py idle CPU [FILE]``.

Linux checks a group's quota when it schedules: when a process wakes, and at a clock tick, every
4 ms at 250 Hz. A board with one millisecond in five would run for 4 ms at full speed, then stop for
16 ms. ``tick`` wakes often and does nothing, so that the kernel checks often.

A group may also save up about 2 ms of unused quota, so that a board would be as fast as this
machine after a short pause. ``idle`` enters the board's group, given by its ``cgroup.procs``, uses
the time that the agent leaves unused, and yields to the agent at once.

A processor that rests between a board's turns is slower during the turns: the clock frequency
falls, and a hypervisor gives a virtual processor, with its caches, to other machines. ``idle``
without a group keeps the processor awake. On a virtual machine with boards at 0.4 and 0.24 of a
processor, the same work took 8.7 ms of processor time without ``idle``, 7.9 ms with ``idle``
(medians of eight), and 7.0 ms on a processor of its own.

On a processor of 50 GMAC/s, at a share of 0.3, 2 ms of work should take 6.7 ms. With quotas only,
the work took 2.0 ms; with ``tick``, 3.3 ms; with ``tick`` and ``idle``, 7.1 ms.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

#: Time between wakes, which uses about 7 % of an x86-64 processor.
_TICK_S = 0.000_25
_PRIORITY = 50


def main() -> None:
    """Run until killed; print an empty line when the kernel has granted the priority and groups."""
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
