"""The thresholds and the decisions that all front ends share."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from checkout import CHECKOUT
from fleet_messages import Watched, manifest, profile, stage, stats

from mqtt_monitor.fleet import thresholds
from mqtt_monitor.fleet.describe_fleet import describe_fleet
from mqtt_monitor.fleet.levels import (
    Comparison,
    compare_memory,
    compare_time,
    is_near_limit,
    limit_share,
    tensor_rates,
)

if TYPE_CHECKING:
    from mqtt_monitor.fleet.snapshot import Stage

MIB = 1024 * 1024


def measured(invoke_ms: float, rss_bytes: int = 50_000_000, stages: int = 1) -> Watched:
    """One board of one stage, planned with 10 ms and 50 MB; the board serves ``stages`` stages."""
    watched = Watched().tell(manifest(0, ["pi-1"]), profile(0, "pi-1", ram_mib=100))
    for sequence in (1, 2):
        served = [stage(n, 50 * sequence, mean_ms=invoke_ms) for n in range(stages)]
        watched.tell(stats(5.0 * sequence, "pi-1", sequence, *served, rss_bytes=rss_bytes))
    return watched


def stage_of(watched: Watched, at_s: float = 11) -> Stage:
    return watched.at(at_s).deployments["net"].stages[0]


@pytest.mark.parametrize(
    ("invoke_ms", "difference", "level"),
    [(10.0, 0.0, "within"), (11.4, 0.14, "within"), (11.6, 0.16, "above"), (8.4, -0.16, "below")],
)
def test_a_time_is_compared_with_the_plan(invoke_ms: float, difference: float, level: str) -> None:
    found = compare_time(stage_of(measured(invoke_ms)))
    assert found.measured == pytest.approx(invoke_ms)
    assert found.difference == pytest.approx(difference)
    assert found.level == level


def test_without_a_measurement_or_a_plan_nothing_is_compared() -> None:
    assert compare_time(stage_of(Watched().tell(manifest(0, ["pi-1"])))) == Comparison(
        None, None, None
    )
    unplanned = measured(5.0).tell(manifest(10, ["pi-1"], predicted_ms=0.0))
    assert compare_time(stage_of(unplanned)) == Comparison(pytest.approx(5.0), None, None)


def test_the_memory_of_an_agent_with_several_stages_is_not_compared() -> None:
    assert compare_memory(stage_of(measured(10.0, 60_000_000))).level == "above"
    shared = stage_of(measured(10.0, 60_000_000, stages=2))
    assert (shared.rss_bytes, shared.shares_memory) == (60_000_000, True)
    assert compare_memory(shared) == Comparison(60_000_000, None, None)
    # Old statistics are no measurement.
    assert stage_of(measured(10.0), at_s=60).rss_bytes is None


def test_memory_near_its_limit() -> None:
    for mib, near in ((89, False), (91, True)):
        device = measured(10.0, mib * MIB).at(11).devices["pi-1"]
        assert limit_share(device) == pytest.approx(mib / 100)
        assert is_near_limit(device) is near
    old = measured(10.0, 91 * MIB).at(60).devices["pi-1"]
    assert (limit_share(old), is_near_limit(old)) == (None, False)


def test_the_document_has_the_decisions() -> None:
    fleet = measured(12.0, 91 * MIB).at(11)
    document = describe_fleet(fleet, ())
    (device,) = document["devices"]
    assert device["near_limit"] is True
    (deployment,) = document["deployments"]
    (shown,) = deployment["stages"]
    assert shown["time_plan"]["level"] == "above"
    assert shown["can_serve"] is True
    assert shown["is_bottleneck"] is False, "the only stage is no bottleneck"
    # 10 requests a second of 64 floats.
    assert shown["boards"][0]["in_bytes_per_s"] == pytest.approx(2560)
    assert tensor_rates(stage_of(measured(12.0), at_s=60), measured(12.0).board(60, 0)) == (
        None,
        None,
    )


def test_prometheus_has_the_same_thresholds() -> None:
    rules = (CHECKOUT / "docs" / "monitoring" / "alerts.yml").read_text()
    for expression in (
        f"last_stats_timestamp_seconds > {thresholds.SILENT_S:g}",
        f"> {1 - thresholds.MEMORY_MARGIN:g} * edge_partition_device_memory_limit_bytes",
        f"> {1 + thresholds.PLAN_MARGIN:g} * edge_partition_stage_planned_invoke_seconds",
        f"clock_offset_seconds) > {thresholds.CLOCK_OFF_S:g}",
        f"queued_requests >= {thresholds.LONG_QUEUE}",
    ):
        assert re.search(re.escape(expression) + r"\b", rules), expression


def test_the_page_takes_its_numbers_from_python() -> None:
    static = CHECKOUT / "mqtt_monitor" / "web" / "static"
    page = (static / "monitor.html").read_text() + (static / "monitor.js").read_text()
    for number in ("0.15", "15 %", "0.1,", " 200", " 500"):
        assert number not in page, number
