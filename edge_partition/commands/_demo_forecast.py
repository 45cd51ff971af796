"""The plan's prediction for the demo's stream, and why the measurement differs. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_partition.pictures.svg import milliseconds

if TYPE_CHECKING:
    from edge_partition.client.stream_report import StreamReport
    from edge_partition.planning.cost_model import StageCost
    from edge_partition.planning.fleet import Device
    from edge_partition.planning.plan import Plan

#: A larger relative difference between measured and predicted throughput needs a reason.
_NEEDS_REASON = 0.15
#: A larger relative difference between measured and planned inference time is a reason.
_IS_REASON = 0.1


def planned_s(plan: Plan, requests: int) -> float:
    """Return the predicted time of a stream in seconds.

    The first result takes the plan's latency. Each further result takes one period more.
    """
    return (plan.latency_ms + (requests - 1) * plan.bottleneck_ms) / 1000


def explain_difference(plan: Plan, report: StreamReport, *, processors: int) -> str | None:
    """Return why a stream was faster or slower than its plan; None: the difference is small.

    If the inference time on the plan's slowest board differs in the same direction, that time is
    the reason. Otherwise the reason is this machine, which runs all boards, the broker and the
    client.

    Args:
        plan: The plan.
        report: The measured times of the stream.
        processors: Processors of this machine.
    """
    predicted_per_s = report.requests / planned_s(plan, report.requests)
    if abs(report.throughput_per_s / predicted_per_s - 1) <= _NEEDS_REASON:
        return None
    is_faster = report.throughput_per_s > predicted_per_s
    device, cost = _slowest_board(plan)
    measured_ms = next(
        (
            stage.invoke_ms
            for stage in report.stages
            if (stage.stage, stage.device) == (plan.slowest_stage, device.name)
        ),
        cost.invoke_ms,
    )
    change = measured_ms / cost.invoke_ms - 1
    if abs(change) > _IS_REASON and (change < 0) == is_faster:
        return (
            f"Reason: {device.name}'s part takes {milliseconds(measured_ms)} on this machine; the "
            f"plan expected {milliseconds(cost.invoke_ms)}."
        )
    if is_faster:
        return "Reason: messages within one machine are faster than messages between boards."
    plural = "s" * (processors != 1)
    return (
        "Reason: the boards, the broker and the client share this machine's "
        f"{processors} processor{plural}."
    )


def _slowest_board(plan: Plan) -> tuple[Device, StageCost]:
    stage = plan.stages[plan.slowest_stage]
    return max(
        zip(stage.devices, stage.costs, strict=True), key=lambda board: board[1].bottleneck_ms
    )
