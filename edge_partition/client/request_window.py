"""The window of one stream: a limit on open requests, and results in input order.

Pure state, as in :mod:`~edge_partition.client.requests_in_flight`.
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

from edge_partition.client.errors import is_timeout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_partition.client.requests_in_flight import Request
    from edge_partition.client.result import Outcome
    from edge_partition.inputs.take_inputs import TakenInputs


def default_window(boards: int) -> int:
    """Return the default window: two requests per board, at least 4 and at most 16.

    In measurements a larger window only lengthened the broker's queues.
    """
    return min(16, max(4, 2 * boards))


class RequestWindow:
    """The requests of a stream whose results the caller has not received, oldest first.

    A request that is answered before an older one keeps its place in the window until the older
    one is answered, so a slow request stops the stream from running ahead without limit.

    Attributes:
        size: Places in the window.
    """

    def __init__(self, size: int) -> None:
        """Start with all places free.

        Args:
            size: Places in the window, 1 or more.
        """
        self.size = size
        self._requests: collections.deque[Request] = collections.deque()
        self._timeouts_in_a_row = 0

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests)

    @property
    def head(self) -> Request:
        """The oldest request, whose result the caller gets next."""
        return self._requests[0]

    @property
    def has_room(self) -> bool:
        """Whether the next input may be submitted now.

        Also false when the oldest request is answered: the caller receives its result first.
        """
        if not self._requests:
            return True
        return len(self._requests) < self.size and self.head.answer is None

    @property
    def is_timed_out(self) -> bool:
        """Whether the last ``size`` requests all timed out."""
        return self._timeouts_in_a_row >= self.size

    def add(self, request: Request) -> None:
        """Give the newest request the last place."""
        self._requests.append(request)

    def take_head(self) -> tuple[TakenInputs, Outcome]:
        """Remove the oldest request; return its inputs and its answer.

        Raises:
            LookupError: The oldest request has no answer yet.
        """
        request = self.head
        if request.answer is None:
            raise LookupError("The oldest request has no answer yet.")
        self._requests.popleft()
        self._timeouts_in_a_row = self._timeouts_in_a_row + 1 if is_timeout(request.answer) else 0
        return request.taken, request.answer

    def take_due(self, now: float) -> list[Request]:
        """Return the requests to send again now, and schedule their next repeats."""
        return [request for request in self._requests if request.take_turn(now)]

    def next_event(self) -> float:
        """Return the time of the next repeat, or of the oldest request's deadline if sooner."""
        repeats = (
            request.resend_at
            for request in self._requests
            if request.answer is None and request.resend_at is not None
        )
        return min((self.head.deadline, *repeats))
