"""Waits for answers in the threads of the callers.

A thread that waits for an answer also *steps* the connection: it sends and receives packets, and
runs the handlers of arriving messages (:meth:`DataConnection.step`). So the answer passes no other
thread. If several threads wait, one of them steps, and the others wait for that thread. While no
thread waits, a stand-in thread steps (:mod:`edge_core.mqtt.stand_in`).
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from edge_core.mqtt.stand_in import StandIn

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_core.mqtt.data_connection import DataConnection

#: Longest step before a thread checks its deadline again, in seconds.
STEP_S = 1.0


class AnswerWaiter:
    """Lets threads wait for the answers that arrive on one connection."""

    def __init__(
        self,
        connection: DataConnection,
        lock: threading.Condition,
        *,
        longest_step_s: Callable[[], float],
        after_step: Callable[[], None],
    ) -> None:
        """Create a waiter; :meth:`start` starts its stand-in thread.

        Args:
            connection: The connection. A step sends and receives its packets.
            lock: The lock of the state that the connection's handlers change. After each change, a
                handler notifies the threads that wait on the lock.
            longest_step_s: Function that returns the longest time of the next step, in seconds.
            after_step: Function to call after each step, in the thread that steps.
        """
        self._connection = connection
        self._lock = lock
        self._longest_step_s = longest_step_s
        self._after_step = after_step
        self._stand_in = StandIn(connection)
        self._stepping = threading.Lock()
        self._waiting_threads = 0

    def start(self) -> None:
        """Start the stand-in thread, which steps the connection while no caller waits."""
        self._stand_in.start()

    def close(self) -> None:
        """End the stand-in thread, which steps the connection while no caller waits."""
        self._stand_in.close()

    def expect_answer(self) -> None:
        """Let the stand-in thread receive the answer if no caller waits.

        The caller of this method must not hold the lock.
        """
        with self._lock:
            # Without the lock, a thread could begin to wait between the check and the call. That
            # thread would then wait until the stand-in's step ends.
            if not self._waiting_threads:
                self._stand_in.owner_is_busy()

    def wait_until(
        self, is_done: Callable[[], bool], deadline: float, *, is_expecting: Callable[[], bool]
    ) -> None:
        """Receive messages until ``is_done()`` returns true, at most until ``deadline``.

        Args:
            is_done: Condition that the connection's handlers make true.
            deadline: Value of ``time.monotonic()``, in seconds.
            is_expecting: Function that returns whether further answers may arrive after the wait.
                It is called while the lock is held.
        """
        if is_done():
            return
        with self._lock:
            self._waiting_threads += 1
            if self._waiting_threads == 1:
                self._stand_in.owner_steps()
        try:
            while not is_done() and (left_s := deadline - time.monotonic()) > 0:
                self._step_or_wait(is_done, left_s)
        finally:
            with self._lock:
                self._waiting_threads -= 1
                if not self._waiting_threads and is_expecting():
                    self._stand_in.owner_is_busy()

    def _step_or_wait(self, is_done: Callable[[], bool], left_s: float) -> None:
        if not self._stepping.acquire(blocking=False):
            with self._lock:
                if not is_done() and self._stepping.locked():
                    self._lock.wait(min(left_s, STEP_S))
            return
        try:
            self._connection.step(min(left_s, self._longest_step_s()))
            self._after_step()
        finally:
            self._stepping.release()
            with self._lock:
                # Another thread that waits must step now.
                self._lock.notify_all()
