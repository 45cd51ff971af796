"""Predict the time of the demo's stream, and explain why the measured time differs.

The functions are pure.
"""

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
    """Return the predicted time of a stream of requests, in seconds.

    The first result arrives after the plan's latency. Each further result arrives one period later.
    The period is the plan's time between two results.
    """
    return (plan.latency_ms + (requests - 1) * plan.bottleneck_ms) / 1000


def explain_difference(plan: Plan, report: StreamReport, *, processors: int) -> str | None:
    """Return a sentence on why a stream was faster or slower than its plan.

    If the plan's slowest board also computed faster or slower than planned, this is the reason. If
    not, the reason is that all boards, the broker and the client run on this machine.

    Args:
        plan: The plan.
        report: The measured times of the stream.
        processors: Number of processors of this machine.

    Returns:
        The sentence; None if the difference is small.
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
