"""Sends requests to a deployment, repeats requests that may be lost, and waits for answers.

A thread that waits for an answer also *steps* the connection: it sends and receives packets, and
runs the handlers of arriving messages (:mod:`~edge_partition.client.wait_for_answers`). One lock
guards the state that the threads share (:mod:`~edge_partition.client.request_state`).
"""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING

from edge_core.errors import EdgePartitionError
from edge_partition.client.deployment_connection import DeploymentConnection
from edge_partition.client.errors import CLOSED, NotOpenError
from edge_partition.client.request_state import RequestState
from edge_partition.client.requests_in_flight import Request
from edge_partition.client.wait_for_answers import STEP_S, AnswerWaiter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from edge_core.mqtt.broker_address import BrokerAddress
    from edge_core.mqtt.message import Message
    from edge_partition.client.deployment_state import DeploymentState
    from edge_partition.inputs.take_inputs import TakenInputs


class RequestSender:
    """Sends one deployment's requests, and waits for their answers.

    Attributes:
        lock: The lock of the state. Every change of the state wakes the threads that wait on the
            lock.
        is_open: Whether requests can be submitted.
    """

    def __init__(
        self, deployment: str, broker: BrokerAddress, *, prefix: str, timeout_s: float
    ) -> None:
        """Create a sender without a connection; :meth:`open` connects.

        Args:
            deployment: The deployment's name.
            broker: The broker's address.
            prefix: The first levels of all topics, such as ``edge/v1``.
            timeout_s: Time after which a request without an answer fails, in seconds.
        """
        self.is_open = False
        self.lock = threading.Condition()
        self._timeout_s = timeout_s
        self._state = RequestState(deployment)
        self._numbers = itertools.count(1)
        self._connection = DeploymentConnection(
            deployment, broker, self, prefix=prefix, timeout_s=timeout_s
        )
        self._data = self._connection.data
        self._waiter = AnswerWaiter(
            self._data, self.lock, longest_step_s=self._until_resend_s, after_step=self._send_due
        )

    @property
    def state(self) -> DeploymentState:
        """The deployment's live manifest, its offline boards, and whether it ended."""
        return self._state.deployment

    def open(self) -> None:
        """Connect and read the deployment's manifest.

        Raises:
            EdgePartitionError: One of the errors of :meth:`Pipeline.open`.
        """
        self._connection.open()
        try:
            manifest = self._connection.find_manifest()
            self._state.begin(manifest)
            self._connection.follow(manifest)
        except BaseException:
            self._connection.close()
            raise
        self._waiter.start()
        self.is_open = True

    def close(self) -> None:
        """Disconnect; requests in flight fail with the code ``closed``."""
        with self.lock:
            was_open, self.is_open = self.is_open, False
            self._state.in_flight.fail_all(
                CLOSED, "The pipeline was closed before the answer came."
            )
            self.lock.notify_all()
        if was_open:
            self._waiter.close()
        self._connection.close()

    # In the callers' threads

    def make_request(
        self,
        taken: TakenInputs,
        on_settled: Callable[[Request], None] | None = None,
        on_overloaded: Callable[[], None] | None = None,
    ) -> Request:
        """Return a new request, which is not sent yet.

        Args:
            taken: The inputs.
            on_settled: Called with the request when it is answered, while :attr:`lock` is held.
            on_overloaded: Called when a board refuses the request because too many requests wait
                there, while :attr:`lock` is held.
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

        The method first waits until the connection has room for the request. So a caller cannot
        submit requests faster than the uplink sends them.

        Raises:
            NotOpenError: The pipeline is not open.
            PayloadError: An input is missing, or has another shape or dtype.
            MessageTooLargeError: The broker does not accept messages of this size.
        """
        if not self._data.has_room:
            self.wait_until(lambda: self._data.has_room or not self.is_open, request.deadline)
        with self.lock:
            if not self.is_open:
                raise NotOpenError
            if not self._state.add(request):
                return
        try:
            self._send(request)
        except EdgePartitionError:
            self.discard([request])
            if self.state.keeps_state:
                # Boards that keep state expect consecutive request numbers from each client, so the
                # next request reuses this number.
                self._numbers = itertools.count(int.from_bytes(request.id, "big"))
            raise
        self._waiter.expect_answer()

    def wait_until(self, is_done: Callable[[], bool], deadline: float) -> None:
        """Receive messages until ``is_done()`` returns true, at most until ``deadline``.

        The method also sends each request again when its repeat is due.

        Args:
            is_done: Condition that the handlers make true.
            deadline: Value of ``time.monotonic()``, in seconds.
        """
        self._waiter.wait_until(
            is_done, deadline, is_expecting=lambda: len(self._state.in_flight) > 0
        )

    def expire(self, request: Request) -> None:
        """Record a timeout as the answer of a request whose deadline has passed."""
        lost_broker = None if self._connection.is_connected else self._connection.url
        with self.lock:
            self._state.expire(request, time.monotonic(), lost_broker)

    def discard(self, requests: Iterable[Request]) -> None:
        """Remove requests whose answers the caller no longer needs."""
        with self.lock:
            self._state.discard(requests)

    def _send(self, request: Request) -> None:
        """Send a request, unless all boards of a stage are offline: then the request waits."""
        now = time.monotonic()
        with self.lock:
            prepared = self._state.prepare_send(request, now)
        if prepared is not None:
            manifest, route = prepared
            self._connection.send(
                manifest,
                request.id,
                request.taken.arrays,
                route=route,
                expiry_s=request.deadline - now,
            )

    # In the thread that steps

    def _until_resend_s(self) -> float:
        if not self._connection.is_connected:
            return STEP_S
        with self.lock:
            at = self._state.in_flight.next_resend()
        return STEP_S if at is None else min(STEP_S, max(0.0, at - time.monotonic()))

    def _send_due(self) -> None:
        """Repeat each request whose next repeat is due."""
        if not self._connection.is_connected:
            return
        with self.lock:
            due = self._state.in_flight.take_due(time.monotonic())
        for request in due:
            try:
                self._send(request)
            except EdgePartitionError as error:
                # The request gets the error, because the thread that steps may serve another
                # caller. Causes: the inputs do not fit a new generation, or the broker has a lower
                # size limit since a restart.
                with self.lock:
                    self._state.settle(request, error)
                    self.lock.notify_all()

    # In the thread that steps: the methods of DeploymentHandlers

    def handle_connected(self) -> None:
        """Schedule repeats of all requests, because an outage may have lost messages."""
        with self.lock:
            self._state.take_connect(time.monotonic())
            self.lock.notify_all()

    def handle_result(self, message: Message) -> None:
        """Record an answer message as the answer of its request, and report it to monitors.

        If the request has an answer already, the message is ignored.
        """
        now = time.monotonic()
        with self.lock:
            latency_ms = self._state.take_answer(message, now)
            if latency_ms is None:
                return
            self.lock.notify_all()
        self._connection.report(message, latency_ms, now)

    def handle_refused(self, request_id: bytes, code: int) -> None:
        """Schedule a repeat of a request that reached no board, or fail the request."""
        with self.lock:
            self._state.take_refusal(request_id, code, self._connection.url, time.monotonic())
            self.lock.notify_all()

    def handle_manifest(self, payload: bytes) -> None:
        """Read the payload of a manifest message; if the deployment ended, fail all requests."""
        with self.lock:
            self._state.take_manifest(payload)
            self.lock.notify_all()
            if self.state.ended is not None:
                return
            manifest = self.state.manifest
        self._connection.follow_boards(manifest)

    def handle_availability(self, device: str, *, is_online: bool, is_new: bool) -> None:
        """Record whether a board is online; after a change, send affected requests again."""
        with self.lock:
            self._state.take_availability(
                device, time.monotonic(), is_online=is_online, is_new=is_new
            )
            self.lock.notify_all()
        if is_new:
            self._send_due()
