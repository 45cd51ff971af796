"""A board in simulated time: its queue at the broker, its link and its processor.

What is modelled, and where it is so in the agent:

- The broker hands a board at most its receive maximum of requests before one is acknowledged
  (:mod:`edge_core.mqtt.connection`); the rest waits at the broker.
- The link is half duplex: while something comes in and something goes out, each has half of it.
- The network thread and the inference thread each serve first come, first served, and slow each
  other down as far as they share processors.
- A request is acknowledged when its result has left (:mod:`device_agent.worker`). A board that
  fails loses its work, and gets the requests again that it had not acknowledged.
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, TypeAlias

import simpy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edge_partition.planning.read_plan import ReplicaTimes

#: Where a request spends its time; the order of :attr:`Copy.spent_ms`.
SOURCE, RESENT, BROKER, LINK, HANDLING, QUEUE, INVOKE = range(7)
SPENT = ("source", "resent", "broker", "link", "handling", "queue", "invoke")

#: As :data:`device_agent.worker.QUEUE_LENGTH`, which the host doesn't import.
AGENT_QUEUE_LENGTH = 32
#: mosquitto's ``max_queued_messages``, as :mod:`broker_config.serve.mosquitto` sets it: what comes
#: to a full queue is dropped without a word.
BROKER_QUEUE_LENGTH = 1000
_ALONE = 1.0
_HALF = 0.5

_Then: TypeAlias = "Callable[[Copy, float], None]"
_Job: TypeAlias = "tuple[float, Copy, _Then]"


class Copy:
    """A message on its way through the stages: a request, sent for the first time or again.

    Attributes:
        number: The request's.
        expires_ms: When the broker and the boards drop it.
        stage: Where it is.
        times: Of the board that serves it there.
        marked_ms: Until when its time is accounted for.
        spent_ms: By :data:`SPENT`.
    """

    __slots__ = ("expires_ms", "marked_ms", "number", "spent_ms", "stage", "times")

    def __init__(self, number: int, now_ms: float, expires_ms: float) -> None:
        self.number = number
        self.expires_ms = expires_ms
        self.stage = 0
        self.times: ReplicaTimes
        self.marked_ms = now_ms
        self.spent_ms = [0.0] * len(SPENT)

    def spend(self, where: int, until_ms: float) -> None:
        """Account for the time since the last mark."""
        self.spent_ms[where] += until_ms - self.marked_ms
        self.marked_ms = until_ms


class SharedLanes:
    """Two queues, each first come, first served, whose heads share one resource.

    A head alone is served at full speed; two at once are served at ``pace`` each. 0.5 is one
    resource for both, 1 is one for each.
    """

    __slots__ = (
        "_env",
        "_left_ms",
        "_next",
        "_pace",
        "_since_ms",
        "_started_ms",
        "_version",
        "lanes",
    )

    def __init__(self, env: simpy.Environment, pace: float) -> None:
        self.lanes: tuple[collections.deque[_Job], collections.deque[_Job]] = (
            collections.deque(),
            collections.deque(),
        )
        self._env = env
        self._pace = pace
        #: Of each head: the work that is left, and when it began.
        self._left_ms = [0.0, 0.0]
        self._started_ms = [0.0, 0.0]
        #: Until when that is accounted for.
        self._since_ms = 0.0
        #: The lane whose head ends next, and which event says so; others are out of date.
        self._next = 0
        self._version = 0

    def add(self, lane: int, work_ms: float, copy: Copy, then: _Then) -> None:
        """Queue work; ``then`` is called with the copy and the time when its work began."""
        waiting = self.lanes[lane]
        if waiting:
            waiting.append((work_ms, copy, then))
            return
        self._advance()
        waiting.append((work_ms, copy, then))
        self._left_ms[lane] = work_ms
        self._started_ms[lane] = self._since_ms
        self._schedule()

    def clear(self) -> None:
        """Drop everything."""
        for lane in self.lanes:
            lane.clear()
        self._version += 1

    def _advance(self) -> None:
        now_ms = self._env.now
        passed_ms = now_ms - self._since_ms
        if not passed_ms:
            return
        self._since_ms = now_ms
        first, second = self.lanes
        left_ms = self._left_ms
        if first and second:
            left_ms[0] -= passed_ms * self._pace
            left_ms[1] -= passed_ms * self._pace
        elif first:
            left_ms[0] -= passed_ms
        elif second:
            left_ms[1] -= passed_ms

    def _schedule(self) -> None:
        """Make an event of the next end of work; earlier ones no longer count."""
        first, second = self.lanes
        left_ms = self._left_ms
        self._version += 1
        if first and second:
            self._next = 0 if left_ms[0] <= left_ms[1] else 1
            delay_ms = left_ms[self._next] / self._pace
        elif first or second:
            self._next = 0 if first else 1
            delay_ms = left_ms[self._next]
        else:
            return
        # Rounding may leave a little less than nothing.
        event = simpy.Timeout(self._env, max(0, delay_ms), self._version)
        event.callbacks.append(self._finish)

    def _finish(self, event: simpy.Event) -> None:
        if event.value != self._version:
            return
        self._advance()
        lane = self._next
        waiting = self.lanes[lane]
        started_ms = self._started_ms[lane]
        _, copy, then = waiting.popleft()
        if waiting:
            self._left_ms[lane] = waiting[0][0]
            self._started_ms[lane] = self._since_ms
        self._schedule()
        then(copy, started_ms)


class SimulatedBoard:
    """A board and its queue at the broker.

    Attributes:
        name: The board's.
        processor_ms: Work given to its processors.
        link_ms: When its link was occupied, in milliseconds.
        served: Requests.
        queue_ms: Sum of the times that requests waited for inference.
        broker_ms: Sum of the times that requests waited at the broker.
        most_queued: Requests that waited for inference at once.
        most_at_broker: Requests that waited at the broker at once.
        first_ms: When the first request came.
        last_ms: When the last result left.
        is_up: Whether it serves.
    """

    def __init__(
        self,
        env: simpy.Environment,
        name: str,
        roles: Sequence[ReplicaTimes],
        *,
        receive_maximum: int,
        stretches: Iterator[float],
        on_result: Callable[[Copy], None],
        on_overloaded: Callable[[Copy], None],
    ) -> None:
        """Prepare.

        Args:
            env: The clock.
            name: The board's.
            roles: What it does for a request at each stage that it serves.
            receive_maximum: Requests that it holds at once.
            stretches: Factors of the inferences' times.
            on_result: Called with a copy when its result has left.
            on_overloaded: Called with a copy that the board refuses.
        """
        self.name = name
        self.processor_ms = self.link_ms = self.queue_ms = self.broker_ms = 0.0
        self.served = self.most_queued = self.most_at_broker = 0
        self.first_ms: float | None = None
        self.last_ms = 0.0
        self.is_up = True
        self._env = env
        self._receive_maximum = receive_maximum
        self._stretches = stretches
        self._on_result = on_result
        self._on_overloaded = on_overloaded
        self._link = SharedLanes(env, _HALF)
        self._processor = SharedLanes(env, _pace(roles))
        self._failures = 0
        self._at_broker: collections.deque[Copy] = collections.deque()
        #: Copies that are not acknowledged, in the order in which they were handed over.
        self._held: dict[Copy, None] = {}

    def publish(self, copy: Copy) -> None:
        """Take a copy into the board's queue at the broker."""
        if len(self._at_broker) >= BROKER_QUEUE_LENGTH:
            return
        self._at_broker.append(copy)
        self._hand_over()
        self.most_at_broker = max(self.most_at_broker, len(self._at_broker))

    def fail(self) -> None:
        """Go away, and lose the work at hand."""
        self.is_up = False
        self._failures += 1
        self._link.clear()
        self._processor.clear()
        self._at_broker.extendleft(reversed(self._held))
        self._held.clear()

    def restore(self) -> None:
        """Come back."""
        self.is_up = True
        self._hand_over()

    def _hand_over(self) -> None:
        now_ms = self._env.now
        while self.is_up and self._at_broker and len(self._held) < self._receive_maximum:
            copy = self._at_broker.popleft()
            if now_ms >= copy.expires_ms:
                continue
            self.broker_ms += now_ms - copy.marked_ms
            copy.spend(BROKER, now_ms)
            if self.first_ms is None:
                self.first_ms = now_ms
            self._held[copy] = None
            self._link.add(0, copy.times.receive_transfer_ms, copy, self._carried)

    def _carried(self, copy: Copy, _started_ms: float) -> None:
        self.link_ms += copy.times.receive_transfer_ms
        failures = self._failures
        self._delay(copy, lambda: self._received(copy) if failures == self._failures else None)

    def _delay(self, copy: Copy, then: Callable[[], None]) -> None:
        """Call ``then`` when a message of ``copy``'s has come over the link."""
        if not copy.times.link_delay_ms:
            then()
            return
        event = simpy.Timeout(self._env, copy.times.link_delay_ms)
        event.callbacks.append(lambda _event: then())

    def _received(self, copy: Copy) -> None:
        copy.spend(LINK, self._env.now)
        self._processor.add(0, copy.times.receive_handling_ms, copy, self._handled)

    def _handled(self, copy: Copy, _started_ms: float) -> None:
        copy.spend(HANDLING, self._env.now)
        inferences = self._processor.lanes[1]
        if len(inferences) > AGENT_QUEUE_LENGTH:
            self._release(copy)
            self._on_overloaded(copy)
            return
        work_ms = copy.times.invoke_ms * next(self._stretches)
        self.processor_ms += work_ms + copy.times.busy_ms - copy.times.invoke_ms
        self._processor.add(1, work_ms, copy, self._invoked)
        self.most_queued = max(self.most_queued, len(inferences) - 1)

    def _invoked(self, copy: Copy, started_ms: float) -> None:
        self.queue_ms += started_ms - copy.marked_ms
        copy.spend(QUEUE, started_ms)
        copy.spend(INVOKE, self._env.now)
        self._processor.add(0, copy.times.send_handling_ms, copy, self._encoded)

    def _encoded(self, copy: Copy, _started_ms: float) -> None:
        copy.spend(HANDLING, self._env.now)
        self._link.add(1, copy.times.send_transfer_ms, copy, self._sent)

    def _sent(self, copy: Copy, _started_ms: float) -> None:
        self.link_ms += copy.times.send_transfer_ms
        self.served += 1
        self._release(copy)
        self._delay(copy, lambda: self._arrived(copy))

    def _arrived(self, copy: Copy) -> None:
        copy.spend(LINK, self._env.now)
        self._on_result(copy)

    def _release(self, copy: Copy) -> None:
        self.last_ms = self._env.now
        del self._held[copy]
        self._hand_over()


def _pace(roles: Sequence[ReplicaTimes]) -> float:
    """Return how fast each of the two threads runs while both do.

    Over the shorter of the two times both run, and take that over the pace; what is left of the
    longer runs alone. Together that is ``busy_ms``.
    """
    invoke_ms, handling_ms, busy_ms = (
        sum(times)
        for times in zip(*((t.invoke_ms, t.handling_ms, t.busy_ms) for t in roles), strict=True)
    )
    shorter_ms, longer_ms = sorted((invoke_ms, handling_ms))
    return shorter_ms / (busy_ms - longer_ms + shorter_ms) if shorter_ms else _ALONE
