"""The route of each request: one board a stage, chosen by outstanding work and measured times.

The rule is "join the shortest expected delay": of a stage's boards that are online, the board on
which one more request would be done first takes the request. The expected delay on a board is the
sum, over the client's own unanswered requests on that board and over the new one, of the time of
the stage that each request runs there: ``(outstanding + 1) * time`` for a board with one stage. The
requests of other clients add the wait that they caused in the last traces.

Times start from the plan and follow the ``invoke_ms`` of traces. Pure state: callers pass the time
and hold a lock where several threads share a router.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_core.contract.manifest import Stage
    from edge_core.contract.messages import StageTrace

#: Weight of a new time in a board's average, once the board has answered this many requests.
_AVERAGED = 8
#: One time counts at most as this multiple of the average, so that one slow answer does not turn a
#: stream away from a board.
_LARGEST_STEP = 3.0
#: Times below this are no measure of a board, in milliseconds.
_SHORTEST_MS = 1e-3
#: Delays that differ by less than this fraction are equal: the board without a request for the
#: longest time takes the request.
_EQUAL = 0.01
#: An average may be old. A board without requests gets a request, whatever its average, after this
#: many requests to the deployment, this many seconds, and this multiple of the average. So at most
#: 1 % of the requests, and 5 % of the time, go to a board that is slow in fact.
_OLD_REQUESTS = 100
_OLD_S = 2.0
_OLD_TIMES = 20.0
#: Weight of a new wait for other clients' requests in a board's average, and the part of the
#: average that each request to the stage forgets: a board that was crowded may be free now.
_OTHERS_WEIGHT = 0.25
_OTHERS_FORGOTTEN = 0.06
#: A wait for this many requests means that the agent has all the requests that it takes, so that
#: further ones wait in the broker, where no trace shows them.
_AGENT_FULL = 6.0
#: Time that an agent needs for a request beside the inference, in milliseconds.
_OVERHEAD_MS = 0.2
#: The least time that a route took beside its boards grows by this part with each result, so that
#: it follows a network that becomes slower.
_REST_GROWTH = 1.001
#: Delay that puts a board behind every board with a finite delay, in milliseconds.
_LAST_MS = 1e12


class _Place:
    """One stage on one board, with the number and the time of its requests."""

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
        self.time_ms = max(_SHORTEST_MS, time_ms)
        #: Time that a request takes of the board's link by the plan; traces have no such time.
        self.link_ms = link_ms
        #: Average wait for the requests of other clients, in milliseconds.
        self.others_ms = 0.0
        self.outstanding = 0
        self.answered = 0
        #: Number of the last request, and its time in seconds; at first, of the router's first.
        self.used = 0
        self.used_at = 0.0

    def delay_ms(self, number: int, now: float) -> float:
        """Return the expected delay of one more request, in milliseconds.

        Args:
            number: Number of the request.
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
        """Return the time of this client's requests on the board, in milliseconds."""
        places = self.board.places
        if len(places) == 1:
            return self.outstanding * max(self.time_ms, self.link_ms)
        return sum([place.outstanding * max(place.time_ms, place.link_ms) for place in places])

    def average(self, invoke_ms: float) -> None:
        """Take the time of one more request into the average."""
        self.answered += 1
        weight = 1 / min(self.answered, _AVERAGED)
        invoke_ms = min(max(invoke_ms, _SHORTEST_MS), _LARGEST_STEP * self.time_ms)
        self.time_ms += weight * (invoke_ms - self.time_ms)

    def average_wait(self, queue_ms: float, hidden_ms: float, ahead_ms: float) -> None:
        """Take the wait of one more request into the average for other clients' requests.

        Args:
            queue_ms: Wait at the agent, in milliseconds.
            hidden_ms: Wait that is in no trace, in milliseconds.
            ahead_ms: Time of this client's requests on the board when the request was sent, in
                milliseconds.
        """
        if queue_ms >= _AGENT_FULL * (self.time_ms + _OVERHEAD_MS):
            queue_ms += hidden_ms
        self.others_ms += _OTHERS_WEIGHT * (max(0.0, queue_ms - ahead_ms) - self.others_ms)


class _Board:
    """A board: its stages, and whether requests may go there."""

    __slots__ = ("is_online", "is_proven", "places")

    def __init__(self) -> None:
        self.places: list[_Place] = []
        self.is_online = True
        #: Whether the board has answered since it came back or since its last error. Until then,
        #: each of its stages gets one request at a time if another board can take the rest.
        self.is_proven = True


#: A stage of a route: the board's name, its place, and, where the stage has several boards, the
#: time of this client's earlier requests on the board, in milliseconds.
_Stop: TypeAlias = "tuple[str, _Place, float | None]"


class Router:
    """Chooses routes for the requests of one client to one generation of a deployment."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        """Start with all boards online and without requests.

        Args:
            stages: The manifest's stages, in order, with the predicted times to start from. Traces
                replace the times of inferences. Traces say nothing of links, so the predicted
                times of links stay.
        """
        self._boards: dict[str, _Board] = {}
        self._stages: list[list[tuple[str, _Place]]] = []
        self._places: dict[tuple[int, str], _Place] = {}
        self._routes: dict[bytes, list[_Stop]] = {}
        self._chosen = 0
        self._least_rest_ms = math.inf
        for stage in stages:
            options = []
            for device, (invoke_ms, link_ms) in stage.board_times_ms().items():
                board = self._boards.setdefault(device, _Board())
                place = _Place(board, invoke_ms, link_ms)
                board.places.append(place)
                self._places[stage.index, device] = place
                options.append((device, place))
            self._stages.append(options)

    def choose(self, request_id: bytes, now: float) -> tuple[str, ...] | None:
        """Return the boards that a request passes, in stage order; count the request there.

        A request that has a route already gets another one, for a repeat.

        Args:
            request_id: Identifier of the request.
            now: Time in seconds, on any one clock.

        Returns:
            The boards' names; None while all boards of a stage are offline.
        """
        self.release(request_id)
        self._chosen += 1
        if self._chosen == 1:
            for place in self._places.values():
                place.used_at = now
        route: list[_Stop] = []
        for options in self._stages:
            option = self._choose_board(options, now)
            if option is None:
                for _, place, _ in route:
                    place.outstanding -= 1
                return None
            device, place = option
            route.append((device, place, place.ahead_ms() if len(options) > 1 else None))
            # Counted at once: a board may run a later stage of the same request.
            place.outstanding += 1
        for _, place, _ in route:
            place.used = self._chosen
            place.used_at = now
        self._routes[request_id] = route
        return tuple([device for device, _, _ in route])

    def _choose_board(
        self, options: list[tuple[str, _Place]], now: float
    ) -> tuple[str, _Place] | None:
        best: tuple[str, _Place] | None = None
        best_ms = 0.0
        for option in options:
            place = option[1]
            if not place.board.is_online:
                continue
            if len(options) == 1:
                return option
            place.others_ms *= 1 - _OTHERS_FORGOTTEN
            delay_ms = place.delay_ms(self._chosen, now)
            if best is not None:
                margin_ms = _EQUAL * best_ms
                if delay_ms > best_ms + margin_ms:
                    continue
                if delay_ms >= best_ms - margin_ms and place.used >= best[1].used:
                    continue
            best, best_ms = option, delay_ms
        return best

    def route_of(self, request_id: bytes) -> tuple[str, ...] | None:
        """Return the route of an unanswered request; None: the request has none."""
        route = self._routes.get(request_id)
        return None if route is None else tuple([device for device, _, _ in route])

    def take_result(
        self, request_id: bytes, trace: Sequence[StageTrace], latency_ms: float | None
    ) -> None:
        """End a request that got its result; learn the boards' times and waits from its trace.

        If the request had no route, its trace updates the times only, not the waits.

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
            place = self._places.get((entry.stage, entry.device))
            if place is None:
                continue
            place.average(entry.invoke_ms)
            place.board.is_proven = True
            # The result may have passed other boards, if the request was sent again.
            if entry.stage < len(route) and route[entry.stage][1] is place:
                ahead_ms = route[entry.stage][2]
                if ahead_ms is not None:
                    place.average_wait(entry.queue_ms, hidden_ms, ahead_ms)

    def _hidden_ms(self, trace: Sequence[StageTrace], latency_ms: float) -> float:
        """Return the time that a request spent beside boards and beyond the least such time."""
        rest_ms = latency_ms
        for entry in trace:
            rest_ms -= entry.queue_ms + entry.invoke_ms
        rest_ms = max(0.0, rest_ms)
        self._least_rest_ms = min(rest_ms, self._least_rest_ms * _REST_GROWTH)
        return rest_ms - self._least_rest_ms

    def take_error(self, request_id: bytes, trace: Sequence[StageTrace]) -> None:
        """End a request that got an error; be careful with the board that sent the error.

        A board that refuses at once has few outstanding requests, and would get the most.

        Args:
            request_id: Identifier of the request.
            trace: The stages that the request passed. The board of the next stage sent the error.
        """
        route = self._routes.get(request_id)
        if route is not None and len(trace) < len(route):
            route[len(trace)][1].board.is_proven = False
        self.release(request_id)

    def release(self, request_id: bytes) -> None:
        """End a request without an answer; no route, no effect."""
        for _, place, _ in self._routes.pop(request_id, ()):
            place.outstanding -= 1

    def set_online(self, device: str, *, is_online: bool) -> None:
        """Record whether a board is online; a board of another deployment has no effect.

        An offline board gets no request. A board that comes back starts carefully: one request at a
        time for each of its stages until its first result, and its average follows its next times
        quickly.
        """
        board = self._boards.get(device)
        if board is None or board.is_online == is_online:
            return
        board.is_online = is_online
        board.is_proven = False
        for place in board.places:
            place.answered = 0

    def routes_through(self, device: str) -> list[bytes]:
        """Return the unanswered requests whose routes pass a board, oldest first.

        When the board goes offline, these are the requests to send again.
        """
        return [
            request_id
            for request_id, route in self._routes.items()
            if any(name == device for name, _, _ in route)
        ]

    @property
    def offline(self) -> frozenset[str]:
        """The boards that are offline."""
        return frozenset(name for name, board in self._boards.items() if not board.is_online)

    def outstanding(self, device: str) -> int:
        """Return the number of unanswered requests on a board, once for each of its stages."""
        board = self._boards.get(device)
        return sum(place.outstanding for place in board.places) if board else 0

    def time_ms(self, stage: int, device: str) -> float:
        """Return the time that counts for a stage on a board, in milliseconds.

        Raises:
            KeyError: The board does not run the stage.
        """
        return self._places[stage, device].time_ms
