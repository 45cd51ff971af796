"""A thread that steps a data connection while the connection's owner is busy.

An owner that runs a stage, or waits for its caller, reads no packets. For a few milliseconds the
socket's buffer holds what arrives. If the owner is busy for longer, the stand-in reads, so that a
large message arrives during an inference, requests are stamped with the time of their arrival, and
the rest of a result leaves. While the owner is idle, the owner steps and the stand-in sleeps: a
request then passes no second thread.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_core.mqtt.data_connection import DataConnection

#: An owner that was busy for this time, in seconds, is expected to be so again: the stand-in steps
#: at once. Waking the stand-in costs some 50 µs of processor time.
LONG_S = 0.01
#: Pause between two looks at an owner that was not busy for long, in seconds.
LOOK_S = 0.1
#: Time without a busy owner after which the stand-in stops looking, in seconds.
_IDLE_S = 1.0


class StandIn:
    """Steps a connection while its owner is busy, and keeps the connection alive.

    The owner tells the stand-in when its work begins and when the owner steps again.
    """

    def __init__(self, connection: DataConnection) -> None:
        """Create the thread; :meth:`start` starts it.

        Args:
            connection: The connection.
        """
        self._connection = connection
        self._is_closed = False
        self._is_busy = False
        self._is_looking = False
        self._is_stepping = False
        #: Number of the owner's pieces of work, the start of the last one, and the duration of the
        #: one before, in seconds.
        self._count, self._began, self._lasted_s = 0, 0.0, 0.0
        self._called = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stand-in", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._is_closed, self._is_busy = True, False
        self._called.set()
        self._connection.wake()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def is_stepping(self) -> bool:
        """Whether the stand-in steps now, so that the owner need not look for new messages."""
        return self._is_stepping

    def owner_is_busy(self) -> None:
        """Note that the owner begins a piece of work and does not step."""
        now = time.monotonic()
        if self._is_busy:
            self._lasted_s = now - self._began
        self._began = now
        self._count += 1
        self._is_busy = True
        if not (self._is_stepping or (self._is_looking and self._lasted_s < LONG_S)):
            self._called.set()

    def owner_steps(self) -> None:
        """Note that the owner steps again; end the stand-in's step."""
        if self._is_busy:
            self._lasted_s = time.monotonic() - self._began
            self._is_busy = False
        if self._is_stepping:
            self._connection.wake()

    def _run(self) -> None:
        looked_at, busy_at = 0, 0.0
        while not self._is_closed:
            # The flag is set before the thread looks: an owner that begins work later calls.
            self._is_looking = time.monotonic() < busy_at + _IDLE_S
            pause_s = LOOK_S if self._is_looking else self._connection.keepalive_s / 2
            is_called = self._called.wait(pause_s)
            self._called.clear()
            is_new, looked_at = self._count != looked_at, self._count
            if is_new:
                busy_at = time.monotonic()
            if self._is_busy and (self._lasted_s >= LONG_S or not is_new):
                self._step_while_busy()
            elif not (is_called or self._is_looking):
                # The connection stays alive although the owner does not use it.
                self._connection.step(0)

    def _step_while_busy(self) -> None:
        self._is_stepping = True
        while self._is_busy and not self._is_closed:
            self._connection.step(self._connection.keepalive_s / 2)
        self._is_stepping = False
