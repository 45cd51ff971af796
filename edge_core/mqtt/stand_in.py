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

#: Time for which an owner may be busy before the stand-in steps, in seconds.
NAP_S = 0.01
#: Time without a busy owner after which the stand-in stops looking, in seconds.
_IDLE_S = 1.0


class StandIn:
    """Steps a connection while its owner is busy, and keeps the connection alive."""

    def __init__(self, connection: DataConnection) -> None:
        """Create the thread; :meth:`start` starts it.

        Args:
            connection: The connection.
        """
        self._connection = connection
        self._is_closed = False
        self._is_busy = False
        self._is_asleep = False
        self._is_stepping = False
        self._count = 0
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
        """Note that the owner begins work and does not step."""
        self._count += 1
        self._is_busy = True
        if self._is_asleep:
            self._called.set()

    def owner_steps(self) -> None:
        """Note that the owner steps again; end the stand-in's step."""
        self._is_busy = False
        if self._is_stepping:
            self._connection.wake()

    def _run(self) -> None:
        while not self._is_closed:
            self._sleep_until_called()
            idle_since = time.monotonic()
            while not self._is_closed and time.monotonic() < idle_since + _IDLE_S:
                count = self._count
                time.sleep(NAP_S)
                if self._count != count:
                    idle_since = time.monotonic()
                elif self._is_busy:
                    self._step_while_busy()
                    idle_since = time.monotonic()

    def _sleep_until_called(self) -> None:
        self._called.clear()
        self._is_asleep = True
        # An owner that looked before the flag was set did not call.
        while not (self._is_busy or self._called.wait(self._connection.keepalive_s / 2)):
            # The connection stays alive although the owner does not use it.
            self._connection.step(0)
        self._is_asleep = False

    def _step_while_busy(self) -> None:
        self._is_stepping = True
        while self._is_busy and not self._is_closed:
            self._connection.step(self._connection.keepalive_s / 2)
        self._is_stepping = False
