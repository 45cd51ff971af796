"""The inference thread: waits for requests and answers them, one at a time.

The inference thread reads the socket itself, so a request to an idle board passes no other thread.
While the inference thread runs a stage for long, another thread reads the socket in its place
(:mod:`edge_core.mqtt.stand_in`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from device_agent.serve_request import RequestServer
from edge_core.contract.messages import ErrorCode
from edge_core.mqtt.stand_in import StandIn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from device_agent.deployments import ServedStage
    from device_agent.find_route import RouteFinder
    from device_agent.telemetry.stats import Stats
    from edge_core.contract.topics import Topics
    from edge_core.mqtt.data_connection import DataConnection
    from edge_core.mqtt.message import Message

_LOG = logging.getLogger("device-agent")

#: Largest number of waiting requests. MQTT's receive maximum is lower, but the broker rumqttd
#: ignores the receive maximum.
QUEUE_LENGTH = 32
#: Longest wait for a request, in seconds. After each wait, the thread checks whether it must end.
_STEP_S = 1.0


class Worker:
    """Answers the requests that arrive at a data connection, in a thread of its own."""

    def __init__(
        self,
        connection: DataConnection,
        topics: Topics,
        device: str,
        *,
        served_stages: Callable[[], Mapping[tuple[str, int], ServedStage]],
        stats: Stats,
        finder: RouteFinder,
    ) -> None:
        """Create the thread; :meth:`start` starts it.

        The arguments are those of :class:`~device_agent.serve_request.RequestServer`.
        """
        self._connection = connection
        self._device = device
        self._stand_in = StandIn(connection)
        self._server = RequestServer(
            connection,
            topics,
            device,
            served_stages=served_stages,
            stats=stats,
            finder=finder,
            wait_for_room=self._wait_for_room,
        )
        self.refuse = self._server.refuse
        self._queue: deque[tuple[str, int, Message]] = deque()
        #: Time until which the thread serves the queue, on the monotonic clock; None: no end.
        self._end_s: float | None = None
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)

    def start(self) -> None:
        """Start the thread, which connects to the broker and answers requests."""
        self._stand_in.start()
        self._thread.start()

    def queue_length(self) -> int:
        """Return the number of waiting requests."""
        return len(self._queue)

    def submit(self, deployment: str, index: int, message: Message) -> None:
        """Queue a request, or refuse it if the queue is full.

        Runs in the thread that reads the socket.
        """
        if len(self._queue) >= QUEUE_LENGTH:
            self.refuse(
                deployment,
                index,
                message,
                ErrorCode.OVERLOADED,
                f"Board {self._device} already has {QUEUE_LENGTH} waiting requests. Keep fewer "
                "requests in flight.",
            )
            return
        self._queue.append((deployment, index, message))

    def drop_queue(self) -> None:
        """Drop the waiting requests, which the broker delivers again after a reconnect."""
        self._queue.clear()

    def finish(self, timeout_s: float) -> None:
        """Serve the queued requests for at most ``timeout_s``, then end the thread."""
        self._end_s = time.monotonic() + timeout_s
        self._connection.wake()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
            self._stand_in.close()

    def _run(self) -> None:
        while self._end_s is None or (self._queue and time.monotonic() < self._end_s):
            if not self._queue:
                self._stand_in.owner_steps()
                self._connection.step(_STEP_S)
            elif not self._stand_in.is_stepping:
                self._connection.step(0)
            if not self._queue:
                continue
            self._stand_in.owner_is_busy()
            try:
                item = self._queue.popleft()
            except IndexError:  # A reconnect dropped the queue.
                continue
            self._server.serve(*item)
        self._stand_in.owner_steps()

    def _wait_for_room(self) -> None:
        """Wait until the connection can take another result, or until the agent must stop."""
        while not self._connection.has_room:
            if self._end_s is not None and time.monotonic() >= self._end_s:
                return
            self._stand_in.owner_steps()
            self._connection.step(_STEP_S)
