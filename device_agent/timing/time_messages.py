"""What messages cost this board: it sends some to itself through the broker, as a stage would.

The thread that asks plays the inference thread: it takes a message that the network thread queued,
publishes one of the same size, and acknowledges the first. A round is one message in and one out,
as each request is to a stage. One message at a time shows how long it takes, several show what the
link carries.

The processor time is taken apart from both, with a message every few milliseconds: an inference
lies between a stage's messages, and what woke for one is out of the caches by the next. So memory
is read, as much as an inference reads, and the thread sleeps; the reading's time is taken off.
Without the sleep messages of 1 kB to 600 kB took 0.2 to 0.4 ms, with it 0.3 to 0.5 ms, and as much
in stages at full load (x86-64, a quarter of a processor).
"""

from __future__ import annotations

import hashlib
import os
import queue
import statistics
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from device_agent.assignment import reading_fields
from edge_core.contract.json_fields import Field
from edge_core.contract.messages import (
    GENERATION,
    MAX_TIMED_MESSAGE_BYTES,
    TRACE,
    CommandError,
    ErrorCode,
    StageTrace,
    append_trace,
)
from edge_core.errors import MessageTooLargeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_core.contract.topics import Topic
    from edge_core.mqtt.connection import Connection, Message

_WINDOW = 4
_MODE_S = 0.4
#: As long as a period of Linux's processor quotas (kernel.org, sched-bwc: 100 ms).
_BATCH_S = 0.1
_WARM_UP_ROUNDS = 8
#: As much as an inference reads: after 4 MiB a large processor had lost nothing.
_DISPLACED_BYTES = 16 << 20
_PAUSE_S = 0.005
_ANSWER_S = 10.0
_SPIN_S = 0.2
_SPIN_BYTES = 1 << 18


@dataclass(frozen=True)
class _Rounds:
    """Medians over batches of their rounds' mean."""

    wall_ms: float
    cpu_ms: float


class MessageTimer:
    """Times messages; see the module's text."""

    def __init__(self, connection: Connection, topic: Topic, threads: int) -> None:
        """Prepare.

        Args:
            connection: The agent's, on which messages wait for their acknowledgement.
            topic: One that only this agent uses.
            threads: Threads of one inference.
        """
        self._connection = connection
        self._topic = topic
        self._threads = threads
        self._arrived: queue.SimpleQueue[Message] = queue.SimpleQueue()

    def answer(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Time messages of the command's ``size_bytes`` and return the answer's fields.

        Raises:
            CommandError: With ``bad-command``: it says no size, or too large a one; with
                ``too-large``: the broker takes no such message; with ``not-found``: it brings none
                back.
        """
        with reading_fields():
            fields = Field(command, root="command")
            size_bytes = fields["size_bytes"].whole(0, MAX_TIMED_MESSAGE_BYTES)
        payload = bytes(size_bytes)
        self._connection.subscribe(self._topic, self._arrived.put)
        try:
            lone = self._time(payload, 1, _DISPLACED_BYTES)
            apart = self._time(payload, 1, _DISPLACED_BYTES, _PAUSE_S)
            window = self._time(payload, _WINDOW, 0)
        except MessageTooLargeError as error:
            raise CommandError(ErrorCode.TOO_LARGE, str(error)) from None
        except queue.Empty:
            raise CommandError(
                ErrorCode.NOT_FOUND,
                f"The broker did not bring a message on {self._topic} back within "
                f"{_ANSWER_S:g} s; its access list may forbid it.",
            ) from None
        finally:
            self._connection.unsubscribe(self._topic)
        return {
            "lone_ms": lone.wall_ms,
            "window_ms": window.wall_ms,
            "cpu_ms": lone.cpu_ms,
            "apart_cpu_ms": apart.cpu_ms,
            "cores": measure_cores(self._threads + 1),
        }

    def _time(
        self, payload: bytes, window: int, displaced_bytes: int, pause_s: float = 0
    ) -> _Rounds:
        displacing = b"." * displaced_bytes
        for _ in range(window):
            self._send(payload)
        for _ in range(_WARM_UP_ROUNDS):
            self._pass_on(payload, displacing, pause_s)
        batches: list[_Rounds] = []
        deadline = time.perf_counter() + _MODE_S
        while time.perf_counter() < deadline:
            started, cpu_started, rounds = time.perf_counter(), time.process_time(), 0
            displaced_s = displaced_cpu_s = 0.0
            while rounds == 0 or time.perf_counter() < started + _BATCH_S:
                wall_s, thread_s = self._pass_on(payload, displacing, pause_s)
                displaced_s += wall_s
                displaced_cpu_s += thread_s
                rounds += 1
            spent_s = time.perf_counter() - started - displaced_s
            cpu_s = time.process_time() - cpu_started - displaced_cpu_s
            batches.append(_Rounds(spent_s * 1000 / rounds, cpu_s * 1000 / rounds))
        for _ in range(window):
            self._connection.acknowledge(self._take())
        return _Rounds(
            statistics.median(batch.wall_ms for batch in batches),
            statistics.median(batch.cpu_ms for batch in batches),
        )

    def _send(self, payload: bytes) -> None:
        self._connection.publish(
            self._topic,
            payload,
            response_topic=self._topic,
            correlation_data=bytes(8),
            expiry_s=int(_ANSWER_S),
            user={
                GENERATION: "0" * 12,
                TRACE: append_trace(None, StageTrace(0, "board", 0.0, 0.0)),
            },
        )

    def _pass_on(self, payload: bytes, displacing: bytes, pause_s: float) -> tuple[float, float]:
        """Do a round; return the wall time and the processor time between its two messages."""
        message = self._take()
        started, thread_started = time.perf_counter(), time.thread_time()
        displacing.find(b"!")  # reads them all
        if pause_s:
            time.sleep(pause_s)
        displaced = time.perf_counter() - started, time.thread_time() - thread_started
        self._send(payload)
        self._connection.acknowledge(message)
        return displaced

    def _take(self) -> Message:
        return self._arrived.get(timeout=_ANSWER_S)


def measure_cores(threads: int) -> float:
    """Return how many processors this process gets when so many threads want one each."""
    threads = min(threads, len(os.sched_getaffinity(0)))
    data = bytes(_SPIN_BYTES)
    started, cpu_started = time.perf_counter(), time.process_time()

    def spin() -> None:
        while time.perf_counter() < started + _SPIN_S:
            hashlib.sha256(data)  # without the GIL

    spinning = [threading.Thread(target=spin) for _ in range(threads)]
    for thread in spinning:
        thread.start()
    for thread in spinning:
        thread.join()
    return (time.process_time() - cpu_started) / (time.perf_counter() - started)
