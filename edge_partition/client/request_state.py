"""The state of a client: its requests, their routes and its deployment; each event changes it.

The state here is pure: callers pass the time and the messages that arrived, and hold a lock if
several threads share the state. The state has three parts:
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
    """One client's requests in flight to a deployment, their routes, and the deployment's state.

    Attributes:
        deployment: The deployment's live manifest, its offline boards, and whether it ended.
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
        """Make ``manifest`` the live manifest: the next requests and repeats use its boards."""
        self.deployment.begin(manifest)
        self._router = Router(manifest.stages)
        for device in self.deployment.offline:
            self._router.set_online(device, is_online=False)

    # Requests

    def add(self, request: Request) -> bool:
        """Add a new request.

        Returns:
            Whether the request may be sent. If the deployment ended, the request gets an error as
            its answer instead.
        """
        if self.deployment.ended is not None:
            request.settle(RequestError(*self.deployment.ended, is_final=True))
            return False
        self.in_flight.add(request)
        if self.deployment.has_offline_replica and not self.deployment.manifest.is_routed:
            # Without a route, the broker may pass the request to the offline board.
            request.schedule_resends(request.started)
        return True

    def prepare_send(
        self, request: Request, now: float
    ) -> tuple[Manifest, tuple[str, ...] | None] | None:
        """Choose the route of a request, and record that the caller sends the request now.

        Args:
            request: The request.
            now: Time in seconds.

        Returns:
            The live manifest, and the names of the boards on the route, in stage order. The route
            is None if the manifest needs no routes. If all boards of a stage are offline, the
            return value is None instead of the pair, and the caller must not send the request.
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
        """Record an error as the answer of a request."""
        self.in_flight.settle(request, error)
        self._router.release(request.id)

    def expire(self, request: Request, now: float, lost_broker: str | None) -> None:
        """Record a timeout as the answer of a request whose deadline has passed.

        The error's text names the likely cause.

        Args:
            request: The request.
            now: Time in seconds.
            lost_broker: The broker's URL if the client is disconnected; None if it is connected.
        """
        self.settle(request, self._timed_out(request, now, lost_broker))

    def discard(self, requests: Iterable[Request]) -> None:
        """Remove requests whose answers the caller no longer needs."""
        requests = list(requests)
        self.in_flight.discard(requests)
        for request in requests:
            self._router.release(request.id)

    # Events

    def take_connect(self, now: float) -> None:
        """Schedule repeats of all requests, because an outage may have lost messages."""
        for request in self.in_flight.all():
            request.schedule_resends(now)

    def take_answer(self, message: Message, now: float) -> float | None:
        """Record an answer message as the answer of its request.

        A temporary error is no answer: the method schedules a repeat of the request instead.

        Args:
            message: The answer message.
            now: Time in seconds.

        Returns:
            Time from the request's submission to this message, in milliseconds. None: the message
            was ignored, because the request is answered already or unknown.
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
        """Schedule a repeat of a request that reached no board, or fail the request.

        Args:
            request_id: The request's identifier.
            code: The broker's reason code (MQTT 5.0, section 3.4.2.1). After
                :data:`NO_SUBSCRIBERS`, the request is sent again. After any other code, the request
                fails.
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
            f"The broker at {broker} refused the request with the MQTT 5 reason code {code:#04x}; "
            "expected 0x00 (success). Check the broker's access list and its limits."
        )
        self.in_flight.settle(request, RequestError(ErrorCode.BROKER_REFUSED, reason))

    def take_manifest(self, payload: bytes) -> None:
        """Read the payload of a manifest message; if the deployment ended, fail all requests."""
        before = self.deployment.manifest
        self.deployment.take_manifest(payload)
        if self.deployment.ended is not None:
            self.in_flight.fail_all(*self.deployment.ended)
        elif self.deployment.manifest.generation != before.generation:
            self.begin(self.deployment.manifest)

    def take_availability(self, device: str, now: float, *, is_online: bool, is_new: bool) -> None:
        """Record whether a board is online; after a change, schedule repeats of affected requests.

        Args:
            device: Name of the board.
            now: Time in seconds.
            is_online: Whether the board is online.
            is_new: Whether the board's availability has just changed; False for a retained message.
        """
        self.deployment.take_availability(device, is_online=is_online)
        self._router.set_online(device, is_online=is_online)
        if is_new:
            self.in_flight.take_availability(self._router, device, is_online=is_online, now=now)

    def _timed_out(self, request: Request, now: float, lost_broker: str | None) -> RequestError:
        stages = self.deployment.offline_stages()
        if lost_broker is not None:
            cause = (
                f"the connection to the broker at {lost_broker} is lost. Check the broker and the "
                "network"
            )
        elif stages:
            named = (f"{', '.join(stage.devices)} (stage {stage.index})" for stage in stages)
            cause = (
                f"all boards of a stage are offline: {'; '.join(named)}. "
                "Start device-agent on one of these boards"
            )
        else:
            cause = (
                "each stage has an online board. Check the boards with `edge-partition status "
                f"{self.deployment.deployment}`, or try a longer timeout or a smaller window"
            )
        return RequestError(
            TIMEOUT,
            f"No answer within {now - request.started:.1f} s: {cause}.",
            is_final=bool(stages) or lost_broker is not None or self.deployment.keeps_state,
        )
