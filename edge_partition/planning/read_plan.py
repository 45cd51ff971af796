"""Read a plan's JSON document: the times of one request on each board."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edge_core.contract.json_fields import Field, FieldError
from edge_core.errors import EdgePartitionError

if TYPE_CHECKING:
    from collections.abc import Mapping

_HALF = 0.5
_HINT = "`edge-partition plan MODEL --fleet fleet.toml --json` writes a plan"


class PlanDocumentError(EdgePartitionError):
    """A document is not a valid plan.

    Attributes:
        where: Path of the invalid field, such as ``stages[0].replicas[1].invoke_ms``.
    """

    def __init__(self, where: str, problem: str) -> None:
        self.where = where
        super().__init__(f"The plan's {where} {problem} {_HINT}.")


@dataclass(frozen=True)
class ReplicaTimes:
    """Times of one request on one board, in milliseconds.

    Attributes:
        device: Name of the board.
        receive_ms: Time that the inputs take on the board's link.
        receive_handling_ms: Processor time to receive the message with the inputs.
        invoke_ms: Time of one inference.
        send_handling_ms: Processor time to send the message with the outputs.
        send_ms: Time that the outputs take on the board's link.
        link_delay_ms: Fixed delay of a message on the link. Both ``receive_ms`` and ``send_ms``
            include the delay. During the delay, the link can carry other messages.
        busy_ms: Time for which the request occupies the board's processors, while requests wait on
            the board: the inference, and reading and writing the messages.
        invoke_spread: Standard deviation of the inference time divided by the inference time.
            ``None`` if the plan does not give it.
        energy_j: Energy during ``busy_ms`` without the board's idle power, in joules. ``None`` if
            the plan does not give it.
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
    energy_j: float | None = None

    @property
    def watts_above_idle(self) -> float | None:
        """Power of a busy board above its idle power, in watts; ``None`` if not known."""
        if self.energy_j is None:
            return None
        return self.energy_j / self.busy_ms * 1000 if self.busy_ms else 0.0

    @property
    def handling_ms(self) -> float:
        """Processor time to receive the inputs and send the outputs, in milliseconds."""
        return self.receive_handling_ms + self.send_handling_ms

    @property
    def link_ms(self) -> float:
        """Time that the inputs and the outputs take on the board's link, in milliseconds."""
        return self.receive_ms + self.send_ms

    @property
    def transfer_ms(self) -> float:
        """Time for which the request occupies the board's link, in milliseconds."""
        return self.receive_transfer_ms + self.send_transfer_ms

    @property
    def full_load_ms(self) -> float:
        """Time between two results at full load if only this board serves the stage, in ms."""
        return max(self.busy_ms, self.transfer_ms)

    @property
    def receive_transfer_ms(self) -> float:
        """Time for which the inputs occupy the board's link, in milliseconds."""
        return self.receive_ms - self.link_delay_ms

    @property
    def send_transfer_ms(self) -> float:
        """Time for which the outputs occupy the board's link, in milliseconds."""
        return self.send_ms - self.link_delay_ms

    @property
    def latency_ms(self) -> float:
        """Time of one request from the broker to the board and back in an idle system, in ms."""
        return self.link_ms + self.handling_ms + self.invoke_ms


@dataclass(frozen=True)
class PipelineTimes:
    """Times of all boards of a plan.

    Attributes:
        model: Name of the model.
        source: ``measured`` if all times of the plan were measured, else ``estimated``.
        stages: For each stage, the times of each of its boards.
    """

    model: str
    source: str
    stages: tuple[tuple[ReplicaTimes, ...], ...]

    def slowed(self, factors: Mapping[str, float]) -> PipelineTimes:
        """Return the plan's times for boards with slower or faster processors.

        Args:
            factors: For each board name, the factor by which all processor times of the board are
                multiplied. Boards that are not in ``factors`` keep their times.
        """

        def slow(times: ReplicaTimes) -> ReplicaTimes:
            factor = factors.get(times.device, 1.0)
            return replace(
                times,
                receive_handling_ms=times.receive_handling_ms * factor,
                invoke_ms=times.invoke_ms * factor,
                send_handling_ms=times.send_handling_ms * factor,
                busy_ms=times.busy_ms * factor,
                energy_j=None if times.energy_j is None else times.energy_j * factor,
            )

        return replace(self, stages=tuple(tuple(map(slow, stage)) for stage in self.stages))

    @property
    def devices(self) -> frozenset[str]:
        """Names of the boards."""
        return frozenset(times.device for stage in self.stages for times in stage)


def read_plan(document: Any) -> PipelineTimes:
    """Return the times in a plan's JSON document.

    Args:
        document: The parsed JSON.

    Raises:
        PlanDocumentError: A field is missing or invalid.
    """
    try:
        return _read_plan(Field(document, root="document"))
    except FieldError as error:
        raise PlanDocumentError(error.where, error.problem) from None


def _read_plan(fields: Field) -> PipelineTimes:
    stages = tuple(_read_stage(stage) for stage in fields["stages"].items())
    if not stages:
        raise fields["stages"].error("is empty; expected at least one stage")
    return PipelineTimes(
        model=str(fields.get("model", "the model").value),
        source=str(fields.get("source", "estimated").value),
        stages=stages,
    )


def _read_stage(stage: Field) -> tuple[ReplicaTimes, ...]:
    replicas = tuple(_read_replica(replica) for replica in stage["replicas"].items())
    if not replicas:
        raise stage["replicas"].error("is empty; expected at least one board")
    return replicas


def _read_replica(replica: Field) -> ReplicaTimes:
    def optional(key: str, default: float) -> float:
        return replica.get(key, default).number()

    invoke_ms, handling_ms = replica["invoke_ms"].number(), replica["handling_ms"].number()
    receive_ms, send_ms = replica["receive_ms"].number(), replica["send_ms"].number()
    # The plan gives one handling time for both messages. It is divided between the messages in
    # proportion to their times on the link.
    received = receive_ms / (receive_ms + send_ms) if receive_ms + send_ms else _HALF
    busy_ms = optional("busy_ms", invoke_ms + handling_ms)
    energy = replica.optional("energy_j")
    return ReplicaTimes(
        device=replica["device"].text(),
        receive_ms=receive_ms,
        receive_handling_ms=handling_ms * received,
        invoke_ms=invoke_ms,
        send_handling_ms=handling_ms * (1 - received),
        send_ms=send_ms,
        link_delay_ms=min(optional("link_delay_ms", 0.0), receive_ms, send_ms),
        busy_ms=min(max(busy_ms, invoke_ms, handling_ms), invoke_ms + handling_ms),
        invoke_spread=replica["invoke_spread"].number() if "invoke_spread" in replica else None,
        energy_j=None if energy is None else energy.number(),
    )
