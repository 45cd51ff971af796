"""Requests sent to a deployment, sent again when messages may be lost, and awaited.

The thread that waits for an answer runs the handlers below
(:mod:`~edge_partition.client.wait_for_answers`). One lock guards the pure state that the threads
share (:mod:`~edge_partition.client.request_state`).
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
        lock: The lock of the state; its waiters are woken by every change.
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
        """The deployment's manifest, offline boards and end."""
        return self._state.deployment

    def open(self) -> None:
        """Connect and learn the deployment's manifest; raises as :meth:`Pipeline.open`."""
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
        """Disconnect; requests in flight fail."""
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
            if not self._state.add(request):
                return
        try:
            self._send(request)
        except EdgePartitionError:
            self.discard([request])
            if self.state.keeps_state:
                # Boards that keep state expect consecutive request numbers of a client.
                self._numbers = itertools.count(int.from_bytes(request.id, "big"))
            raise
        self._waiter.expect_answer()

    def wait_until(self, is_done: Callable[[], bool], deadline: float) -> None:
        """Step the connection until ``is_done()``, at most until ``deadline``.

        Requests that are due for a repeat are sent again meanwhile.
        """
        self._waiter.wait_until(
            is_done, deadline, is_expecting=lambda: len(self._state.in_flight) > 0
        )

    def expire(self, request: Request) -> None:
        """Fail a request whose deadline has passed."""
        lost_broker = None if self._connection.is_connected else self._connection.url
        with self.lock:
            self._state.expire(request, time.monotonic(), lost_broker)

    def discard(self, requests: Iterable[Request]) -> None:
        """Drop requests whose answers are no longer needed."""
        with self.lock:
            self._state.discard(requests)

    def _send(self, request: Request) -> None:
        """Send a request, unless all boards of a stage are offline: then it waits for a board."""
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
        """Send the requests again whose time has come."""
        if not self._connection.is_connected:
            return
        with self.lock:
            due = self._state.in_flight.take_due(time.monotonic())
        for request in due:
            try:
                self._send(request)
            except EdgePartitionError as error:
                # The error belongs to the request, and not to the thread that steps: the inputs do
                # not fit a new generation, or the broker's limit is another one after a restart.
                with self.lock:
                    self._state.settle(request, error)
                    self.lock.notify_all()

    # In the thread that steps: the methods of DeploymentHandlers

    def handle_connected(self) -> None:
        """Schedule repeats: messages may be lost between two connections."""
        with self.lock:
            self._state.take_connect(time.monotonic())
            self.lock.notify_all()

    def handle_result(self, message: Message) -> None:
        """Settle the request that an answer belongs to; drop the answer if it is a repeat."""
        now = time.monotonic()
        with self.lock:
            latency_ms = self._state.take_answer(message, now)
            if latency_ms is None:
                return
            self.lock.notify_all()
        self._connection.report(message, latency_ms, now)

    def handle_refused(self, request_id: bytes, code: int) -> None:
        """Send a request again that reached no board; fail one that the broker refused."""
        with self.lock:
            self._state.take_refusal(request_id, code, self._connection.url, time.monotonic())
            self.lock.notify_all()

    def handle_manifest(self, payload: bytes) -> None:
        """Read a message on the manifest's topic; if the deployment ended, fail all requests."""
        with self.lock:
            self._state.take_manifest(payload)
            self.lock.notify_all()
            if self.state.ended is not None:
                return
            manifest = self.state.manifest
        self._connection.follow_boards(manifest)

    def handle_availability(self, device: str, *, is_online: bool, is_new: bool) -> None:
        """Record a board's availability; send the requests again that the change concerns."""
        with self.lock:
            self._state.take_availability(
                device, time.monotonic(), is_online=is_online, is_new=is_new
            )
            self.lock.notify_all()
        if is_new:
            self._send_due()
