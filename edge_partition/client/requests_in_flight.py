"""Requests in flight: the requests that wait for an answer, and the times of their repeats.

A request id and QoS 1 give "at least once" delivery. Stages are pure functions, so a request may be
sent again, and every answer after the first is dropped. The caller therefore gets each result
exactly once.

A request is sent again only after a sign that messages were lost, or after a temporary error:

- a board on the request's route went offline: at once, if other boards can serve the request;
- a board came back, this client's connection broke, or the deployment was replaced: after a pause,
  and again after longer pauses, because the boards subscribe again a while later;
- a temporary error: after a pause that grows with each such error of the request.

A slow board is no sign of a loss.

The state here is pure: callers pass the time, and hold a lock where several threads share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_partition.client.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from edge_partition.client.choose_route import Router
    from edge_partition.client.result import Outcome
    from edge_partition.inputs.take_inputs import TakenInputs

#: Pauses before a request is sent again, in seconds: the first pause, and the longest one.
RESEND_FIRST_S = 0.5
RESEND_MAX_S = 4.0
#: First pause after a temporary error, in seconds.
RETRY_FIRST_S = 0.05


@dataclass(eq=False)
class Request:
    """One request: its inputs, its times and its answer.

    Times are in seconds on one clock, that of ``time.monotonic()`` in :class:`RequestSender`.

    Attributes:
        id: Identifier that every answer carries; empty for a request that was never sent.
        taken: The inputs, kept for repeats.
        started: Time of submission.
        deadline: Time at which the request fails without an answer.
        resend_at: Time of the next repeat; None while there is no sign of a loss.
        resend_after_s: Pause between the next repeat and the one after it, in seconds; None: the
            next repeat is the last.
        retry_after_s: Pause after the next temporary error, in seconds.
        sent_at: Time of the last send; None: not sent yet.
        sends: Number of times that the request was sent.
        answer: The result or the error; None while the request is in flight.
        on_settled: Called once, when the request is answered.
        on_overloaded: Called each time when a board refuses the request because too many wait.
    """

    id: bytes
    taken: TakenInputs
    started: float
    deadline: float
    resend_at: float | None = None
    resend_after_s: float | None = None
    retry_after_s: float = RETRY_FIRST_S
    sent_at: float | None = None
    sends: int = 0
    answer: Outcome | None = None
    on_settled: Callable[[Request], None] | None = None
    on_overloaded: Callable[[], None] | None = None

    def lone_latency_ms(self, now: float) -> float | None:
        """Return the time since a request was sent, in milliseconds; None unless sent once."""
        return (now - self.sent_at) * 1000 if self.sent_at is not None and self.sends == 1 else None

    def schedule_resends(self, now: float) -> None:
        """Schedule repeats until the answer comes: a message may be lost."""
        self.resend_after_s = RESEND_FIRST_S
        self.resend_at = now + RESEND_FIRST_S

    def resend_once(self, now: float) -> None:
        """Schedule one repeat at once, on another route."""
        self.resend_after_s = None
        self.resend_at = now

    def schedule_retry(self, now: float) -> None:
        """Schedule one repeat after a pause that doubles with each temporary error."""
        self.resend_after_s = None
        self.resend_at = now + self.retry_after_s
        self.retry_after_s = min(RESEND_MAX_S, 2 * self.retry_after_s)

    def take_turn(self, now: float) -> bool:
        """Return whether the request is to be sent again now; if so, schedule the next repeat."""
        if self.answer is not None or self.resend_at is None or self.resend_at > now:
            return False
        if self.resend_after_s is None:
            self.resend_at = None
        else:
            self.resend_at = now + self.resend_after_s
            self.resend_after_s = min(RESEND_MAX_S, 2 * self.resend_after_s)
        return True

    def settle(self, answer: Outcome) -> None:
        """Record the answer, unless an earlier answer is recorded already."""
        if self.answer is None:
            self.answer = answer
            if self.on_settled is not None:
                self.on_settled(self)


class RequestsInFlight:
    """The requests of one pipeline that wait for an answer, by id."""

    def __init__(self) -> None:
        """Start without requests."""
        self._by_id: dict[bytes, Request] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, request: Request) -> None:
        """Expect an answer to ``request``."""
        self._by_id[request.id] = request

    def find(self, request_id: bytes) -> Request | None:
        """Return the request that an answer belongs to; None for a repeated or unknown answer."""
        return self._by_id.get(request_id)

    def all(self) -> list[Request]:
        """Return the requests, oldest first."""
        return list(self._by_id.values())

    def settle(self, request: Request, answer: Outcome) -> None:
        """Record the answer of a request, unless an earlier answer is recorded already."""
        self._by_id.pop(request.id, None)
        request.settle(answer)

    def discard(self, requests: Iterable[Request]) -> None:
        """Drop requests whose answers are no longer needed."""
        for request in requests:
            self._by_id.pop(request.id, None)

    def take_availability(
        self, router: Router, device: str, *, is_online: bool, now: float
    ) -> None:
        """Schedule the repeats of the requests that a change of a board's availability concerns.

        Args:
            router: The router, which knows the change.
            device: The board.
            is_online: Whether the board is online now.
            now: Time in seconds.
        """
        concerned = set(router.routes_through(device))
        for request in self._by_id.values():
            if router.route_of(request.id) is None:
                # The request waits for a board, or was sent to an earlier generation.
                request.schedule_resends(now)
                request.resend_at = now
            elif request.id in concerned and is_online:
                request.schedule_resends(now)
            elif request.id in concerned:
                request.resend_once(now)

    def take_due(self, now: float) -> list[Request]:
        """Return the requests to send again now, and schedule their next repeats."""
        return [request for request in self._by_id.values() if request.take_turn(now)]

    def next_resend(self) -> float | None:
        """Return the time of the next repeat; None: no repeat is scheduled."""
        times = [item.resend_at for item in self._by_id.values() if item.resend_at is not None]
        return min(times, default=None)

    def fail_all(self, code: str, reason: str) -> None:
        """Settle every request with an error after which no request can succeed."""
        for request in self.all():
            self.settle(request, RequestError(code, reason, is_final=True))
