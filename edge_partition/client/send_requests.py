"""Requests sent to a deployment, sent again when messages may be lost, and awaited.

A thread that waits for an answer steps the connection and so calls the handlers below: an answer
passes no other thread. If several threads wait, one of them steps and the others wait for it. While
no thread waits, a stand-in steps (:mod:`edge_core.mqtt.stand_in`).

One lock guards the pure states that these threads share:
:mod:`~edge_partition.client.requests_in_flight`, :mod:`~edge_partition.client.choose_route` and
:mod:`~edge_partition.client.deployment_state`.
"""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING

from edge_core.contract.messages import ERROR, TRACE, ErrorCode, decode_trace
from edge_core.errors import EdgePartitionError
from edge_core.mqtt.data_connection import NO_SUBSCRIBERS
from edge_core.mqtt.stand_in import StandIn
from edge_partition.client.choose_route import Router
from edge_partition.client.deployment_connection import (
    DeploymentConnection,
    read_answer,
)
from edge_partition.client.deployment_state import DeploymentState
from edge_partition.client.errors import CLOSED, TIMEOUT, NotOpenError, RequestError
from edge_partition.client.requests_in_flight import Request, RequestsInFlight
from edge_partition.client.result import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from edge_core.contract.manifest import Manifest
    from edge_core.mqtt.broker_address import BrokerAddress
    from edge_core.mqtt.message import Message
    from edge_partition.inputs.take_inputs import TakenInputs

#: Longest wait before a thread looks at its deadline again, in seconds.
_STEP_S = 1.0


class RequestSender:
    """Sends one deployment's requests, and waits for their answers.

    Attributes:
        state: The deployment's manifest, offline boards and end.
        lock: The lock of the states; its waiters are woken by every change.
        is_open: Whether requests can be submitted.
    """

    def __init__(
        self, deployment: str, broker: BrokerAddress, *, prefix: str, timeout_s: float
    ) -> None:
        """Prepare a sender; :meth:`open` connects.

        Args:
            deployment: The deployment's name.
            broker: The broker's address.
            prefix: The topics' prefix.
            timeout_s: Time after which a request without an answer fails, in seconds.
        """
        self.state = DeploymentState(deployment)
        self.is_open = False
        self._timeout_s = timeout_s
        self.lock = threading.Condition()
        self._in_flight = RequestsInFlight()
        self._router = Router(())
        self._numbers = itertools.count(1)
        self._connection = DeploymentConnection(
            deployment, broker, self, prefix=prefix, timeout_s=timeout_s
        )
        self._data = self._connection.data
        self._stand_in = StandIn(self._data)
        self._stepping = threading.Lock()
        self._waiting_threads = 0

    def open(self) -> None:
        """Connect and learn the deployment's manifest; raises as :meth:`Pipeline.open`."""
        self._connection.open()
        try:
            manifest = self._connection.find_manifest()
            self._begin(manifest)
            self._connection.follow(manifest)
        except BaseException:
            self._connection.close()
            raise
        self._stand_in.start()
        self.is_open = True

    def close(self) -> None:
        """Disconnect; requests in flight fail."""
        with self.lock:
            was_open, self.is_open = self.is_open, False
            self._in_flight.fail_all(CLOSED, "The pipeline was closed before the answer came.")
            self.lock.notify_all()
        if was_open:
            self._stand_in.close()
        self._connection.close()

    # In the callers' threads

    def make_request(
        self,
        taken: TakenInputs,
        on_settled: Callable[[Request], None] | None = None,
        on_overloaded: Callable[[], None] | None = None,
    ) -> Request:
        """Return a request that was not sent yet.

        Args:
            taken: The inputs.
            on_settled: Callback with the request once it is answered, with :attr:`lock` held.
            on_overloaded: Callback when a board has too many requests, with :attr:`lock` held.
        """
        now = time.monotonic()
        return Request(
            next(self._numbers).to_bytes(8, "big"),
            taken,
            started=now,
            deadline=now + self._timeout_s,
            on_settled=on_settled,
            on_overloaded=on_overloaded,
        )

    def submit(self, request: Request) -> None:
        """Send a request; if the deployment ended, the request gets an error as its answer.

        If the socket has no room, the method waits: a slow uplink makes the caller wait.

        Raises:
            NotOpenError: The pipeline is not open.
            PayloadError: An input is missing, or has another shape or dtype.
            MessageTooLargeError: The broker doesn't take messages of this size.
        """
        if not self._data.has_room:
            self.wait_until(lambda: self._data.has_room or not self.is_open, request.deadline)
        with self.lock:
            if not self.is_open:
                raise NotOpenError
            if self.state.ended is not None:
                request.settle(RequestError(*self.state.ended, is_final=True))
                return
            self._in_flight.add(request)
            if self.state.has_offline_replica and not self.state.manifest.is_routed:
                # The broker gives requests without a route in turn to all boards of a stage.
                request.schedule_resends(request.started)
        try:
            self._send(request)
        except EdgePartitionError:
            self.discard([request])
            if self.state.keeps_state:
                # Boards that keep state expect consecutive request numbers of a client.
                self._numbers = itertools.count(int.from_bytes(request.id, "big"))
            raise
        with self.lock:
            # Without the lock, a thread that begins to wait meanwhile would wait for the stand-in.
            if not self._waiting_threads:
                self._stand_in.owner_is_busy()

    def wait_until(self, is_done: Callable[[], bool], deadline: float) -> None:
        """Step the connection until ``is_done()``, at most until ``deadline``.

        Requests that are due for a repeat are sent again meanwhile.
        """
        if is_done():
            return
        self._begin_wait()
        try:
            while not is_done() and (left_s := deadline - time.monotonic()) > 0:
                if not self._stepping.acquire(blocking=False):
                    with self.lock:
                        if not is_done() and self._stepping.locked():
                            self.lock.wait(min(left_s, _STEP_S))
                    continue
                try:
                    self._data.step(min(left_s, self._until_resend_s()))
                    self._send_due()
                finally:
                    self._stepping.release()
                    with self.lock:
                        # Another thread may have to step now.
                        self.lock.notify_all()
        finally:
            self._end_wait()

    def expire(self, request: Request) -> None:
        """Fail a request whose deadline has passed."""
        with self.lock:
            self._in_flight.settle(request, self._timed_out(request))
            self._router.release(request.id)

    def discard(self, requests: Iterable[Request]) -> None:
        """Drop requests whose answers are no longer needed."""
        with self.lock:
            requests = list(requests)
            self._in_flight.discard(requests)
            for request in requests:
                self._router.release(request.id)

    def _begin_wait(self) -> None:
        with self.lock:
            self._waiting_threads += 1
            if self._waiting_threads == 1:
                self._stand_in.owner_steps()

    def _end_wait(self) -> None:
        with self.lock:
            self._waiting_threads -= 1
            if not self._waiting_threads and len(self._in_flight):
                self._stand_in.owner_is_busy()

    def _until_resend_s(self) -> float:
        if not self._connection.is_connected:
            return _STEP_S
        with self.lock:
            at = self._in_flight.next_resend()
        return _STEP_S if at is None else min(_STEP_S, max(0.0, at - time.monotonic()))

    def _send_due(self) -> None:
        """Send the requests again whose time has come. Runs in the thread that steps."""
        if not self._connection.is_connected:
            return
        with self.lock:
            due = self._in_flight.take_due(time.monotonic())
        for request in due:
            try:
                self._send(request)
            except EdgePartitionError as error:
                # The error belongs to the request, and not to the thread that steps: the inputs do
                # not fit a new generation, or the broker's limit is another one after a restart.
                with self.lock:
                    self._in_flight.settle(request, error)
                    self._router.release(request.id)
                    self.lock.notify_all()

    def _send(self, request: Request) -> None:
        """Send a request, unless all boards of a stage are offline: then it waits for a board."""
        now = time.monotonic()
        with self.lock:
            manifest = self.state.manifest
            route = None
            if manifest.is_routed:
                route = self._router.choose(request.id, now)
                if route is None:
                    return
            request.sent_at = now
            request.sends += 1
        self._connection.send(
            manifest, request.id, request.taken.arrays, route=route, expiry_s=request.deadline - now
        )

    def _timed_out(self, request: Request) -> RequestError:
        stages = self.state.offline_stages()
        if not self._connection.is_connected:
            cause = f"the connection to the broker at {self._connection.url} is lost"
        elif stages:
            named = (f"{', '.join(stage.devices)} (stage {stage.index})" for stage in stages)
            cause = f"offline: {'; '.join(named)}"
        else:
            cause = (
                "the broker says that all boards are online; `edge-partition status "
                f"{self.state.deployment}` asks each board, and a longer timeout or fewer requests "
                "in flight may help"
            )
        waited_s = time.monotonic() - request.started
        is_final = bool(stages) or not self._connection.is_connected or self.state.keeps_state
        return RequestError(
            TIMEOUT, f"No answer within {waited_s:.1f} s: {cause}.", is_final=is_final
        )

    # In the thread that steps: the methods of DeploymentHandlers

    def handle_connected(self) -> None:
        """Schedule repeats: messages may be lost between two connections."""
        with self.lock:
            self._schedule_all()

    def handle_result(self, message: Message) -> None:
        """Settle the request that an answer belongs to; drop the answer if it is a repeat."""
        now = time.monotonic()
        with self.lock:
            request = self._in_flight.find(message.correlation_data)
            if request is None:
                return
            latency_ms = (now - request.started) * 1000
            answer = read_answer(self.state.manifest, message, latency_ms)
            if isinstance(answer, Result):
                lone_ms = request.lone_latency_ms(now)
                self._router.take_result(request.id, answer.trace, lone_ms)
            else:
                trace = decode_trace(message.user.get(TRACE))
                self._router.take_error(request.id, trace)
            if answer is None:
                request.schedule_retry(now)
                is_overloaded = message.user.get(ERROR) == ErrorCode.OVERLOADED
                if is_overloaded and request.on_overloaded is not None:
                    request.on_overloaded()
            else:
                self._in_flight.settle(request, answer)
            self.lock.notify_all()
        self._connection.report(message, latency_ms, now)

    def handle_refused(self, request_id: bytes, code: int) -> None:
        """Send a request again that reached no board; fail one that the broker refused."""
        with self.lock:
            request = self._in_flight.find(request_id)
            if request is None:
                return
            self._router.take_error(request_id, ())
            if code == NO_SUBSCRIBERS:
                request.schedule_retry(time.monotonic())
            else:
                reason = (
                    f"The broker at {self._connection.url} refused the request with reason code "
                    f"{code:#04x} (MQTT 5.0, section 3.4.2.1). Check the broker's access list and "
                    "limits."
                )
                self._in_flight.settle(request, RequestError(ErrorCode.BROKER_REFUSED, reason))
            self.lock.notify_all()

    def handle_manifest(self, payload: bytes) -> None:
        """Read a message on the manifest's topic; if the deployment ended, fail all requests."""
        with self.lock:
            before = self.state.manifest
            self.state.take_manifest(payload)
            if self.state.ended is not None:
                self._in_flight.fail_all(*self.state.ended)
                self.lock.notify_all()
                return
            manifest = self.state.manifest
            if manifest.generation != before.generation:
                self._begin(manifest)
        self._connection.follow_boards(manifest)

    def handle_availability(self, device: str, *, is_online: bool, is_new: bool) -> None:
        """Record a board's availability; send the requests again that the change concerns."""
        now = time.monotonic()
        with self.lock:
            self.state.take_availability(device, is_online=is_online)
            self._router.set_online(device, is_online=is_online)
            if is_new:
                self._in_flight.take_availability(
                    self._router, device, is_online=is_online, now=now
                )
                self.lock.notify_all()
        if is_new:
            self._send_due()

    def _begin(self, manifest: Manifest) -> None:
        """Serve a manifest from now on."""
        self.state.begin(manifest)
        times_ms: dict[tuple[int, str], float] = {}
        links_ms: dict[tuple[int, str], float] = {}
        for stage in manifest.stages:
            places = [(stage.index, device) for device in stage.devices]
            times_ms |= zip(places, stage.predicted.boards_ms, strict=False)
            links_ms |= zip(places, stage.predicted.links_ms, strict=False)
        self._router = Router(manifest.stages, times_ms, links_ms)
        for device in self.state.offline:
            self._router.set_online(device, is_online=False)

    def _schedule_all(self) -> None:
        """Schedule repeats of all requests."""
        now = time.monotonic()
        for request in self._in_flight.all():
            request.schedule_resends(now)
        self.lock.notify_all()
