"""The window of one stream: a limit on requests in flight, and results in input order.

Pure state, as in :mod:`~edge_partition.client.requests_in_flight`.
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

#: Answered requests that may wait for an older one: this many for each place in the window, and at
#: least so many in all. One slow answer then does not idle boards that could serve later requests.
_ANSWERED_PER_PLACE = 8
_LEAST_ANSWERED = 64
#: Bytes that the answered requests may hold, outputs and inputs together, before the stream waits.
#: The requests in flight at that time add their own.
LARGEST_ANSWERED_BYTES = 64 << 20


def most_answered(size: int) -> int:
    """Return the number of answered requests that may wait for an older one.

    Args:
        size: Requests that may be in flight.
    """
    return max(_LEAST_ANSWERED, _ANSWERED_PER_PLACE * size)


class StreamWindow:
    """The requests of a stream whose results the caller has not received, oldest first.

    Only requests in flight, those without an answer, take places. A request that is answered before
    an older one waits for the older one in a buffer with a bounded number of requests and bytes.

    Requests get their answers from elsewhere (:meth:`RequestsInFlight.settle`); the window notices
    an answer in the next call of any method.
    """

    def __init__(self, *, largest_answered_bytes: int = LARGEST_ANSWERED_BYTES) -> None:
        """Start without requests.

        Args:
            largest_answered_bytes: Bytes that answered requests may hold before the stream waits.
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
        """The oldest request, whose result the caller gets next."""
        return self._requests[0]

    @property
    def in_flight(self) -> int:
        """Number of requests without an answer."""
        self._notice_answers()
        return len(self._in_flight)

    @property
    def answered_bytes(self) -> int:
        """Bytes of outputs and inputs that the answered requests hold."""
        self._notice_answers()
        return self._answered_bytes

    def has_room(self, size: int) -> bool:
        """Return whether the next input may be submitted now.

        Also false when the oldest request is answered: the caller receives its result first,
        because the next input may take long to come.

        Args:
            size: Requests that may be in flight.
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
        """Return whether the last ``size`` requests all timed out."""
        return self._timeouts_in_a_row >= size

    def add(self, request: Request) -> None:
        """Take the newest request."""
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
    """Return the bytes of an answered request's inputs and outputs."""
    arrays = list(request.taken.arrays.values())
    if isinstance(request.answer, Result):
        arrays += request.answer.outputs.values()
    return sum(array.nbytes for array in arrays)
