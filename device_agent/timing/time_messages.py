"""Measure the time of messages between this board and the broker.

The agent sends messages to itself through the broker, on a connection of its own. In each round,
the jobs thread receives a message, publishes a message of equal size, and acknowledges the received
message. So a round has one message in each direction, as a stage has for each request. With one
message in flight, the time of a round is the latency. With several messages in flight, the time of
a round shows the throughput of the link.

In a stage, an inference runs between two messages and displaces the code and data of the connection
from the caches. With one message in flight, the agent therefore reads a large block of memory in
each round. Processor time is measured with and without a pause after this reading. The times
exclude the reading and the pause. Messages of 1 kB to 600 kB took 0.2 to 0.4 ms of processor time
without the pause, and 0.3 to 0.5 ms with the pause. Stages at full load took the same time as with
the pause (x86-64, with a quota of a quarter of a processor).
"""

from __future__ import annotations

import hashlib
import os
import statistics
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from device_agent.assignment import reading_fields
from edge_core.contract.json_fields import Field
from edge_core.contract.messages import (
    GENERATION,
    MAX_TIMED_MESSAGE_BYTES,
    ROUTE,
    TRACE,
    CommandError,
    ErrorCode,
    StageTrace,
    append_trace,
)
from edge_core.errors import EdgePartitionError, MessageTooLargeError
from edge_core.mqtt.data_connection import DataConnection
from edge_core.mqtt.message import NO_RECEIPT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_core.contract.topics import Topic
    from edge_core.mqtt.broker_address import BrokerAddress
    from edge_core.mqtt.message import Message

_WINDOW = 4
_MODE_S = 0.4
#: Length of a batch in seconds, equal to the period of Linux's processor quotas (kernel.org,
#: sched-bwc).
_BATCH_S = 0.1
_WARM_UP_ROUNDS = 8
#: Memory to read in each round, in bytes. Reading only 4 MiB displaced nothing from the caches of a
#: large processor.
_DISPLACED_BYTES = 16 << 20
_PAUSE_S = 0.005
_ANSWER_S = 10.0
_SPIN_S = 0.2
_SPIN_BYTES = 1 << 18


@dataclass(frozen=True)
class _Rounds:
    """Wall time and processor time of one round, in milliseconds.

    The times are means over the rounds of one batch, or the medians of these means.
    """

    wall_ms: float
    cpu_ms: float


class _NotReturnedError(EdgePartitionError):
    """A message did not come back from the broker."""


class MessageTimer:
    """Measures the time of messages between this board and the broker."""

    def __init__(self, address: BrokerAddress, device: str, topic: Topic, threads: int) -> None:
        """Create the timer; :meth:`answer` connects.

        Args:
            address: The broker's address.
            device: This board's name.
            topic: Topic that only this agent uses.
            threads: Number of threads of an interpreter.
        """
        self._address = address
        self._client_id = f"edge-agent-{device}-timing"
        self._topic = topic
        self._threads = threads

    def answer(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Measure the time of messages of ``size_bytes`` bytes; return the fields of the answer.

        Raises:
            CommandError: With ``bad-command``: the size is missing or too large; with
                ``too-large``: the broker refuses messages of this size; with ``not-found``: the
                broker refuses the connection, or a message did not come back.
        """
        with reading_fields():
            fields = Field(command, root="command")
            size_bytes = fields["size_bytes"].whole(0, MAX_TIMED_MESSAGE_BYTES)
        payload = bytes(size_bytes)
        echo = _Echo(self._address, self._client_id, self._topic)
        try:
            echo.open()
            lone = echo.time(payload, 1, _DISPLACED_BYTES)
            apart = echo.time(payload, 1, _DISPLACED_BYTES, _PAUSE_S)
            window = echo.time(payload, _WINDOW, 0)
        except MessageTooLargeError as error:
            raise CommandError(ErrorCode.TOO_LARGE, str(error)) from None
        except EdgePartitionError as error:
            raise CommandError(ErrorCode.NOT_FOUND, str(error)) from None
        finally:
            echo.close()
        return {
            "lone_ms": lone.wall_ms,
            "window_ms": window.wall_ms,
            "cpu_ms": lone.cpu_ms,
            "apart_cpu_ms": apart.cpu_ms,
            "cores": measure_cores(self._threads + 1),
        }


class _Echo:
    """A connection that sends messages to itself."""

    def __init__(self, address: BrokerAddress, client_id: str, topic: Topic) -> None:
        self._topic = topic
        self._arrived: deque[Message] = deque()
        self._connection = DataConnection(address, client_id, on_message=self._arrived.append)

    def open(self) -> None:
        self._connection.subscribe(self._topic)
        self._connection.open()

    def close(self) -> None:
        self._connection.close()

    def time(
        self, payload: bytes, window: int, displaced_bytes: int, pause_s: float = 0
    ) -> _Rounds:
        """Return the times of one round, with ``window`` messages in flight.

        A round receives a message and sends a message of equal size.
        """
        displacing = b"." * displaced_bytes
        for _ in range(window):
            self._send(payload)
        for _ in range(_WARM_UP_ROUNDS):
            self._pass_on(payload, displacing, pause_s)
        batches: list[_Rounds] = []
        deadline = time.perf_counter() + _MODE_S
        while time.perf_counter() < deadline:
            started, cpu_started, rounds = time.perf_counter(), time.thread_time(), 0
            displaced_s = displaced_cpu_s = 0.0
            while rounds == 0 or time.perf_counter() < started + _BATCH_S:
                wall_s, thread_s = self._pass_on(payload, displacing, pause_s)
                displaced_s += wall_s
                displaced_cpu_s += thread_s
                rounds += 1
            spent_s = time.perf_counter() - started - displaced_s
            cpu_s = time.thread_time() - cpu_started - displaced_cpu_s
            batches.append(_Rounds(spent_s * 1000 / rounds, cpu_s * 1000 / rounds))
        for _ in range(window):
            self._connection.acknowledge(self._take().receipt)
        return _Rounds(
            statistics.median(batch.wall_ms for batch in batches),
            statistics.median(batch.cpu_ms for batch in batches),
        )

    def _send(self, payload: bytes, answered: Message | None = None) -> None:
        receipt = NO_RECEIPT if answered is None else answered.receipt
        self._connection.publish(
            self._topic,
            payload,
            response_topic=self._topic,
            correlation_data=bytes(8),
            expiry_s=int(_ANSWER_S),
            user={
                GENERATION: "0" * 12,
                TRACE: append_trace(None, StageTrace(0, "board", 0.0, 0.0)),
                ROUTE: "board,board",
            },
            answers=receipt,
        )

    def _pass_on(self, payload: bytes, displacing: bytes, pause_s: float) -> tuple[float, float]:
        """Receive a message, read ``displacing``, pause, and send a message.

        Returns:
            Wall time and processor time of reading ``displacing`` and of the pause, in seconds.
        """
        message = self._take()
        started, thread_started = time.perf_counter(), time.thread_time()
        displacing.find(b"!")  # Reads all bytes, because no byte matches.
        if pause_s:
            time.sleep(pause_s)
        displaced = time.perf_counter() - started, time.thread_time() - thread_started
        while not self._connection.has_room:
            self._step()
        self._send(payload, message)
        return displaced

    def _take(self) -> Message:
        while not self._arrived:
            self._step()
        return self._arrived.popleft()

    def _step(self) -> None:
        started = time.monotonic()
        self._connection.step(_ANSWER_S)
        if not self._connection.is_connected or time.monotonic() - started >= _ANSWER_S:
            raise _NotReturnedError(
                f"A message on {self._topic} did not come back from the broker within "
                f"{_ANSWER_S:g} s. Check that the broker's access list allows this topic."
            )


def measure_cores(threads: int) -> float:
    """Return the number of processors that this process gets while ``threads`` threads compute."""
    threads = min(threads, len(os.sched_getaffinity(0)))
    data = bytes(_SPIN_BYTES)
    started, cpu_started = time.perf_counter(), time.process_time()

    def spin() -> None:
        while time.perf_counter() < started + _SPIN_S:
            hashlib.sha256(data)  # Releases the GIL.

    spinning = [threading.Thread(target=spin) for _ in range(threads)]
    for thread in spinning:
        thread.start()
    for thread in spinning:
        thread.join()
    return (time.process_time() - cpu_started) / (time.perf_counter() - started)
