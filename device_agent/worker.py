"""The inference thread: takes the inputs of a stage, runs the stage and publishes the outputs.

The worker passes the result to the connection, which sends in order, and then acknowledges the
request. If the agent is killed before the acknowledgement, the broker delivers the request again. A
request changes threads once, and only the runtime copies the payload.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from typing import TYPE_CHECKING

from device_agent.client_order import StateError, Turn
from edge_core.contract.messages import (
    ERROR,
    GENERATION,
    TRACE,
    ErrorCode,
    StageTrace,
    append_trace,
)
from edge_core.contract.topics import RESULT, Topic
from edge_core.errors import EdgePartitionError, MessageTooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from device_agent.deployments import Route
    from device_agent.load_stage import LoadedStage
    from device_agent.telemetry.stats import Stats
    from edge_core.contract.topics import Topics
    from edge_core.mqtt.connection import Connection, Message

_LOG = logging.getLogger("device-agent")

#: Most requests that may wait: more than twice the receive maximum, because after a reconnect the
#: broker sends the queued requests again, and because rumqttd ignores the receive maximum.
QUEUE_LENGTH = 32


class _RefusedError(EdgePartitionError):
    """A request gets an error instead of a result."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        self.code = code
        super().__init__(reason)


class Worker:
    """Runs stages in its own thread, one request at a time."""

    def __init__(
        self,
        connection: Connection,
        topics: Topics,
        device: str,
        routes: Callable[[], Mapping[tuple[str, int], Route]],
        stats: Stats,
    ) -> None:
        """Queue requests until :meth:`start`.

        Args:
            connection: The agent's connection.
            topics: The topics of the fleet.
            device: This board's name, for traces and errors.
            routes: Function that returns the present routes, by deployment and stage index.
            stats: Counters and times of the stages.
        """
        self._connection = connection
        self._topics = topics
        self._device = device
        self._routes = routes
        self._stats = stats
        self._queue: queue.SimpleQueue[tuple[str, int, Message] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)

    def start(self) -> None:
        """Start the thread, which first serves the waiting requests."""
        self._thread.start()

    def queue_length(self) -> int:
        """Return the number of waiting requests."""
        return self._queue.qsize()

    def submit(self, deployment: str, index: int, message: Message) -> None:
        """Queue a request, or refuse it if the queue is full. Runs in the network thread."""
        if self._queue.qsize() >= QUEUE_LENGTH:
            self.refuse(
                deployment,
                index,
                message,
                ErrorCode.OVERLOADED,
                f"Board {self._device} has {QUEUE_LENGTH} waiting requests; keep fewer in flight.",
            )
            self._connection.acknowledge(message)
            return
        self._queue.put((deployment, index, message))

    def finish(self, timeout_s: float) -> None:
        """Wait at most ``timeout_s`` for the queued requests and the end of the thread."""
        self._queue.put(None)
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def refuse(
        self, deployment: str, index: int, message: Message, code: ErrorCode, reason: str
    ) -> None:
        """Answer a request with an error; the caller acknowledges the request."""
        self._stats.count_error(deployment, index, code)
        if message.response_topic is None:
            return
        user = {ERROR: str(code)}
        for key in (GENERATION, TRACE):
            if key in message.user:
                user[key] = message.user[key]
        try:
            self._connection.publish(
                Topic(message.response_topic, RESULT),
                reason.encode(),
                correlation_data=message.correlation_data,
                user=user,
            )
        except (MessageTooLargeError, ValueError) as error:
            _LOG.warning("cannot send an error to %r: %s", message.response_topic, error)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            deployment, index, message = item
            try:
                self._serve(deployment, index, message)
            except _RefusedError as error:
                self.refuse(deployment, index, message, error.code, str(error))
            except Exception as error:  # noqa: BLE001 - the thread must survive a failed request
                _LOG.exception("stage %d of %s failed", index, deployment)
                self.refuse(deployment, index, message, ErrorCode.STAGE_FAILED, repr(error))
            self._connection.acknowledge(message)

    def _serve(self, deployment: str, index: int, message: Message) -> None:
        response_topic = message.response_topic
        if not response_topic:
            self._stats.count_unanswerable(deployment, index)
            return
        loaded = self._find(deployment, index, message)
        if loaded is None:
            return
        remaining_s = None
        started = time.monotonic()
        if message.expiry_s is not None:
            remaining_s = message.expiry_s - (started - message.arrived)
            if remaining_s <= 0:
                raise _RefusedError(
                    ErrorCode.EXPIRED,
                    f"The request expired on board {self._device} after waiting "
                    f"{started - message.arrived:.1f} s for stage {index}.",
                )
        result = self._answer(loaded, message)
        ended = time.monotonic()
        queue_ms, invoke_ms = (started - message.arrived) * 1000, (ended - started) * 1000
        user = {
            GENERATION: loaded.generation,
            TRACE: append_trace(
                message.user.get(TRACE), StageTrace(index, self._device, queue_ms, invoke_ms)
            ),
        }
        try:
            if loaded.is_last:
                self._connection.publish(
                    Topic(response_topic, RESULT),
                    result,
                    correlation_data=message.correlation_data,
                    user=user,
                )
            else:
                self._connection.publish(
                    self._topics.stage(deployment, index + 1),
                    result,
                    response_topic=response_topic,
                    correlation_data=message.correlation_data,
                    expiry_s=None if remaining_s is None else math.ceil(remaining_s),
                    user=user,
                )
        except MessageTooLargeError as error:
            raise _RefusedError(ErrorCode.TOO_LARGE, str(error)) from None
        except ValueError:  # paho: the response topic has wildcards
            self._stats.count_unanswerable(deployment, index)
            return
        self._stats.count_request(deployment, index, queue_ms, invoke_ms)
        self._make_ready(loaded)

    def _find(self, deployment: str, index: int, message: Message) -> LoadedStage | None:
        """Return the loaded stage for a request; None: another board answers the request."""
        route = self._routes().get((deployment, index))
        generation = message.user.get(GENERATION) or (route.live_generation if route else None)
        if route is not None and generation is not None:
            loaded = route.stages.get(generation)
            if loaded is not None:
                return loaded
            if generation in route.elsewhere:
                return None
        raise _RefusedError(
            ErrorCode.UNKNOWN_GENERATION,
            f"Board {self._device} does not serve stage {index} of {deployment} in generation "
            f"{generation or 'none'}; the live generation is "
            f"{(route.live_generation if route else None) or 'none'}.",
        )

    def _make_ready(self, loaded: LoadedStage) -> None:
        """Reset the state once the answer was sent; the next request does not wait for the reset.

        A failed reset is only logged, because ``invoke`` resets the state again if needed.
        """
        if loaded.order is None:
            try:
                loaded.interpreter.start_over()
            except EdgePartitionError as error:
                _LOG.warning("stage %d of %s: %s", loaded.stage.index, loaded.deployment, error)

    def _answer(self, loaded: LoadedStage, message: Message) -> bytes:
        """Return the result of a stage, computed from the state that the request needs."""
        order, client = loaded.order, message.response_topic
        if order is None or client is None:
            self._check_size(loaded, message)
            return self._invoke(loaded, message)
        try:
            turn = order.find_turn(client, message.correlation_data)
            if turn is Turn.REPEAT:
                return order.answer_again()
        except StateError as error:
            raise _RefusedError(
                error.code,
                f"Stage {loaded.stage.index} of {loaded.deployment} on board {self._device} "
                f"{error}",
            ) from None
        self._check_size(loaded, message)
        order.forget()  # If the inference fails, the state is unknown.
        result = self._invoke(loaded, message, starts_over=turn is Turn.FIRST)
        order.note(client, message.correlation_data, result)
        return result

    def _check_size(self, loaded: LoadedStage, message: Message) -> None:
        if len(message.payload) != loaded.interpreter.input_bytes:
            raise _RefusedError(
                ErrorCode.BAD_PAYLOAD,
                f"Stage {loaded.stage.index} of {loaded.deployment} got {len(message.payload):,} "
                f"bytes; expected {loaded.interpreter.input_bytes:,} for "
                f"{', '.join(str(spec) for spec in loaded.stage.inputs)}.",
            )

    def _invoke(self, loaded: LoadedStage, message: Message, *, starts_over: bool = False) -> bytes:
        try:
            if starts_over:
                loaded.interpreter.start_over()
            return loaded.interpreter.invoke(message.payload)
        except EdgePartitionError as error:
            raise _RefusedError(
                ErrorCode.STAGE_FAILED,
                f"Stage {loaded.stage.index} of {loaded.deployment} on board {self._device}: "
                f"{error}",
            ) from None
