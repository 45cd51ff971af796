"""One thread for what may take long: commands, loading models, writing to disk."""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_LOG = logging.getLogger("device-agent")


class Jobs:
    """Runs jobs one after another, so that they need no lock against each other."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def start(self) -> None:
        """Begin with what waits."""
        self._thread.start()

    def waiting(self) -> int:
        """Return how many jobs wait."""
        return self._queue.qsize()

    def put(self, job: Callable[[], None]) -> None:
        """Queue a job; never blocks."""
        self._queue.put(job)

    def finish(self, timeout_s: float) -> None:
        """Do what is queued, then end the thread; give up after ``timeout_s``."""
        self._queue.put(None)
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            try:
                job()
            except Exception:  # noqa: BLE001 - the thread must outlive any one job
                _LOG.exception("a job failed")
