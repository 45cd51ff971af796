"""The size of a stream's window: how many of the stream's requests may be in flight.

The size keeps all boards of a pipeline busy, with few waiting requests. The size follows the
control law of FAST TCP (Wei, Jin, Low and Hegde, "FAST TCP: Motivation, Architecture, Algorithms,
Performance", IEEE/ACM Transactions on Networking 14(6), 2006)::

    size <- size * base / latency + extra

``base`` is the latency of a request that waits in no queue. By Little's law, ``size * base /
latency`` is the number of requests in service or in transfer: the rate of results times ``base``.
In equilibrium, ``extra`` more requests wait in queues. The waiting requests keep the slowest stage
busy while service times vary. All clients of a pipeline see the same ratio ``base / latency``.
Their sizes therefore become equal, although no client knows of the others.

Waits at the boards are in the traces, as ``queue_ms``. An agent holds at most ``RECEIVE_MAXIMUM``
requests. Further requests wait in the broker, and no trace contains that wait. Therefore ``extra``
becomes smaller when more requests wait at a board of the slowest stage. ``extra`` is negative if an
agent is nearly full.

Waits on links are in no trace. They are part of the *rest* of a latency: the latency minus the
trace's ``queue_ms`` and ``invoke_ms``. ``base`` contains the least rest that the client has
measured. A client that starts while the links are busy measures too large a rest. The client
therefore copies BBR (Cardwell, Cheng, Gunn, Yeganeh and Jacobson, "BBR: Congestion-Based Congestion
Control", ACM Queue 14(5), 2016). If for some seconds no measured rest was near the least rest, the
client *drains* its queue: it keeps fewer requests in flight for some answers. The least rest of
these answers becomes the new least rest. The drain of one client lowers the rest that every client
measures. The next drains of all clients therefore coincide, and measure links without queues.

The state here is pure: callers pass the times, and hold a lock if several threads share a window.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_core.contract.manifest import Stage
    from edge_core.contract.messages import StageTrace

#: Upper bound of the size, in requests.
LARGEST = 64

# The constants below come from the simulations in tests/edge_partition/client.

#: While no requests wait, ``extra`` is ``_EXTRA + _EXTRA_IN_SERVICE * in_service``. The constant
#: part makes the clients' sizes equal. The other part gives each busy board a next request.
_EXTRA = 2.0
_EXTRA_IN_SERVICE = 2.0
#: Number of requests that wait at a board when ``extra`` becomes 0. A full agent has one request in
#: service, and ``RECEIVE_MAXIMUM - 1`` requests wait.
_CROWDED = 6.5
#: Time that an agent spends on a request outside the inference, in milliseconds. The next request
#: waits for this time too. No trace contains this time.
_OVERHEAD_MS = 0.2
#: Least number of answers in a round.
_ROUND = 4
#: The sums of waits and service times are multiplied by this factor when a round starts, so that
#: earlier rounds count less.
_KEPT = 0.7
#: Fraction of the difference between the law's size and the present size that one round adds.
_GAIN = 0.5
#: Smallest ratio of a new size to the size before: a round with one slow answer says little.
_SMALLEST_STEP = 0.75
#: In the start phase, the size grows by the factor ``_START_GROWTH`` in each round. The phase ends
#: when a round raises the rate of results by less than the factor ``_START_RATE_GROWTH``.
_START_GROWTH = 1.5
_START_RATE_GROWTH = 1.2
#: Number of requests waiting at a board that ends the start phase. The first requests arrive
#: together, so fewer waiting requests mean nothing.
_START_WAITING = 3.0
#: The least rest is valid for this many seconds, and at least for this many latencies.
_REST_S = 10.0
_REST_LATENCIES = 10.0
#: A rest of at most this multiple of the least rest extends the validity of the least rest.
_SAME_REST = 1.02
#: Size of the window during a drain, as a fraction of the size before the drain.
_DRAIN = 0.75


class AdaptiveWindow:
    """The number of requests that a stream may have in flight.

    The size changes after each round. A round has as many answers as ``size``, but at least four.
    """

    def __init__(self, stages: Sequence[Stage], *, largest: int = LARGEST) -> None:
        """Start with a size of two more than the number of boards.

        Args:
            stages: The manifest's stages.
            largest: Upper bound of the size, in requests.
        """
        self._group_of, boards = _group_stages(stages)
        self._largest = float(largest)
        self._exact = min(self._largest, boards + 2.0)
        self._size = int(self._exact)
        #: Sum of the fractional parts that were lost when ``_exact`` was rounded down to ``_size``.
        self._fraction = 0.0
        self._is_starting = True
        self._start_rate = 0.0
        self._least_rest_ms = math.inf
        self._least_rest_at = 0.0
        #: Number of answers until the drain ends; 0: there is no drain.
        self._drain_answers = 0
        #: Number of answers to requests that are sent during the drain. Only their rests count.
        self._drained_answers = 0
        #: Least rest of the answers to requests that were sent during the drain, in milliseconds.
        self._drained_rest_ms = math.inf
        #: Number of unanswered requests that were sent before :meth:`add_overloaded` last halved
        #: the size.
        self._sent_before_halving = 0
        groups = 1 + max(self._group_of)
        self._queue_ms = [0.0] * groups
        self._service_ms = [0.0] * groups
        self._start_round()

    @property
    def size(self) -> int:
        """Number of requests that may be in flight now, 1 or more.

        The exact size may have a fraction: for 1.5, this number alternates between 1 and 2. If the
        number were always rounded, clients with the exact sizes 1.5 and 2 would get unequal shares.
        """
        return self._size

    def add_result(
        self, now: float, latency_ms: float, trace: Sequence[StageTrace], in_flight: int
    ) -> None:
        """Update the size after a result.

        The caller must not pass the result of a request that was sent more than once, because its
        latency includes an outage.

        Args:
            now: Time in seconds, on any one clock.
            latency_ms: Time from sending the request to its result, in milliseconds.
            trace: The request's trace.
            in_flight: Number of requests in flight when the result came, including this request.
                If this number is below :attr:`size` for most results, the size does not grow,
                because the caller gives fewer inputs than the window allows.
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
        """Halve the size, because a board refused a request: too many requests wait at the board.

        If the board also refuses other requests that were in flight at that time, the size does
        not change again.
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
        """Update the least rest; return whether this answer belongs to a drain.

        The docstring of this module defines rests and drains.
        """
        if rest_ms <= _SAME_REST * self._least_rest_ms:
            self._least_rest_ms = min(rest_ms, self._least_rest_ms)
            self._least_rest_at = now
        if not self._drain_answers:
            valid_s = max(_REST_S, _REST_LATENCIES * latency_ms / 1000)
            if now - self._least_rest_at <= valid_s:
                return False
            self._size = max(1, int(_DRAIN * self._exact))
            self._drained_answers = self._size
            # The requests in flight now were sent before the drain, so their rests do not count.
            self._drain_answers = in_flight + self._drained_answers
            self._drained_rest_ms = math.inf
        self._drain_answers -= 1
        if self._drain_answers < self._drained_answers:
            self._drained_rest_ms = min(self._drained_rest_ms, rest_ms)
        if not self._drain_answers:
            # The new least rest may be longer than the old one: the network is slower, or other
            # clients did not drain and their requests wait on the links. Without this decrease of
            # the size, each such drain would lengthen the queues on the links.
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
                # An unknown number of requests waits in the broker, so ``busy`` is too large.
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
    """Group the stages that share boards, because their requests wait in the same queues.

    Returns:
        The group number of each stage, in stage order, and the number of boards of all stages.
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
