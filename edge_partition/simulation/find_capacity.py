"""Find the largest throughput of a plan, and the boards that limit the throughput."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_core.contract.messages import RECEIVE_MAXIMUM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_partition.planning.read_plan import PipelineTimes, ReplicaTimes

#: Name of a third limit of a board, besides its processor and its link: the number of requests that
#: the broker sends the board before the board acknowledges one.
RECEIVE_LIMIT = "receive maximum"
#: Steps of the iteration that shares requests among boards of several stages.
_MOVES = 200
#: A board limits the throughput if its load is at least this share of the largest load.
_SAME_LOAD = 0.99
#: Shorter times count as this time, in milliseconds, to avoid a division by zero.
_SHORTEST_MS = 1e-6


@dataclass(frozen=True)
class Capacity:
    """The largest throughput of a plan, and the boards that limit the throughput.

    Attributes:
        rate_per_s: Requests per second.
        devices: Names of the limiting boards: one board, or the replicas of a stage.
        part: What limits the board with the largest load: ``processor``, ``link``, or ``receive
            maximum``, the number of requests that the broker sends a board before the board
            acknowledges one.
    """

    rate_per_s: float
    devices: tuple[str, ...]
    part: str

    def __str__(self) -> str:
        if len(self.devices) == 1:
            return f"{self.devices[0]}'s {self.part}"
        return f"{', '.join(self.devices[:-1])} and {self.devices[-1]} together"


def find_capacity(plan: PipelineTimes, receive_maximum: int = RECEIVE_MAXIMUM) -> Capacity:
    """Return the largest throughput of a plan, and the boards that limit the throughput.

    The replicas of a stage share the stage's requests so that the throughput is as large as
    possible. If each board serves one stage, each replica gets a share in proportion to its speed.
    All replicas of a stage then have equal loads, and their rates add up. If a board serves several
    stages, and one of these stages has other boards too, an iteration finds the shares: each of its
    steps moves requests from boards with a high load to other boards. The result is then
    approximate.

    Args:
        plan: The times of one request on each board.
        receive_maximum: Largest number of unacknowledged requests that the broker sends a board. On
            a link with a delay, this number can limit the throughput.
    """
    needs = _Needs(plan, receive_maximum)
    loads, least = needs.loads_ms(needs.shares), needs.shares
    best_ms = max(loads.values())
    if needs.have_choices:
        shares = needs.shares
        for _ in range(_MOVES):
            shares = needs.move(shares, loads)
            loads = needs.loads_ms(shares)
            if max(loads.values()) < best_ms:
                best_ms, least = max(loads.values()), shares
        loads = needs.loads_ms(least)
    device, part = max(loads, key=lambda key: loads[key])
    limiting = tuple(
        times.device
        for times in next(
            replicas for replicas in plan.stages if device in {times.device for times in replicas}
        )
        if needs.load_ms(loads, times.device) >= _SAME_LOAD * best_ms
    )
    return Capacity(1000 / best_ms if best_ms else math.inf, limiting, part)


class _Needs:
    """How long a request occupies each board, and how boards share the requests of each stage.

    Attributes:
        shares: For each stage, the share of the stage's requests that each of its boards serves, in
            proportion to the board's speed.
        have_choices: Whether a board serves several stages, and a stage has several boards. Other
            shares than ``shares`` may then give a larger throughput.
    """

    def __init__(self, plan: PipelineTimes, receive_maximum: int) -> None:
        self._plan = plan
        self._needs_ms = [
            [_needs_ms(times, receive_maximum) for times in replicas] for replicas in plan.stages
        ]
        self.shares = [
            _normalized([1 / max(_SHORTEST_MS, *needs.values()) for needs in stage])
            for stage in self._needs_ms
        ]
        sizes = [len(replicas) for replicas in plan.stages]
        self.have_choices = max(sizes) > 1 and len(plan.devices) < sum(sizes)

    def loads_ms(self, shares: Sequence[Sequence[float]]) -> dict[tuple[str, str], float]:
        """Return how long one request occupies each part of each board on average, in milliseconds.

        The keys are (name of the board, part). The parts are those of :attr:`Capacity.part`. A
        board that serves a share of the requests has this share of a request's time.
        """
        loads: dict[tuple[str, str], float] = {}
        for replicas, stage, needs in zip(self._plan.stages, shares, self._needs_ms, strict=True):
            for times, share, parts in zip(replicas, stage, needs, strict=True):
                for part, need_ms in parts.items():
                    key = (times.device, part)
                    loads[key] = loads.get(key, 0.0) + share * need_ms
        return loads

    def load_ms(self, loads: dict[tuple[str, str], float], device: str) -> float:
        """Return the largest value in ``loads`` of a part of the board, in milliseconds."""
        return max(load_ms for (name, _), load_ms in loads.items() if name == device)

    def move(
        self, shares: Sequence[Sequence[float]], loads: dict[tuple[str, str], float]
    ) -> list[list[float]]:
        """Return new shares, which move requests from boards with a high load to other boards."""
        weights = {
            device: 1 / math.sqrt(max(_SHORTEST_MS, self.load_ms(loads, device)))
            for device in self._plan.devices
        }
        return [
            _normalized(
                [
                    share * weights[times.device]
                    for share, times in zip(stage, replicas, strict=True)
                ]
            )
            for stage, replicas in zip(shares, self._plan.stages, strict=True)
        ]


def _needs_ms(times: ReplicaTimes, receive_maximum: int) -> dict[str, float]:
    """Return how long one request occupies each part of a board, in milliseconds."""
    unacknowledged_ms = times.latency_ms + 2 * times.link_delay_ms
    return {
        "processor": times.busy_ms,
        "link": times.transfer_ms,
        RECEIVE_LIMIT: unacknowledged_ms / receive_maximum,
    }


def _normalized(values: list[float]) -> list[float]:
    total = sum(values)
    return [value / total for value in values]
