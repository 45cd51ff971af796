"""The requests that wait for an answer, and the times at which each is sent again.

QoS 1 and repeats deliver each request at least once. Stages are pure functions, so a repeat does no
harm. The client drops every answer to a request after the first, so the caller gets each result
exactly once.

A request is sent again only after these events:

- A board on the request's route went offline: one repeat without a pause, if other boards can
  serve the request.
- A board on the route came back, or this client reconnected: repeats after growing pauses until the
  answer comes. The boards may need some time to subscribe again.
- A board went offline or came back, and the request has no route: one repeat without a pause, and
  more repeats after growing pauses. A request has no route while all boards of a stage are offline,
  after the deployment was replaced, or if the manifest needs no routes.
- A request without a route was submitted while some of a stage's boards were offline: repeats after
  growing pauses, because the broker may have passed the request to an offline board.
- A board answered with a temporary error, or no board has subscribed to the request's topic: one
  repeat, after a pause that grows with each such event.

A slow board is no reason to send a request again.

The state here is pure: callers pass the time, and hold a lock if several threads share the state.
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

#: First and longest pause before a request is sent again, in seconds.
RESEND_FIRST_S = 0.5
RESEND_MAX_S = 4.0
#: First pause after a temporary error, in seconds.
RETRY_FIRST_S = 0.05


@dataclass(eq=False)
class Request:
    """One request: its inputs, its times and its answer.

    All times are in seconds, on the clock of the caller (``time.monotonic()`` in a pipeline).

    Attributes:
        id: Identifier that every answer contains; empty for a request that was never sent.
        taken: The inputs, kept for repeats.
        started: Time of submission.
        deadline: Time at which the request fails if it has no answer.
        resend_at: Time of the next repeat; None: no repeat is scheduled.
        resend_after_s: Pause between the next repeat and the repeat after that, in seconds; None:
            the next repeat is the last.
        retry_after_s: Pause after the next temporary error, in seconds.
        sent_at: Time of the last send; None: not sent yet.
        sends: Number of times that the request was sent.
        answer: The result or the error; None while the request is in flight.
        on_settled: Called once with the request, when the request is answered.
        on_overloaded: Called each time a board refuses the request because too many requests wait
            at the board.
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
        """Return the time since the request was sent, in milliseconds.

        None for a request that was not sent, or sent more than once.
        """
        return (now - self.sent_at) * 1000 if self.sent_at is not None and self.sends == 1 else None

    def schedule_resends(self, now: float) -> None:
        """Schedule repeats after growing pauses, because the request may have been lost."""
        self.resend_after_s = RESEND_FIRST_S
        self.resend_at = now + RESEND_FIRST_S

    def resend_once(self, now: float) -> None:
        """Schedule one repeat, which is due now; the repeat gets another route."""
        self.resend_after_s = None
        self.resend_at = now

    def schedule_retry(self, now: float) -> None:
        """Schedule one repeat after a pause that doubles with each temporary error."""
        self.resend_after_s = None
        self.resend_at = now + self.retry_after_s
        self.retry_after_s = min(RESEND_MAX_S, 2 * self.retry_after_s)

    def take_turn(self, now: float) -> bool:
        """Return whether a repeat is due now; if it is, schedule the next repeat."""
        if self.answer is not None or self.resend_at is None or self.resend_at > now:
            return False
        if self.resend_after_s is None:
            self.resend_at = None
        else:
            self.resend_at = now + self.resend_after_s
            self.resend_after_s = min(RESEND_MAX_S, 2 * self.resend_after_s)
        return True

    def settle(self, answer: Outcome) -> None:
        """Record the answer of the request; an answer after the first is ignored."""
        if self.answer is None:
            self.answer = answer
            if self.on_settled is not None:
                self.on_settled(self)


class RequestsInFlight:
    """The requests of one pipeline that wait for an answer."""

    def __init__(self) -> None:
        """Start without requests."""
        self._by_id: dict[bytes, Request] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, request: Request) -> None:
        """Add a request, which waits for its answer from now on."""
        self._by_id[request.id] = request

    def find(self, request_id: bytes) -> Request | None:
        """Return the request with an identifier; None if it is answered already or unknown."""
        return self._by_id.get(request_id)

    def all(self) -> list[Request]:
        """Return the requests, oldest first."""
        return list(self._by_id.values())

    def settle(self, request: Request, answer: Outcome) -> None:
        """Record the answer of a request and remove the request.

        An answer after the first is ignored.
        """
        self._by_id.pop(request.id, None)
        request.settle(answer)

    def discard(self, requests: Iterable[Request]) -> None:
        """Remove requests whose answers the caller no longer needs."""
        for request in requests:
            self._by_id.pop(request.id, None)

    def take_availability(
        self, router: Router, device: str, *, is_online: bool, now: float
    ) -> None:
        """Schedule repeats of the requests that a board's new availability affects.

        Args:
            router: The router, in which the new availability is recorded already.
            device: Name of the board.
            is_online: Whether the board is online now.
            now: Time in seconds.
        """
        concerned = set(router.routes_through(device))
        for request in self._by_id.values():
            if router.route_of(request.id) is None:
                # The request waits for an online board, or was sent to an earlier generation.
                request.schedule_resends(now)
                request.resend_at = now
            elif request.id in concerned and is_online:
                request.schedule_resends(now)
            elif request.id in concerned:
                request.resend_once(now)

    def take_due(self, now: float) -> list[Request]:
        """Return the requests whose repeats are due now, and schedule their next repeats."""
        return [request for request in self._by_id.values() if request.take_turn(now)]

    def next_resend(self) -> float | None:
        """Return the time of the earliest scheduled repeat; None if no repeat is scheduled."""
        times = [item.resend_at for item in self._by_id.values() if item.resend_at is not None]
        return min(times, default=None)

    def fail_all(self, code: str, reason: str) -> None:
        """Answer every request with a final error: later requests would fail too."""
        for request in self.all():
            self.settle(request, RequestError(code, reason, is_final=True))
