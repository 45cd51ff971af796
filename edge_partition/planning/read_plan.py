"""A plan as ``edge-partition plan --json`` writes it -> what each board does for a request."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edge_core.errors import EdgePartitionError

if TYPE_CHECKING:
    from collections.abc import Mapping

_HALF = 0.5
_HINT = "`edge-partition plan MODEL --fleet fleet.toml --json` writes one"


class PlanDocumentError(EdgePartitionError):
    """A document is no plan.

    Attributes:
        where: The field at fault, such as ``stages[0].replicas[1].invoke_ms``.
    """

    def __init__(self, where: str, problem: str) -> None:
        self.where = where
        super().__init__(f"The plan's {where} {problem}; {_HINT}.")


@dataclass(frozen=True)
class ReplicaTimes:
    """What one request takes of one board, in milliseconds.

    Attributes:
        device: The board.
        receive_ms: Of the board's link, for the inputs.
        receive_handling_ms: Of the board's network thread, for the inputs.
        invoke_ms: Of the board's inference thread.
        send_handling_ms: Of the board's network thread, for the outputs.
        send_ms: Of the board's link, for the outputs.
        link_delay_ms: The part of either in which the link is free for others.
        busy_ms: Of the processors at full load: between the larger of ``invoke_ms`` and
            ``handling_ms`` (they never wait for each other) and their sum (there is one processor
            for both).
        invoke_spread: The standard deviation of an inference's time over its mean; None where the
            plan doesn't say.
    """

    device: str
    receive_ms: float
    receive_handling_ms: float
    invoke_ms: float
    send_handling_ms: float
    send_ms: float
    busy_ms: float
    link_delay_ms: float = 0.0
    invoke_spread: float | None = None

    @property
    def handling_ms(self) -> float:
        """Milliseconds of the board's network thread, in and out."""
        return self.receive_handling_ms + self.send_handling_ms

    @property
    def link_ms(self) -> float:
        """Milliseconds of the board's link, in and out."""
        return self.receive_ms + self.send_ms

    @property
    def transfer_ms(self) -> float:
        """Milliseconds that the messages occupy it."""
        return self.receive_transfer_ms + self.send_transfer_ms

    @property
    def receive_transfer_ms(self) -> float:
        """The inputs' part of that."""
        return self.receive_ms - self.link_delay_ms

    @property
    def send_transfer_ms(self) -> float:
        """The outputs' part of that."""
        return self.send_ms - self.link_delay_ms

    @property
    def latency_ms(self) -> float:
        """Milliseconds of a lone request, from the broker and back to it."""
        return self.link_ms + self.handling_ms + self.invoke_ms


@dataclass(frozen=True)
class PipelineTimes:
    """A plan's times.

    Attributes:
        model: The model's name.
        source: ``measured`` or ``estimated``, as the plan says.
        stages: For each stage the boards that share its requests, in turn.
    """

    model: str
    source: str
    stages: tuple[tuple[ReplicaTimes, ...], ...]

    def slowed(self, factors: Mapping[str, float]) -> PipelineTimes:
        """Return the times with the processor's part of each board multiplied by its factor."""

        def slow(times: ReplicaTimes) -> ReplicaTimes:
            factor = factors.get(times.device, 1.0)
            return replace(
                times,
                receive_handling_ms=times.receive_handling_ms * factor,
                invoke_ms=times.invoke_ms * factor,
                send_handling_ms=times.send_handling_ms * factor,
                busy_ms=times.busy_ms * factor,
            )

        return replace(self, stages=tuple(tuple(map(slow, stage)) for stage in self.stages))

    @property
    def devices(self) -> frozenset[str]:
        """The boards' names."""
        return frozenset(times.device for stage in self.stages for times in stage)


def read_plan(document: Any) -> PipelineTimes:
    """Return the times that a plan's document holds.

    Raises:
        PlanDocumentError: A field is missing or not what it should be.
    """
    if not isinstance(document, dict) or "stages" not in document:
        raise PlanDocumentError("stages", "are missing")
    stages = document["stages"]
    if not isinstance(stages, list) or not stages:
        raise PlanDocumentError("stages", "should be a list of one or more")
    return PipelineTimes(
        model=str(document.get("model", "the model")),
        source=str(document.get("source", "estimated")),
        stages=tuple(_read_stage(stage, f"stages[{index}]") for index, stage in enumerate(stages)),
    )


def _read_stage(stage: Any, where: str) -> tuple[ReplicaTimes, ...]:
    where = f"{where}.replicas"
    replicas = stage.get("replicas") if isinstance(stage, dict) else None
    if not isinstance(replicas, list) or not replicas:
        raise PlanDocumentError(where, "should be a list of one or more boards")
    return tuple(_read_replica(item, f"{where}[{number}]") for number, item in enumerate(replicas))


def _read_replica(replica: Any, where: str) -> ReplicaTimes:
    if not isinstance(replica, dict) or not isinstance(replica.get("device"), str):
        raise PlanDocumentError(f"{where}.device", "should be a board's name")

    def number(field: str) -> float:
        value = replica.get(field)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise PlanDocumentError(f"{where}.{field}", f"should be a number, not {value!r}")
        if not 0 <= value < math.inf:
            raise PlanDocumentError(f"{where}.{field}", f"should be 0 or more, not {value!r}")
        return float(value)

    invoke_ms, handling_ms = number("invoke_ms"), number("handling_ms")
    receive_ms, send_ms = number("receive_ms"), number("send_ms")
    # Messages cost the network thread as their sizes do the link.
    received = receive_ms / (receive_ms + send_ms) if receive_ms + send_ms else _HALF
    link_delay_ms = number("link_delay_ms") if "link_delay_ms" in replica else 0.0
    busy_ms = number("busy_ms") if "busy_ms" in replica else invoke_ms + handling_ms
    return ReplicaTimes(
        device=replica["device"],
        receive_ms=receive_ms,
        receive_handling_ms=handling_ms * received,
        invoke_ms=invoke_ms,
        send_handling_ms=handling_ms * (1 - received),
        send_ms=send_ms,
        link_delay_ms=min(link_delay_ms, receive_ms, send_ms),
        busy_ms=min(max(busy_ms, invoke_ms, handling_ms), invoke_ms + handling_ms),
        invoke_spread=number("invoke_spread") if "invoke_spread" in replica else None,
    )
