"""The size of a stream's window: the requests in flight that keep a pipeline busy, and few more.

The law is FAST TCP's (Wei, Jin, Low and Hegde, "FAST TCP: Motivation, Architecture, Algorithms,
Performance", IEEE/ACM Transactions on Networking 14(6), 2006)::

    size <- size * base / latency + extra

``base`` is the latency of a request without queues. By Little's law, ``size * base / latency`` is
the number of requests in service or in transfer: the rate of results times ``base``. In equilibrium
``extra`` requests wait, which keep the slowest stage busy while service times vary. All clients of
a pipeline see the same ratio ``base / latency``, so their sizes become equal without knowledge of
each other.

The queues at the boards are known from the trace's ``queue_ms``. An agent takes at most
``RECEIVE_MAXIMUM`` requests; more requests wait in the broker, where no trace shows them.
Therefore ``extra`` falls with the number of requests that wait at a board of the slowest stage, and
is negative if nearly as many wait as an agent takes.

The queues on links are in no trace. They are in the rest of the latency: the latency without
``queue_ms`` and ``invoke_ms``. The least rest belongs to ``base``. A client that starts while the
links are busy sees too large a rest. As in BBR (Cardwell, Cheng, Gunn, Yeganeh and Jacobson, "BBR:
Congestion-Based Congestion Control", ACM Queue 14(5), 2016), a client that has not seen its least
rest for some seconds drains its own queue and takes the least rest of that time. A drained queue
lowers the rest of all clients, so their next drains coincide and show the links without queues.

Pure state: callers pass the times and hold a lock where several threads share a window.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_core.contract.manifest import Stage
    from edge_core.contract.messages import StageTrace

#: Most requests in flight.
LARGEST = 64

# The constants below come from the simulations in tests/edge_partition/client.

#: Waiting requests that a client adds while no others wait: a part for fairness, and a part for
#: each of its requests in service, because each busy board needs a next request.
_EXTRA = 2.0
_EXTRA_IN_SERVICE = 2.0
#: Requests waiting at a board at which a client adds no waiting requests. An agent with all the
#: requests that it takes has one in service and ``RECEIVE_MAXIMUM - 1`` waiting.
_CROWDED = 6.5
#: Time that an agent needs for a request beside the inference, in milliseconds: it takes part in
#: the wait of the next request, and is in no trace.
_OVERHEAD_MS = 0.2
#: Fewest answers in a round.
_ROUND = 4
#: Part of the earlier rounds' waits in a round's wait.
_KEPT = 0.7
#: Part of the way to the new size in one round.
_GAIN = 0.5
#: Smallest new size relative to the size: a round with one slow answer says little.
_SMALLEST_STEP = 0.75
#: Growth of the size in a round of the start, and the growth of the rate that a round must show.
_START_GROWTH = 1.5
_START_RATE_GROWTH = 1.2
#: Waiting requests at a board that end the start. A first burst lets some requests wait.
_START_WAITING = 3.0
#: The least rest counts for this many seconds, and at least for this many latencies.
_REST_S = 10.0
_REST_LATENCIES = 10.0
#: A rest up to this multiple of the least rest renews the least rest.
_SAME_REST = 1.02
#: Size of the window during a drain, relative to its size.
_DRAIN = 0.75


class AdaptiveWindow:
    """The number of requests that a stream may have in flight.

    The size changes after each round: as many answers as the window has places, or a few more.
    """

    def __init__(self, stages: Sequence[Stage], *, largest: int = LARGEST) -> None:
        """Start with one place for each board, and two more.

        Args:
            stages: The manifest's stages.
            largest: Upper bound of the size.
        """
        self._group_of, boards = _group_stages(stages)
        self._largest = float(largest)
        self._exact = min(self._largest, boards + 2.0)
        self._size = int(self._exact)
        #: Sum of the fractions of ``_exact`` that ``_size`` left out.
        self._fraction = 0.0
        self._is_starting = True
        self._start_rate = 0.0
        self._least_rest_ms = math.inf
        self._least_rest_at = 0.0
        #: Answers until the end of a drain, those of them whose rest counts, and their least rest.
        self._drain_answers = 0
        self._drained_answers = 0
        self._drained_rest_ms = math.inf
        #: Answers to requests that were sent before the last decrease by :meth:`add_overloaded`.
        self._sent_before_halving = 0
        groups = 1 + max(self._group_of)
        self._queue_ms = [0.0] * groups
        self._service_ms = [0.0] * groups
        self._start_round()

    @property
    def size(self) -> int:
        """Requests that may be in flight now, 1 or more.

        The exact size has a fraction. This size alternates between the whole numbers beside the
        exact size, so that clients with one or two places get equal shares.
        """
        return self._size

    def add_result(
        self, now: float, latency_ms: float, trace: Sequence[StageTrace], in_flight: int
    ) -> None:
        """Learn from a result of a request that was sent once.

        The latency of a request that was sent again includes an outage, and must not be added.

        Args:
            now: Time in seconds, on any one clock.
            latency_ms: Time from sending the request to its result, in milliseconds.
            trace: The request's trace.
            in_flight: Requests in flight when the result came, this one included. While mostly
                fewer than :attr:`size` are in flight, the size does not grow: the caller, not the
                window, limits the stream.
        """
        queue_ms = invoke_ms = 0.0
        for entry in trace:
            queue_ms += entry.queue_ms
            invoke_ms += entry.invoke_ms
            if 0 <= entry.stage < len(self._group_of):
                group = self._group_of[entry.stage]
                self._queue_ms[group] += entry.queue_ms
                self._service_ms[group] += entry.invoke_ms + _OVERHEAD_MS
        self._sent_before_halving = max(0, self._sent_before_halving - 1)
        rest_ms = max(0.0, latency_ms - queue_ms - invoke_ms)
        if self._is_draining(now, latency_ms, rest_ms, in_flight):
            return
        self._answers += 1
        self._full_answers += in_flight >= self._size
        self._latency_sum_ms += latency_ms
        self._invoke_sum_ms += invoke_ms
        self._base_sum_ms += min(latency_ms, self._least_rest_ms + invoke_ms)
        if self._answers >= max(_ROUND, self._exact):
            self._end_round()
        self._set_size()

    def add_overloaded(self) -> None:
        """Halve the size: a board refused a request because too many wait.

        The requests that were in flight at a decrease decrease the size no further.
        """
        if self._sent_before_halving:
            self._sent_before_halving -= 1
            return
        self._sent_before_halving = int(self._exact) - 1
        self._exact = max(1.0, self._exact / 2)
        self._is_starting = False
        self._drain_answers = 0
        self._set_size()
        self._start_round()

    def _is_draining(self, now: float, latency_ms: float, rest_ms: float, in_flight: int) -> bool:
        """Follow the least rest; return whether this answer belongs to a drain."""
        if rest_ms <= _SAME_REST * self._least_rest_ms:
            self._least_rest_ms = min(rest_ms, self._least_rest_ms)
            self._least_rest_at = now
        if not self._drain_answers:
            valid_s = max(_REST_S, _REST_LATENCIES * latency_ms / 1000)
            if now - self._least_rest_at <= valid_s:
                return False
            self._size = max(1, int(_DRAIN * self._exact))
            self._drained_answers = self._size
            # The requests in flight now were sent before the drain.
            self._drain_answers = in_flight + self._drained_answers
            self._drained_rest_ms = math.inf
        self._drain_answers -= 1
        if self._drain_answers < self._drained_answers:
            self._drained_rest_ms = min(self._drained_rest_ms, rest_ms)
        if not self._drain_answers:
            # The cause of a longer rest is a slower network, or the queue of clients that did not
            # drain at this time. Without this decrease, each such drain would lengthen the queue.
            kept = self._least_rest_ms / max(self._drained_rest_ms, 1e-6)
            self._exact = max(1.0, self._exact * min(1.0, max(_SMALLEST_STEP, kept)))
            self._least_rest_ms = self._drained_rest_ms
            self._least_rest_at = now
            self._set_size()
            self._start_round()
        return True

    def _start_round(self) -> None:
        self._answers = 0
        self._full_answers = 0
        self._latency_sum_ms = 0.0
        self._invoke_sum_ms = 0.0
        self._base_sum_ms = 0.0
        self._queue_ms = [_KEPT * queue_ms for queue_ms in self._queue_ms]
        self._service_ms = [_KEPT * service_ms for service_ms in self._service_ms]

    def _end_round(self) -> None:
        size, latency_ms = self._exact, max(self._latency_sum_ms, 1e-6)
        waiting = self._waiting()
        busy = size * self._base_sum_ms / latency_ms
        in_service = size * self._invoke_sum_ms / latency_ms
        extra = (_EXTRA + _EXTRA_IN_SERVICE * in_service) * (1 - waiting / _CROWDED)
        is_full = 2 * self._full_answers >= self._answers
        if is_full and self._is_starting:
            rate = size * self._answers / latency_ms
            has_queue = size - busy >= max(1.0, size / 4) or waiting >= _START_WAITING
            self._is_starting = not has_queue and rate >= _START_RATE_GROWTH * self._start_rate
            self._start_rate = rate
        if is_full and self._is_starting:
            target = _START_GROWTH * size
        else:
            target = max(size + _GAIN * (busy + extra - size), _SMALLEST_STEP * size)
            if waiting >= _CROWDED:
                # Requests of an unknown number wait in the broker, so that ``busy`` is too large.
                target = _SMALLEST_STEP * size
            target = target if is_full else min(target, size)
        self._exact = min(max(1.0, target), self._largest)
        self._start_round()

    def _waiting(self) -> float:
        """Return the mean number of requests that wait at a board of the slowest stage."""
        return max(
            queue_ms / max(service_ms, 1e-6)
            for queue_ms, service_ms in zip(self._queue_ms, self._service_ms, strict=True)
        )

    def _set_size(self) -> None:
        self._size = math.floor(self._exact)
        self._fraction += self._exact - self._size
        if self._fraction >= 1:
            self._fraction -= 1
            self._size += 1


def _group_stages(stages: Sequence[Stage]) -> tuple[list[int], int]:
    """Return the number of each stage's group, and the number of boards.

    Stages that share boards are one group: their requests wait in the same queues.
    """
    groups: list[set[str]] = []
    for stage in stages:
        group = set(stage.devices)
        apart = [other for other in groups if other.isdisjoint(group)]
        groups = [*apart, group.union(*(other for other in groups if other not in apart))]
    numbers = [
        next(number for number, group in enumerate(groups) if stage.devices[0] in group)
        for stage in stages
    ]
    return numbers, sum(map(len, groups))
