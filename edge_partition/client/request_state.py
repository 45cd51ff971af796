"""What a client knows of its requests and its deployment, and what each event changes.

The state here is pure: callers pass the time and the messages that arrived, and hold a lock where
threads share the state. Three smaller states make up the whole:
:mod:`~edge_partition.client.requests_in_flight`, :mod:`~edge_partition.client.choose_route` and
:mod:`~edge_partition.client.deployment_state`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_core.contract.messages import ERROR, TRACE, ErrorCode, decode_trace
from edge_core.mqtt.data_connection import NO_SUBSCRIBERS
from edge_partition.client.choose_route import Router
from edge_partition.client.deployment_state import DeploymentState
from edge_partition.client.errors import TIMEOUT, RequestError
from edge_partition.client.read_answer import read_answer
from edge_partition.client.requests_in_flight import RequestsInFlight
from edge_partition.client.result import Result

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge_core.contract.manifest import Manifest
    from edge_core.errors import EdgePartitionError
    from edge_core.mqtt.message import Message
    from edge_partition.client.requests_in_flight import Request


class RequestState:
    """The requests in flight of one deployment, their routes, and the deployment's state.

    Attributes:
        deployment: The deployment's manifest, offline boards and end.
        in_flight: The requests that wait for an answer.
    """

    def __init__(self, deployment: str) -> None:
        """Start without requests.

        Args:
            deployment: The deployment's name.
        """
        self.deployment = DeploymentState(deployment)
        self.in_flight = RequestsInFlight()
        self._router = Router(())

    def begin(self, manifest: Manifest) -> None:
        """Serve a manifest from now on."""
        self.deployment.begin(manifest)
        self._router = Router(manifest.stages)
        for device in self.deployment.offline:
            self._router.set_online(device, is_online=False)

    # Requests

    def add(self, request: Request) -> bool:
        """Take a new request; return False, and settle the request, if the deployment ended."""
        if self.deployment.ended is not None:
            request.settle(RequestError(*self.deployment.ended, is_final=True))
            return False
        self.in_flight.add(request)
        if self.deployment.has_offline_replica and not self.deployment.manifest.is_routed:
            # The broker gives requests without a route in turn to all boards of a stage.
            request.schedule_resends(request.started)
        return True

    def prepare_send(
        self, request: Request, now: float
    ) -> tuple[Manifest, tuple[str, ...] | None] | None:
        """Note that a request is sent now.

        Args:
            request: The request.
            now: Time in seconds.

        Returns:
            The live manifest, and the board of each stage (None if the manifest has no routes).
            None if all boards of a stage are offline: the request then waits for a board.
        """
        manifest = self.deployment.manifest
        route = None
        if manifest.is_routed:
            route = self._router.choose(request.id, now)
            if route is None:
                return None
        request.sent_at = now
        request.sends += 1
        return manifest, route

    def settle(self, request: Request, error: EdgePartitionError) -> None:
        """Answer a request with an error."""
        self.in_flight.settle(request, error)
        self._router.release(request.id)

    def expire(self, request: Request, now: float, lost_broker: str | None) -> None:
        """Answer a request whose deadline has passed with an error that names the likely cause.

        Args:
            request: The request.
            now: Time in seconds.
            lost_broker: URL of the broker whose connection is lost; None: the client is connected.
        """
        self.settle(request, self._timed_out(request, now, lost_broker))

    def discard(self, requests: Iterable[Request]) -> None:
        """Drop requests whose answers are no longer needed."""
        requests = list(requests)
        self.in_flight.discard(requests)
        for request in requests:
            self._router.release(request.id)

    # Events

    def take_connect(self, now: float) -> None:
        """Schedule repeats of all requests: messages may be lost between two connections."""
        for request in self.in_flight.all():
            request.schedule_resends(now)

    def take_answer(self, message: Message, now: float) -> float | None:
        """Settle the request that an answer belongs to.

        After a temporary error the request is scheduled for a repeat instead.

        Args:
            message: The answer.
            now: Time in seconds.

        Returns:
            Time from the request's submission to the answer, in milliseconds; None for an answer
            after the first, which is dropped.
        """
        request = self.in_flight.find(message.correlation_data)
        if request is None:
            return None
        latency_ms = (now - request.started) * 1000
        answer = read_answer(self.deployment.manifest, message, latency_ms)
        if isinstance(answer, Result):
            self._router.take_result(request.id, answer.trace, request.lone_latency_ms(now))
        else:
            self._router.take_error(request.id, decode_trace(message.user.get(TRACE)))
        if answer is not None:
            self.in_flight.settle(request, answer)
            return latency_ms
        request.schedule_retry(now)
        is_overloaded = message.user.get(ERROR) == ErrorCode.OVERLOADED
        if is_overloaded and request.on_overloaded is not None:
            request.on_overloaded()
        return latency_ms

    def take_refusal(self, request_id: bytes, code: int, broker: str, now: float) -> None:
        """Schedule a repeat of a request that reached no board; fail one that the broker refused.

        Args:
            request_id: The request's identifier.
            code: The broker's reason code.
            broker: The broker's URL.
            now: Time in seconds.
        """
        request = self.in_flight.find(request_id)
        if request is None:
            return
        self._router.take_error(request_id, ())
        if code == NO_SUBSCRIBERS:
            request.schedule_retry(now)
            return
        reason = (
            f"The broker at {broker} refused the request with reason code {code:#04x} (MQTT 5.0, "
            "section 3.4.2.1). Check the broker's access list and limits."
        )
        self.in_flight.settle(request, RequestError(ErrorCode.BROKER_REFUSED, reason))

    def take_manifest(self, payload: bytes) -> None:
        """Read a message on the manifest's topic; if the deployment ended, fail all requests."""
        before = self.deployment.manifest
        self.deployment.take_manifest(payload)
        if self.deployment.ended is not None:
            self.in_flight.fail_all(*self.deployment.ended)
        elif self.deployment.manifest.generation != before.generation:
            self.begin(self.deployment.manifest)

    def take_availability(self, device: str, now: float, *, is_online: bool, is_new: bool) -> None:
        """Record a board's availability; schedule repeats of the requests that this concerns.

        Args:
            device: The board.
            now: Time in seconds.
            is_online: Whether the board is online.
            is_new: False for a retained message: the board's availability has not changed.
        """
        self.deployment.take_availability(device, is_online=is_online)
        self._router.set_online(device, is_online=is_online)
        if is_new:
            self.in_flight.take_availability(self._router, device, is_online=is_online, now=now)

    def _timed_out(self, request: Request, now: float, lost_broker: str | None) -> RequestError:
        stages = self.deployment.offline_stages()
        if lost_broker is not None:
            cause = f"the connection to the broker at {lost_broker} is lost"
        elif stages:
            named = (f"{', '.join(stage.devices)} (stage {stage.index})" for stage in stages)
            cause = f"offline: {'; '.join(named)}"
        else:
            cause = (
                "the broker says that all boards are online; `edge-partition status "
                f"{self.deployment.deployment}` asks each board, and a longer timeout or fewer "
                "requests in flight may help"
            )
        return RequestError(
            TIMEOUT,
            f"No answer within {now - request.started:.1f} s: {cause}.",
            is_final=bool(stages) or lost_broker is not None or self.deployment.keeps_state,
        )
