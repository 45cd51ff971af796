"""The choice of each request's route: one board for each stage.

The rule is "join the shortest expected delay": among a stage's online boards, the router chooses
the board that would be the first to finish one more request. The expected delay on a board is the
time of this client's unanswered requests on the board, plus the time of the new request. For a
board with one stage, this is ``(outstanding + 1) * time``. A request may also wait for the requests
of other clients. The router takes these waits from traces, and adds their average to the delay.

The router starts with the plan's times, and updates them with the ``invoke_ms`` of each trace.

The state here is pure: callers pass the time, and hold a lock if several threads share a router.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_core.contract.manifest import Stage
    from edge_core.contract.messages import StageTrace

#: A new time has the weight ``1 / min(answers, _AVERAGED)`` in a replica's average time.
_AVERAGED = 8
#: A time counts as at most this multiple of the average. Otherwise, one slow answer would divert a
#: stream from a board.
_LARGEST_STEP = 3.0
#: Lower bound of an inference time, in milliseconds. Shorter times do not measure a board.
_SHORTEST_MS = 1e-3
#: Delays that differ by less than this fraction count as equal. Of boards with equal delays, the
#: router chooses the board whose last request was sent first.
_EQUAL = 0.01
#: An average may be outdated. A board without unanswered requests therefore gets a request,
#: whatever its average, if three conditions hold since its last request: the client has sent more
#: than ``_OLD_REQUESTS`` requests, more than ``_OLD_S`` seconds have passed, and more than
#: ``_OLD_TIMES`` times the average has passed. A slow board then gets at most 1 % of the requests,
#: and is busy with them for at most 5 % of the time.
_OLD_REQUESTS = 100
_OLD_S = 2.0
_OLD_TIMES = 20.0
#: Weight of a new wait in a replica's average wait for other clients' requests.
_OTHERS_WEIGHT = 0.25
#: Each choice of a board for the stage reduces this average by this fraction, because a board that
#: was busy may be idle now.
_OTHERS_FORGOTTEN = 0.06
#: A wait at an agent of this many inference times means that the agent is full. Further requests
#: then wait in the broker, and no trace contains that wait.
_AGENT_FULL = 6.0
#: Time that an agent spends on a request outside the inference, in milliseconds.
_OVERHEAD_MS = 0.2
#: The *rest* of a latency is the time that is not in the trace: transfers, and waits in the broker.
#: The least rest grows by this factor with each result, because the network may become slower.
_REST_GROWTH = 1.001
#: Delay added to a board that is chosen only if no other board can take the request, in
#: milliseconds.
_LAST_MS = 1e12


class _Replica:
    """A replica of a stage: the stage on one board, with its requests and average times."""

    __slots__ = (
        "answered",
        "board",
        "link_ms",
        "others_ms",
        "outstanding",
        "time_ms",
        "used",
        "used_at",
    )

    def __init__(self, board: _Board, time_ms: float, link_ms: float) -> None:
        self.board = board
        #: Average time of an inference, in milliseconds.
        self.time_ms = max(_SHORTEST_MS, time_ms)
        #: The plan's time of a request's transfers on the board's link, in milliseconds. No trace
        #: contains this time.
        self.link_ms = link_ms
        #: Average wait for the requests of other clients, in milliseconds.
        self.others_ms = 0.0
        #: Number of unanswered requests.
        self.outstanding = 0
        #: Number of times in the average ``time_ms``.
        self.answered = 0
        #: Number of the replica's last request, and the time of its choice in seconds. Until the
        #: replica gets a request: 0, and the time of the router's first choice.
        self.used = 0
        self.used_at = 0.0

    def delay_ms(self, number: int, now: float) -> float:
        """Return the expected time until one more request would be finished, in milliseconds.

        Args:
            number: Number of the new request; the router numbers its choices from 1.
            now: Time in seconds.
        """
        delay_ms = self.ahead_ms() + max(self.time_ms, self.link_ms) + self.others_ms
        if self.outstanding:
            return delay_ms if self.board.is_proven else delay_ms + _LAST_MS
        if number - self.used > _OLD_REQUESTS:
            idle_s = now - self.used_at
            if idle_s > _OLD_S and idle_s * 1000 > _OLD_TIMES * self.time_ms:
                return 0.0
        return delay_ms

    def ahead_ms(self) -> float:
        """Return the board's expected time for this client's unanswered requests, in ms."""
        replicas = self.board.replicas
        if len(replicas) == 1:
            return self.outstanding * max(self.time_ms, self.link_ms)
        return sum(
            [replica.outstanding * max(replica.time_ms, replica.link_ms) for replica in replicas]
        )

    def average(self, invoke_ms: float) -> None:
        """Add the time of one inference to the average time, in milliseconds."""
        self.answered += 1
        weight = 1 / min(self.answered, _AVERAGED)
        invoke_ms = min(max(invoke_ms, _SHORTEST_MS), _LARGEST_STEP * self.time_ms)
        self.time_ms += weight * (invoke_ms - self.time_ms)

    def average_wait(self, queue_ms: float, hidden_ms: float, ahead_ms: float) -> None:
        """Add the wait of one request to the average wait for other clients' requests.

        Args:
            queue_ms: Wait at the agent, in milliseconds.
            hidden_ms: Wait in the broker or on links, which is in no trace, in milliseconds.
            ahead_ms: Expected time of this client's earlier requests on the board when the board
                was chosen, in milliseconds.
        """
        if queue_ms >= _AGENT_FULL * (self.time_ms + _OVERHEAD_MS):
            queue_ms += hidden_ms
        self.others_ms += _OTHERS_WEIGHT * (max(0.0, queue_ms - ahead_ms) - self.others_ms)


class _Board:
    """A board: its replicas of stages, whether it is online, and whether it answers requests."""

    __slots__ = ("is_online", "is_proven", "replicas")

    def __init__(self) -> None:
        self.replicas: list[_Replica] = []
        self.is_online = True
        #: Whether the board has given a result since it came back, or since its last error. While
        #: false, each of its stages gets one request at a time, if another board of the stage is
        #: online.
        self.is_proven = True


#: One stage of a route: the board's name, its replica of the stage, and the expected time of this
#: client's earlier requests on the board in milliseconds. The time is None if the stage has one
#: board.
_Stop: TypeAlias = "tuple[str, _Replica, float | None]"


class Router:
    """Chooses the routes of one client's requests to one generation of a deployment."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        """Start with all boards online and without requests.

        Args:
            stages: The manifest's stages, in order. The router starts with their predicted times.
                Traces update the times of inferences. The times of links stay as predicted,
                because traces contain no times of links.
        """
        self._boards: dict[str, _Board] = {}
        self._stages: list[list[tuple[str, _Replica]]] = []
        self._replicas: dict[tuple[int, str], _Replica] = {}
        self._routes: dict[bytes, list[_Stop]] = {}
        self._chosen = 0
        self._least_rest_ms = math.inf
        for stage in stages:
            options = []
            for device, (invoke_ms, link_ms) in stage.board_times_ms().items():
                board = self._boards.setdefault(device, _Board())
                replica = _Replica(board, invoke_ms, link_ms)
                board.replicas.append(replica)
                self._replicas[stage.index, device] = replica
                options.append((device, replica))
            self._stages.append(options)

    def choose(self, request_id: bytes, now: float) -> tuple[str, ...] | None:
        """Choose the boards that a request passes, and count the request at each of them.

        If the request has a route already, the new route replaces it: the request is sent again.

        Args:
            request_id: Identifier of the request.
            now: Time in seconds, on any one clock.

        Returns:
            The boards' names, in stage order; None if all boards of a stage are offline.
        """
        self.release(request_id)
        self._chosen += 1
        if self._chosen == 1:
            for replica in self._replicas.values():
                replica.used_at = now
        route: list[_Stop] = []
        for options in self._stages:
            option = self._choose_board(options, now)
            if option is None:
                for _, replica, _ in route:
                    replica.outstanding -= 1
                return None
            device, replica = option
            route.append((device, replica, replica.ahead_ms() if len(options) > 1 else None))
            # Counted before the choice for the next stage, which may be on the same board.
            replica.outstanding += 1
        for _, replica, _ in route:
            replica.used = self._chosen
            replica.used_at = now
        self._routes[request_id] = route
        return tuple([device for device, _, _ in route])

    def _choose_board(
        self, options: list[tuple[str, _Replica]], now: float
    ) -> tuple[str, _Replica] | None:
        best: tuple[str, _Replica] | None = None
        best_ms = 0.0
        for option in options:
            replica = option[1]
            if not replica.board.is_online:
                continue
            if len(options) == 1:
                return option
            replica.others_ms *= 1 - _OTHERS_FORGOTTEN
            delay_ms = replica.delay_ms(self._chosen, now)
            if best is not None:
                margin_ms = _EQUAL * best_ms
                if delay_ms > best_ms + margin_ms:
                    continue
                if delay_ms >= best_ms - margin_ms and replica.used >= best[1].used:
                    continue
            best, best_ms = option, delay_ms
        return best

    def route_of(self, request_id: bytes) -> tuple[str, ...] | None:
        """Return the names of the boards of a request's route; None if the request has no route."""
        route = self._routes.get(request_id)
        return None if route is None else tuple([device for device, _, _ in route])

    def take_result(
        self, request_id: bytes, trace: Sequence[StageTrace], latency_ms: float | None
    ) -> None:
        """Remove the route of a request that got its result, and update the averages of its boards.

        The trace gives the new times and waits. If the request had no route, only the average
        inference times are updated.

        Args:
            request_id: Identifier of the request.
            trace: The request's trace.
            latency_ms: Time from sending the request to its result, in milliseconds; None for a
                request that was sent again, whose latency includes an outage.
        """
        route = self._routes.get(request_id, ())
        self.release(request_id)
        hidden_ms = 0.0 if latency_ms is None else self._hidden_ms(trace, latency_ms)
        for entry in trace:
            replica = self._replicas.get((entry.stage, entry.device))
            if replica is None:
                continue
            replica.average(entry.invoke_ms)
            replica.board.is_proven = True
            # If the request was sent again, the result may come from boards of an earlier route.
            if entry.stage < len(route) and route[entry.stage][1] is replica:
                ahead_ms = route[entry.stage][2]
                if ahead_ms is not None:
                    replica.average_wait(entry.queue_ms, hidden_ms, ahead_ms)

    def _hidden_ms(self, trace: Sequence[StageTrace], latency_ms: float) -> float:
        """Return the part of a latency that was spent in queues outside the trace, in milliseconds.

        The time outside the trace consists of transfers and waits. The shortest such time so far is
        the estimate of the transfers.
        """
        rest_ms = latency_ms
        for entry in trace:
            rest_ms -= entry.queue_ms + entry.invoke_ms
        rest_ms = max(0.0, rest_ms)
        self._least_rest_ms = min(rest_ms, self._least_rest_ms * _REST_GROWTH)
        return rest_ms - self._least_rest_ms

    def take_error(self, request_id: bytes, trace: Sequence[StageTrace]) -> None:
        """Remove the route of a request that got an error; limit the board that sent the error.

        A board that refuses requests immediately has few unanswered requests. Without a limit, the
        router would choose this board most often. So, until its next result, the board has at most
        one unanswered request for each stage that other online boards serve too.

        Args:
            request_id: Identifier of the request.
            trace: The stages that ran before the error. The next board of the route sent the error.
        """
        route = self._routes.get(request_id)
        if route is not None and len(trace) < len(route):
            route[len(trace)][1].board.is_proven = False
        self.release(request_id)

    def release(self, request_id: bytes) -> None:
        """Remove the route of a request, if it has one; average times stay the same."""
        for _, replica, _ in self._routes.pop(request_id, ()):
            replica.outstanding -= 1

    def set_online(self, device: str, *, is_online: bool) -> None:
        """Record whether a board is online; a board of another deployment is ignored.

        An offline board gets no requests. Until its first result, a board that comes back has at
        most one unanswered request for each stage that other online boards serve too. The first new
        times replace the board's old average times.
        """
        board = self._boards.get(device)
        if board is None or board.is_online == is_online:
            return
        board.is_online = is_online
        board.is_proven = False
        for replica in board.replicas:
            replica.answered = 0

    def routes_through(self, device: str) -> list[bytes]:
        """Return the identifiers of the requests whose routes include a board, oldest route first.

        When the board goes offline, these requests must be sent again.
        """
        return [
            request_id
            for request_id, route in self._routes.items()
            if any(name == device for name, _, _ in route)
        ]

    @property
    def offline(self) -> frozenset[str]:
        """Names of the boards that are offline."""
        return frozenset(name for name, board in self._boards.items() if not board.is_online)

    def outstanding(self, device: str) -> int:
        """Return the number of unanswered requests on a board.

        A request counts once for each stage that it runs on the board.
        """
        board = self._boards.get(device)
        return sum(replica.outstanding for replica in board.replicas) if board else 0

    def time_ms(self, stage: int, device: str) -> float:
        """Return the average inference time of a stage on a board, in milliseconds.

        Raises:
            KeyError: The board does not run the stage.
        """
        return self._replicas[stage, device].time_ms
