"""What signal handlers, or other threads, may ask of a program's loop: to end."""

from __future__ import annotations

import signal
from queue import Empty, SimpleQueue


class StopRequest:
    """A :class:`threading.Event` that a signal handler may set.

    An Event's lock is its own thread's as well: the main thread that is just then within
    ``set`` or ``wait``, or in the handler of a signal before, would wait for itself for ever. A
    :class:`queue.SimpleQueue` promises that ``put`` may interrupt any call of its own.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._asked: SimpleQueue[None] = SimpleQueue()

    @classmethod
    def on_signals(cls) -> StopRequest:
        """Return what Ctrl-C and SIGTERM set from now on. Call it in the main thread."""
        request = cls()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: request.set())
        return request

    def set(self) -> None:
        """Ask for the end; once or more makes no difference."""
        self._is_set = True
        self._asked.put(None)

    def is_set(self) -> bool:
        """Return whether it was asked for."""
        return self._is_set

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it is asked for, so long at most; return whether it was."""
        try:
            self._asked.get(timeout=timeout_s)
        except Empty:
            return False
        # For whoever asks next.
        self._asked.put(None)
        return True
