"""A request to end a program's loop, from a signal handler or another thread."""

from __future__ import annotations

import signal
from queue import Empty, SimpleQueue


class StopRequest:
    """An event that a signal handler may set, unlike a :class:`threading.Event`.

    A signal handler runs in the main thread. If the main thread holds the lock of a
    ``threading.Event`` when the signal arrives, the handler waits for the lock for ever. This class
    uses a :class:`queue.SimpleQueue`, whose ``put`` is reentrant: a handler may call ``put`` during
    any other call of the queue.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._asked: SimpleQueue[None] = SimpleQueue()

    @classmethod
    def on_signals(cls) -> StopRequest:
        """Return a request that Ctrl-C and SIGTERM set. Call this method in the main thread."""
        request = cls()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: request.set())
        return request

    def set(self) -> None:
        """Request the end; further calls change nothing."""
        self._is_set = True
        self._asked.put(None)

    def is_set(self) -> bool:
        """Return whether the end was requested."""
        return self._is_set

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the request, for at most ``timeout_s``; return whether the end was requested."""
        try:
            self._asked.get(timeout=timeout_s)
        except Empty:
            return False
        # The next call of wait() needs an item too.
        self._asked.put(None)
        return True
