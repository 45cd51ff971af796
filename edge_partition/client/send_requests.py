"""Requests sent to a deployment, sent again when messages may be lost, and awaited in order.

The client's threads and clock are here: callers submit and wait in their own threads, and the
handlers run in the network thread. One lock guards the pure states that these threads share:
:mod:`~edge_partition.client.requests_in_flight`, :mod:`~edge_partition.client.request_window` and
:mod:`~edge_partition.client.deployment_state`.
"""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING

from edge_core.errors import EdgePartitionError
from edge_partition.client.deployment_connection import DeploymentConnection, read_answer
from edge_partition.client.deployment_state import DeploymentState
from edge_partition.client.errors import CLOSED, TIMEOUT, NotOpenError, RequestError
from edge_partition.client.requests_in_flight import Request, RequestsInFlight

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge_core.mqtt.broker_address import BrokerAddress
    from edge_core.mqtt.connection import Message
    from edge_partition.client.request_window import RequestWindow
    from edge_partition.inputs.take_inputs import TakenInputs


class RequestSender:
    """Sends one deployment's requests, and waits for their answers.

    Attributes:
        state: The deployment's manifest, offline boards and end.
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
        self._changed = threading.Condition()
        self._in_flight = RequestsInFlight()
        self._numbers = itertools.count(1)
        self._connection = DeploymentConnection(
            deployment, broker, self, prefix=prefix, timeout_s=timeout_s
        )

    def open(self) -> None:
        """Connect and learn the deployment's manifest; raises as :meth:`Pipeline.open`."""
        self._connection.open()
        try:
            manifest = self._connection.find_manifest()
            self.state.begin(manifest)
            self._connection.follow(manifest)
        except BaseException:
            self._connection.close()
            raise
        self.is_open = True

    def close(self) -> None:
        """Disconnect; requests in flight fail."""
        with self._changed:
            self.is_open = False
            self._fail_all(CLOSED, "The pipeline was closed before the answer came.")
        self._connection.close()

    # In the callers' threads

    def submit(self, taken: TakenInputs) -> Request:
        """Send a request, or return it with an error as its answer if the deployment ended.

        Raises:
            NotOpenError: The pipeline is not open.
            PayloadError: An input is missing, or has another shape or dtype.
            MessageTooLargeError: The broker doesn't take messages of this size.
        """
        now = time.monotonic()
        number = next(self._numbers)
        request = Request(
            number.to_bytes(8, "big"), taken, started=now, deadline=now + self._timeout_s
        )
        with self._changed:
            if not self.is_open:
                raise NotOpenError
            if self.state.ended is not None:
                request.answer = RequestError(*self.state.ended, is_final=True)
                return request
            self._in_flight.add(request)
            if self.state.has_offline_replica:
                request.schedule_resend(now)
        try:
            self._send(request)
        except EdgePartitionError:
            self.discard([request])
            if self.state.keeps_state:
                # Boards that keep state expect consecutive request numbers of a client.
                self._numbers = itertools.count(number)
            raise
        return request

    def wait_for_head(self, window: RequestWindow) -> None:
        """Wait until the window's oldest request is answered or times out.

        Meanwhile the requests of the window that are due for a repeat are sent again.
        """
        head = window.head
        while head.answer is None:
            with self._changed:
                now = time.monotonic()
                due = window.take_due(now)
                if not due and now < head.deadline:
                    self._changed.wait(window.next_event() - now)
                if time.monotonic() >= head.deadline:
                    self._in_flight.settle(head, self._timed_out(head))
            if self._connection.is_connected:
                for request in due:
                    self._send(request)

    def discard(self, requests: Iterable[Request]) -> None:
        """Drop requests whose answers are no longer needed."""
        with self._changed:
            self._in_flight.discard(requests)

    def _send(self, request: Request) -> None:
        self._connection.send(
            self.state.manifest,
            request.id,
            request.taken.arrays,
            expiry_s=request.deadline - time.monotonic(),
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

    # In the network thread: the methods of DeploymentHandlers

    def handle_connected(self) -> None:
        """Schedule repeats: messages may be lost between two connections."""
        self._schedule_resends()

    def handle_result(self, message: Message) -> None:
        """Settle the request that an answer belongs to; drop the answer if it is a repeat."""
        now = time.monotonic()
        with self._changed:
            request = self._in_flight.find(message.correlation_data)
            if request is None:
                return
            latency_ms = (now - request.started) * 1000
            answer = read_answer(self.state.manifest, message, latency_ms)
            if answer is None:
                request.schedule_resend(now)
            else:
                self._in_flight.settle(request, answer)
            self._changed.notify_all()
        self._connection.report(message, latency_ms, now)

    def handle_manifest(self, payload: bytes) -> None:
        """Read a message on the manifest's topic; if the deployment ended, fail all requests."""
        with self._changed:
            self.state.take_manifest(payload)
            if self.state.ended is not None:
                self._fail_all(*self.state.ended)

    def handle_availability(self, device: str, *, is_online: bool, is_new: bool) -> None:
        """Record a board's availability; if the message is new, schedule repeats."""
        with self._changed:
            self.state.take_availability(device, is_online=is_online)
        if is_new:
            self._schedule_resends()

    def _schedule_resends(self) -> None:
        with self._changed:
            self._in_flight.schedule_resends(time.monotonic())
            self._changed.notify_all()

    def _fail_all(self, code: str, reason: str) -> None:
        self._in_flight.fail_all(code, reason)
        self._changed.notify_all()
