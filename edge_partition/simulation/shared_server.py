"""A server in simulated time, whose two first-come-first-served queues share its capacity."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_partition.simulation.event_queue import EventQueue

_Then: TypeAlias = "Callable[[Any, float], None]"
_Job: TypeAlias = "tuple[float, Any, _Then]"


class SharedServer:
    """A server with two queues of jobs. Each queue is first come, first served.

    At any time, only the first job of each queue runs. If one queue is empty, the first job of the
    other queue runs at full speed. If both queues have jobs, both first jobs run at
    ``shared_speed``, a fraction of full speed: 0.5 if the queues share one resource, 1 if each
    queue has a resource of its own.
    """

    __slots__ = (
        "_events",
        "_left_ms",
        "_next",
        "_schedule_number",
        "_shared_speed",
        "_started_ms",
        "_updated_ms",
        "queues",
    )

    def __init__(self, events: EventQueue, shared_speed: float) -> None:
        self.queues: tuple[collections.deque[_Job], collections.deque[_Job]] = (
            collections.deque(),
            collections.deque(),
        )
        self._events = events
        self._shared_speed = shared_speed
        #: For the first job of each queue: the remaining work, and the start of the job.
        self._left_ms = [0.0, 0.0]
        self._started_ms = [0.0, 0.0]
        #: The simulated time for which ``_left_ms`` is correct.
        self._updated_ms = 0.0
        #: The queue whose first job ends next, and the number of the event for this end. An event
        #: with another number is out of date.
        self._next = 0
        self._schedule_number = 0

    def add(self, queue: int, work_ms: float, job: Any, then: _Then) -> None:
        """Add a job to queue 0 or 1.

        Args:
            queue: The number of the queue.
            work_ms: Time that the job takes at full speed, in milliseconds.
            job: First argument of ``then``.
            then: Called when the job ends, with ``job`` and the time at which the job started, in
                simulated milliseconds.
        """
        jobs = self.queues[queue]
        if jobs:
            jobs.append((work_ms, job, then))
            return
        self._update()
        jobs.append((work_ms, job, then))
        self._left_ms[queue] = work_ms
        self._started_ms[queue] = self._updated_ms
        self._schedule()

    def clear(self) -> None:
        """Drop all jobs."""
        for jobs in self.queues:
            jobs.clear()
        self._schedule_number += 1

    def _update(self) -> None:
        now_ms = self._events.now_ms
        passed_ms = now_ms - self._updated_ms
        if not passed_ms:
            return
        self._updated_ms = now_ms
        first, second = self.queues
        left_ms = self._left_ms
        if first and second:
            left_ms[0] -= passed_ms * self._shared_speed
            left_ms[1] -= passed_ms * self._shared_speed
        elif first:
            left_ms[0] -= passed_ms
        elif second:
            left_ms[1] -= passed_ms

    def _schedule(self) -> None:
        """Add an event for the job that ends next. Events that were added before have no effect."""
        first, second = self.queues
        left_ms = self._left_ms
        self._schedule_number += 1
        if first and second:
            self._next = 0 if left_ms[0] <= left_ms[1] else 1
            delay_ms = left_ms[self._next] / self._shared_speed
        elif first or second:
            self._next = 0 if first else 1
            delay_ms = left_ms[self._next]
        else:
            return
        # Rounding may leave slightly less than 0.
        self._events.call_after(max(0, delay_ms), self._finish, self._schedule_number)

    def _finish(self, schedule_number: int) -> None:
        if schedule_number != self._schedule_number:
            return
        self._update()
        queue = self._next
        jobs = self.queues[queue]
        started_ms = self._started_ms[queue]
        _, job, then = jobs.popleft()
        if jobs:
            self._left_ms[queue] = jobs[0][0]
            self._started_ms[queue] = self._updated_ms
        self._schedule()
        then(job, started_ms)
