"""Requests in flight: the requests that wait for an answer, and the times of their repeats.

A request id and QoS 1 give "at least once" delivery. Stages are pure functions, so a request may be
sent again, and every answer after the first is dropped. The caller therefore gets each result
exactly once.

A request is sent again only after a sign that messages were lost: this client's connection broke,
a board went offline or came back, some replicas of a stage are offline, or a deployment was
replaced. A slow board is no sign of a loss.

The state here is pure: callers pass the time, and hold a lock where several threads share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_partition.client.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge_partition.client.result import Outcome
    from edge_partition.inputs.take_inputs import TakenInputs

#: Pauses before a request is sent again, in seconds: the first pause, and the longest one.
RESEND_FIRST_S = 0.5
RESEND_MAX_S = 4.0


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
        resend_after_s: Pause between the next repeat and the one after it, in seconds.
        answer: The result or the error; None while the request is in flight.
    """

    id: bytes
    taken: TakenInputs
    started: float
    deadline: float
    resend_at: float | None = None
    resend_after_s: float = RESEND_FIRST_S
    answer: Outcome | None = None

    def schedule_resend(self, now: float) -> None:
        """Schedule the first repeat: a message may be lost."""
        self.resend_after_s = RESEND_FIRST_S
        self.resend_at = now + RESEND_FIRST_S

    def take_turn(self, now: float) -> bool:
        """Return whether the request is to be sent again now; if so, schedule the next repeat."""
        if self.answer is not None or self.resend_at is None or self.resend_at > now:
            return False
        self.resend_at = now + self.resend_after_s
        self.resend_after_s = min(RESEND_MAX_S, 2 * self.resend_after_s)
        return True


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

    def settle(self, request: Request, answer: Outcome) -> None:
        """Record the answer of a request, unless an earlier answer is recorded already."""
        self._by_id.pop(request.id, None)
        if request.answer is None:
            request.answer = answer

    def discard(self, requests: Iterable[Request]) -> None:
        """Drop requests whose answers are no longer needed."""
        for request in requests:
            self._by_id.pop(request.id, None)

    def schedule_resends(self, now: float) -> None:
        """Schedule a repeat of every request: messages may be lost."""
        for request in self._by_id.values():
            request.schedule_resend(now)

    def fail_all(self, code: str, reason: str) -> None:
        """Settle every request with an error after which no request can succeed."""
        for request in list(self._by_id.values()):
            self.settle(request, RequestError(code, reason, is_final=True))
