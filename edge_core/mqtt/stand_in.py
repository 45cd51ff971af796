"""A thread that steps a connection for activations while the connection's owner is busy.

To step a connection is to call :meth:`DataConnection.step`, which reads the packets that have
arrived. The owner is the thread that usually steps: an agent's inference thread, or a caller of the
client. An owner that runs a stage reads no packets. For a few milliseconds, the socket's buffer
holds the arriving bytes. If the owner is busy for longer, the stand-in steps: it reads large
messages during an inference, records when each request arrives, and sends the rest of a large
result. While the owner itself steps, the stand-in sleeps, so a request passes no second thread.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_core.mqtt.data_connection import DataConnection

#: If the owner's last piece of work took this time or longer, in seconds, the stand-in is woken and
#: steps as soon as the next piece of work begins. Each wake takes about 50 µs of processor time.
LONG_S = 0.01
#: Pause between two checks of an owner whose pieces of work are shorter, in seconds.
LOOK_S = 0.1
#: If no piece of work begins for this time, in seconds, the stand-in stops these checks.
_IDLE_S = 1.0


class StandIn:
    """Steps a connection while its owner is busy, and sends pings while its owner is idle.

    To step a connection is to call :meth:`DataConnection.step`. The owner calls
    :meth:`owner_is_busy` before each piece of work, and :meth:`owner_steps` before it steps again.
    """

    def __init__(self, connection: DataConnection) -> None:
        """Create the thread; :meth:`start` starts it.

        Args:
            connection: The connection to step.
        """
        self._connection = connection
        self._is_closed = False
        self._is_busy = False
        self._is_looking = False
        self._is_stepping = False
        #: Number of the owner's pieces of work so far, start of the last piece, and duration of the
        #: last finished piece. Times are in seconds.
        self._count, self._began, self._lasted_s = 0, 0.0, 0.0
        self._called = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stand-in", daemon=True)

    def start(self) -> None:
        """Start the stand-in's thread."""
        self._thread.start()

    def close(self) -> None:
        """End the stand-in's thread, and wait for its end."""
        self._is_closed, self._is_busy = True, False
        self._called.set()
        self._connection.wake()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def is_stepping(self) -> bool:
        """Whether the stand-in receives messages now, so that the owner does not have to step."""
        return self._is_stepping

    def owner_is_busy(self) -> None:
        """Record that the owner begins a piece of work, during which the owner does not step."""
        now = time.monotonic()
        if self._is_busy:
            self._lasted_s = now - self._began
        self._began = now
        self._count += 1
        self._is_busy = True
        if not (self._is_stepping or (self._is_looking and self._lasted_s < LONG_S)):
            self._called.set()

    def owner_steps(self) -> None:
        """Record that the owner steps again; if the stand-in is in a step, end this step."""
        if self._is_busy:
            self._lasted_s = time.monotonic() - self._began
            self._is_busy = False
        if self._is_stepping:
            self._connection.wake()

    def _run(self) -> None:
        looked_at, busy_at = 0, 0.0
        while not self._is_closed:
            # While the flag is set, an owner with short pieces of work does not wake this thread.
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
                # Keeps the connection alive while the owner does not use it.
                self._connection.step(0)

    def _step_while_busy(self) -> None:
        self._is_stepping = True
        while self._is_busy and not self._is_closed:
            self._connection.step(self._connection.keepalive_s / 2)
        self._is_stepping = False
