"""The window of one stream: limits the requests in flight, and puts answers in input order.

The state here is pure: it has no socket, clock or lock.
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

from edge_partition.client.errors import is_timeout
from edge_partition.client.result import Result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_partition.client.requests_in_flight import Request
    from edge_partition.client.result import Outcome
    from edge_partition.inputs.take_inputs import TakenInputs

#: Largest number of answered requests that wait for an older request: ``_ANSWERED_PER_PLACE`` times
#: the number of requests that may be in flight, and at least ``_LEAST_ANSWERED``. The boards can
#: therefore serve later requests while one answer is slow.
_ANSWERED_PER_PLACE = 8
_LEAST_ANSWERED = 64
#: Limit of the bytes of inputs and outputs that answered requests keep in memory. Above this limit,
#: the stream sends no further request. The requests in flight at that time add their own bytes.
LARGEST_ANSWERED_BYTES = 64 << 20


def most_answered(size: int) -> int:
    """Return the largest number of answered requests that may wait for an older request.

    Args:
        size: Number of requests that may be in flight.
    """
    return max(_LEAST_ANSWERED, _ANSWERED_PER_PLACE * size)


class StreamWindow:
    """One stream's requests, oldest first, from their submission until the caller gets the answer.

    Requests without an answer are in flight, and their number is limited. If a request is answered
    before an older request, it waits in the window until the caller receives the older request's
    answer. The number and the bytes of such waiting requests are limited too.

    :meth:`RequestsInFlight.settle` records the answers.
    """

    def __init__(self, *, largest_answered_bytes: int = LARGEST_ANSWERED_BYTES) -> None:
        """Start without requests.

        Args:
            largest_answered_bytes: Limit of the size of the inputs and outputs that answered
                requests keep in memory, in bytes.
        """
        self._largest_answered_bytes = largest_answered_bytes
        self._requests: collections.deque[Request] = collections.deque()
        self._in_flight: list[Request] = []
        self._answered_bytes = 0
        self._timeouts_in_a_row = 0

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests)

    @property
    def head(self) -> Request:
        """The oldest request, whose answer the caller receives next."""
        return self._requests[0]

    @property
    def in_flight(self) -> int:
        """Number of requests without an answer."""
        self._notice_answers()
        return len(self._in_flight)

    @property
    def answered_bytes(self) -> int:
        """Size of the inputs and outputs of all answered requests, in bytes."""
        self._notice_answers()
        return self._answered_bytes

    def has_room(self, size: int) -> bool:
        """Return whether the next input may be submitted now.

        If the oldest request is answered, the return value is false: the caller receives that
        answer first, because the next input may take long to come.

        Args:
            size: Number of requests that may be in flight.
        """
        if not self._requests:
            return True
        if self.head.answer is not None:
            return False
        self._notice_answers()
        answered = len(self._requests) - len(self._in_flight)
        return (
            len(self._in_flight) < size
            and answered < most_answered(size)
            and self._answered_bytes < self._largest_answered_bytes
        )

    def is_timed_out(self, size: int) -> bool:
        """Return whether all of the last ``size`` answers that the caller received are timeouts."""
        return self._timeouts_in_a_row >= size

    def add(self, request: Request) -> None:
        """Add the newest request of the stream."""
        self._requests.append(request)
        self._in_flight.append(request)

    def take_head(self) -> tuple[TakenInputs, Outcome]:
        """Remove the oldest request; return its inputs and its answer.

        Raises:
            LookupError: The oldest request has no answer yet.
        """
        request = self.head
        if request.answer is None:
            raise LookupError("The oldest request has no answer yet.")
        self._notice_answers()
        self._requests.popleft()
        self._answered_bytes -= _count_bytes(request)
        self._timeouts_in_a_row = self._timeouts_in_a_row + 1 if is_timeout(request.answer) else 0
        return request.taken, request.answer

    def _notice_answers(self) -> None:
        in_flight = []
        for request in self._in_flight:
            if request.answer is None:
                in_flight.append(request)
            else:
                self._answered_bytes += _count_bytes(request)
        self._in_flight = in_flight


def _count_bytes(request: Request) -> int:
    """Return the size of an answered request's inputs and outputs, in bytes."""
    arrays = list(request.taken.arrays.values())
    if isinstance(request.answer, Result):
        arrays += request.answer.outputs.values()
    return sum(array.nbytes for array in arrays)
