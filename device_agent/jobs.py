"""The jobs thread: executes commands, loads models and writes to the disk."""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_LOG = logging.getLogger("device-agent")


class Jobs:
    """Runs jobs one at a time, in the order of :meth:`put`. Jobs need no locks among each other.

    An executor of ``concurrent.futures`` does not fit: it starts the first job immediately, and a
    process cannot end before its executor's last job.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def start(self) -> None:
        """Start the thread, which first runs the waiting jobs."""
        self._thread.start()

    def waiting(self) -> int:
        """Return the number of waiting jobs."""
        return self._queue.qsize()

    def put(self, job: Callable[[], None]) -> None:
        """Queue a job without blocking."""
        self._queue.put(job)

    def finish(self, timeout_s: float) -> None:
        """Wait at most ``timeout_s`` for the queued jobs and the end of the thread."""
        self._queue.put(None)
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            try:
                job()
            except Exception:  # noqa: BLE001 - the thread must survive a failed job
                _LOG.exception("a job of the agent failed; the agent goes on")
