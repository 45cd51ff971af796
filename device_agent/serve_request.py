"""Answer one request: run the stage, publish the outputs, acknowledge the request.

The agent sends a request's result and then the request's acknowledgement, on the same connection.
So the broker has the result when it reads the acknowledgement. If the agent is killed before the
broker has the acknowledgement, the broker delivers the request again. On a slow link, the
acknowledgement waits behind the result. Meanwhile the broker sends only as many further requests as
the receive maximum allows. The runtime copies the inputs once; the outputs go from the runtime's
memory to the socket.
"""

from __future__ import annotations

import logging
import math
import time
from functools import partial
from typing import TYPE_CHECKING

from device_agent.find_route import check_route
from device_agent.refused_request import RefusedRequestError
from device_agent.run_stage import make_ready, run_stage
from edge_core.contract.messages import (
    ERROR,
    GENERATION,
    ROUTE,
    TRACE,
    ErrorCode,
    StageTrace,
    append_trace,
)
from edge_core.contract.topics import RESULT, Topic
from edge_core.errors import MessageTooLargeError
from edge_core.mqtt.data_connection import NO_SUBSCRIBERS
from edge_core.mqtt.message import NO_RECEIPT
from edge_core.mqtt.subscriptions import FIRST_ERROR_CODE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from device_agent.deployments import ServedStage
    from device_agent.find_route import RouteFinder
    from device_agent.load_stage import LoadedStage
    from device_agent.telemetry.stats import Stats
    from edge_core.contract.topics import Topics
    from edge_core.mqtt.data_connection import DataConnection
    from edge_core.mqtt.message import Message

_LOG = logging.getLogger("device-agent")


class RequestServer:
    """Answers requests, one at a time, in the inference thread."""

    def __init__(
        self,
        connection: DataConnection,
        topics: Topics,
        device: str,
        *,
        served_stages: Callable[[], Mapping[tuple[str, int], ServedStage]],
        stats: Stats,
        finder: RouteFinder,
        wait_for_room: Callable[[], None],
    ) -> None:
        """Create a server.

        Args:
            connection: The agent's connection for activations.
            topics: The topics of the fleet.
            device: This board's name, for traces and errors.
            served_stages: Function that returns the loaded stages that answer requests, by
                deployment and stage index.
            stats: Counters and times of the stages.
            finder: Finder of the boards that serve a request without a route.
            wait_for_room: Function that waits until the connection can take another result.
        """
        self._connection = connection
        self._topics = topics
        self._device = device
        self._served_stages = served_stages
        self._stats = stats
        self._finder = finder
        self._wait_for_room = wait_for_room

    def serve(self, deployment: str, index: int, message: Message) -> None:
        """Answer a request with a result or an error, and acknowledge the request."""
        try:
            self._serve(deployment, index, message)
        except RefusedRequestError as error:
            self.refuse(deployment, index, message, error.code, str(error))
        except Exception as error:  # noqa: BLE001 - the thread must survive a failed request
            _LOG.exception("stage %d of %s failed", index, deployment)
            self.refuse(
                deployment,
                index,
                message,
                ErrorCode.STAGE_FAILED,
                f"Stage {index} of {deployment} failed on board {self._device}: {error!r}. See the "
                "agent's log.",
            )

    def refuse(
        self, deployment: str, index: int, message: Message, code: ErrorCode, reason: str
    ) -> None:
        """Answer a request with an error, and acknowledge the request. Runs in any thread."""
        self._stats.count_error(deployment, index, code)
        if not message.response_topic:
            self._connection.acknowledge(message.receipt)
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
                answers=message.receipt,
            )
        except (MessageTooLargeError, ValueError) as error:
            _LOG.warning(
                "cannot send an answer on the topic %r: %s",
                message.response_topic,
                error,
            )
            self._connection.acknowledge(message.receipt)

    def _serve(self, deployment: str, index: int, message: Message) -> None:
        response_topic = message.response_topic
        if not response_topic:
            self._stats.count_unanswerable(deployment, index)
            self._connection.acknowledge(message.receipt)
            return
        loaded = self._find(deployment, index, message)
        if loaded is None:
            self._connection.acknowledge(message.receipt)
            return
        started = time.monotonic()
        remaining_s = self._remaining_s(index, message, started)
        next_topic, route = self._next_topic(loaded, message)
        result = run_stage(loaded, message, self._device)
        ended = time.monotonic()
        trace = StageTrace(
            index, self._device, (started - message.arrived) * 1000, (ended - started) * 1000
        )
        user = {
            GENERATION: loaded.generation,
            TRACE: append_trace(message.user.get(TRACE), trace),
        }
        if route and not loaded.is_last:
            user[ROUTE] = route
        self._wait_for_room()
        try:
            self._connection.publish(
                next_topic or Topic(response_topic, RESULT),
                *result,
                response_topic=response_topic if next_topic else None,
                correlation_data=message.correlation_data,
                expiry_s=math.ceil(remaining_s) if next_topic and remaining_s else None,
                user=user,
                answers=message.receipt,
                on_acknowledged=self._check_taken(loaded, message, next_topic),
            )
        except MessageTooLargeError as error:
            raise RefusedRequestError(ErrorCode.TOO_LARGE, str(error)) from None
        except ValueError:  # The response topic has wildcards.
            self._stats.count_unanswerable(deployment, index)
            self._connection.acknowledge(message.receipt)
            return
        del result  # The runtime refuses to run while views of its memory exist.
        self._stats.count_request(deployment, index, trace.queue_ms, trace.invoke_ms)
        make_ready(loaded)

    def _check_taken(
        self, loaded: LoadedStage, message: Message, next_topic: Topic | None
    ) -> Callable[[int], None] | None:
        """Return the callback for the broker's acknowledgement of a result.

        If the broker does not pass the result to the next board, the callback sends an error to the
        client, which would otherwise wait in vain. The return value is None for the last stage,
        whose result goes to the client.
        """
        if next_topic is None:
            return None
        # The callback must not keep the payload until the broker answers.
        answered = message._replace(payload=b"", receipt=NO_RECEIPT)
        return partial(
            self._result_taken, loaded.deployment, loaded.stage.index, answered, next_topic
        )

    def _result_taken(
        self, deployment: str, index: int, message: Message, next_topic: Topic, code: int
    ) -> None:
        """Answer with an error if the broker did not pass a result to the next board."""
        if code == NO_SUBSCRIBERS:
            self.refuse(
                deployment,
                index,
                message,
                ErrorCode.NOT_LISTENING,
                f"No board listens on {next_topic}: the board is offline or is still starting. "
                "Send the request again when the board is online.",
            )
        elif code >= FIRST_ERROR_CODE:
            self.refuse(
                deployment,
                index,
                message,
                ErrorCode.BROKER_REFUSED,
                f"The broker refused board {self._device}'s message to {next_topic} with reason "
                f"code {code:#04x} (MQTT 5.0, section 3.4.2.1). Check the broker's access list "
                "and limits.",
            )

    def _find(self, deployment: str, index: int, message: Message) -> LoadedStage | None:
        """Return the loaded stage for a request; None: another board answers the request."""
        stage = self._served_stages().get((deployment, index))
        generation = message.user.get(GENERATION) or (stage.live_generation if stage else None)
        if stage is not None and generation is not None:
            loaded = stage.generations.get(generation)
            if loaded is not None:
                return loaded
            if generation in stage.elsewhere:
                return None
        raise RefusedRequestError(
            ErrorCode.UNKNOWN_GENERATION,
            f"Board {self._device} does not serve stage {index} of {deployment} in generation "
            f"{generation or '(none)'}; the live generation is "
            f"{(stage.live_generation if stage else None) or '(none)'}. Check the deployment with "
            f"`edge-partition status {deployment}`.",
        )

    def _remaining_s(self, index: int, message: Message, now: float) -> float | None:
        """Return the time until a request expires, in seconds; None: never."""
        if message.expiry_s is None:
            return None
        waited_s = now - message.arrived
        if waited_s >= message.expiry_s:
            raise RefusedRequestError(
                ErrorCode.EXPIRED,
                f"The request expired on board {self._device} after waiting {waited_s:.1f} s for "
                f"stage {index}. Keep fewer requests in flight, or set a longer expiry interval.",
            )
        return message.expiry_s - waited_s

    def _next_topic(self, loaded: LoadedStage, message: Message) -> tuple[Topic | None, str]:
        """Return where the result goes next.

        Returns:
            The topic of the next stage (None after the last stage), and the request's route (empty:
            the request needs no route).
        """
        route = message.user.get(ROUTE, "")
        if loaded.is_last:
            return None, route
        manifest, following = loaded.manifest, loaded.stage.index + 1
        if not (route or manifest.is_routed):
            return self._topics.stage(manifest.deployment, following), ""
        if not route:
            route = ",".join(self._finder.find(manifest, loaded.stage.index))
        board = check_route(manifest, route, following)
        return self._topics.board_stage(manifest.deployment, following, board), route
