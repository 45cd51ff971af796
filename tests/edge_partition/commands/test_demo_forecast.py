"""The demo's prediction, and the reason why the measurement differs."""

from __future__ import annotations

import pytest
from random_models import random_graph, seeded

from edge_partition.client.stream_report import StageReport, StreamReport
from edge_partition.commands._demo_forecast import explain_difference, planned_s
from edge_partition.commands._run_output import show_report
from edge_partition.planning.fleet import equal_fleet
from edge_partition.planning.plan_split import plan_split

PLAN = plan_split(random_graph(seeded(9), 40), equal_fleet(3), stages=3)
SLOWEST = PLAN.stages[PLAN.slowest_stage]
REQUESTS = 100


def report(rate: float, computes: float) -> StreamReport:
    """Return a stream ``rate`` times as fast as predicted, on boards that compute so fast."""
    stages = tuple(
        StageReport(index, stage.board_names, REQUESTS, 0.0, stage.cost.invoke_ms / computes)
        for index, stage in enumerate(PLAN.stages)
    )
    return StreamReport(REQUESTS, planned_s(PLAN, REQUESTS) / rate, 1.0, 1.0, stages)


def reason(rate: float, computes: float) -> str:
    return explain_difference(PLAN, report(rate, computes), processors=2) or ""


def test_a_stream_takes_the_latency_of_one_request_and_a_period_for_each_further_one() -> None:
    assert planned_s(PLAN, 1) == pytest.approx(PLAN.latency_ms / 1000)
    assert planned_s(PLAN, 11) - planned_s(PLAN, 1) == pytest.approx(PLAN.bottleneck_ms / 100)


@pytest.mark.parametrize("rate", [0.86, 1.0, 1.14])
def test_a_small_difference_needs_no_reason(rate: float) -> None:
    assert reason(rate, computes=5) == ""


@pytest.mark.parametrize(("rate", "computes"), [(3.5, 21), (0.5, 0.4)])
def test_the_time_of_the_slowest_board_is_the_reason_where_it_differs_alike(
    rate: float, computes: float
) -> None:
    line = reason(rate, computes)
    assert line.startswith(f"Reason: {SLOWEST.board_names}'s part takes ")
    assert "on this machine; the plan expected " in line


def test_boards_that_compute_faster_do_not_explain_a_slower_stream() -> None:
    line = "Reason: the boards, the broker and the client share this machine's 2 processors."
    assert reason(0.5, computes=5) == line
    assert reason(0.5, computes=1) == line


def test_links_and_messages_explain_a_faster_stream_of_boards_as_fast_as_planned() -> None:
    assert "messages within one machine are faster" in reason(2, computes=1)


@pytest.mark.parametrize(("rate", "computes"), [(3.5, 21), (0.5, 1), (2, 1)])
def test_prediction_and_measurement_are_in_one_line_and_no_line_is_wide(
    rate: float, computes: float, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = report(rate, computes)
    predicted_per_s = REQUESTS / planned_s(PLAN, REQUESTS)
    show_report(measured, predicted_per_s=predicted_per_s, reason=reason(rate, computes))
    lines = capsys.readouterr().out.splitlines()
    assert f"{measured.throughput_per_s:.1f} requests/s" in lines[0]
    assert f"(predicted: {predicted_per_s:.1f} requests/s)" in lines[0]
    assert lines[1].startswith("Reason: ")
    assert max(map(len, lines)) <= 80
