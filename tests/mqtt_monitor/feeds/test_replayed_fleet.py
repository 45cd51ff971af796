"""The monitor's values for a recorded fleet.

Three boards on one machine: the digits model over all three, 22 s of requests, rest, requests again
during which board-1 is killed and started anew, rest, the model over two boards, requests, rest.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from checkout import CHECKOUT

from mqtt_monitor.feeds.recording import ReplayFeed
from mqtt_monitor.fleet.alerts import find_alerts

if TYPE_CHECKING:
    from pathlib import Path

RECORDING = CHECKOUT / "tests" / "mqtt_monitor" / "recordings" / "digits.jsonl"


@pytest.fixture(scope="module")
def until_redeployed(tmp_path_factory: pytest.TempPathFactory) -> ReplayFeed:
    """Return the recording up to the second deployment."""
    lines = RECORDING.read_text().splitlines()
    manifests = [number for number, line in enumerate(lines) if "/manifest" in line]
    assert len(manifests) == 2
    file = tmp_path_factory.mktemp("replay") / "first.jsonl"
    file.write_text("\n".join(lines[: manifests[1]]))
    feed = ReplayFeed(file)
    feed.play()
    return feed


@pytest.fixture(scope="module")
def whole() -> ReplayFeed:
    feed = ReplayFeed(RECORDING)
    feed.play()
    return feed


def test_events_are_the_recorded_actions(whole: ReplayFeed) -> None:
    fleet = whole.snapshot()
    assert [(str(event.kind), event.device) for event in fleet.events] == [
        ("deployed", None),
        ("offline", "board-1"),
        ("online", "board-1"),
        ("restarted", "board-1"),
        ("redeployed", None),
    ]
    assert {name: device.restarts for name, device in fleet.devices.items()} == {
        "board-0": 0,
        "board-1": 1,
        "board-2": 0,
    }
    assert all(device.missed_stats == 0 for device in fleet.devices.values())
    assert fleet.messages.unreadable == 0


def test_the_replay_has_all_boards_and_stages(whole: ReplayFeed) -> None:
    fleet = whole.snapshot()
    for device in fleet.devices.values():
        assert device.state == "online"
        assert device.fresh
        assert device.profile is not None
        assert device.profile.agent == "0.1.0"
        assert device.ram_limit_bytes == 512 * 1024 * 1024
        assert device.load is not None
        assert device.load.rss_bytes is not None
        assert device.clock_offset_s == pytest.approx(0, abs=0.5)
    (deployment,) = fleet.deployments.values()
    assert deployment.state == "live"
    assert [stage.devices for stage in deployment.stages] == [("board-0",), ("board-1",)]
    assert fleet.devices["board-2"].serves == ()


def test_every_request_is_counted_in_every_stage(until_redeployed: ReplayFeed) -> None:
    stages = until_redeployed.snapshot().deployments["digits"].stages
    counts = [stage.boards[0].requests_total for stage in stages]
    # 816 and 543 requests, and three that the client sent again when board-1 returned. The counts
    # of board-1's last seconds are lost.
    assert counts[0] == counts[2] == 816 + 543 + 3
    assert 816 < counts[1] < counts[0]
    assert [(stage.input.lost, stage.input.repeated) for stage in stages[1:]] == [(0, 0)] * 2


def test_the_last_hour_shows_both_streams_and_the_pause(
    until_redeployed: ReplayFeed,
) -> None:
    rates = [
        value
        for _, value in until_redeployed.stage_history("digits", 0, "requests_per_s")
        if value is not None
    ]
    busy = "".join("#" if rate > 5 else "." for rate in rates)
    assert busy.strip(".").count("#") >= 7
    assert "...." in busy.strip(".")


def test_the_parts_of_a_request_fit_into_its_latency(
    whole: ReplayFeed,
) -> None:
    told = [request for request in whole.snapshot().requests if request.latency_ms is not None]
    assert len(told) > 20
    for request in told:
        assert request.deployment is not None or request.generation is not None
        assert [stage.stage for stage in request.stages] == list(range(len(request.stages)))
        assert 0 < request.stages_ms < (request.latency_ms or 0)
    # Many of these requests were sampled as results too; each is kept once.
    assert len({(item.client, item.request) for item in whole.snapshot().requests}) == len(
        whole.snapshot().requests
    )


def test_a_recorded_offline_board_is_an_alert(tmp_path: Path) -> None:
    lines = RECORDING.read_text().splitlines()
    gone = next(
        number for number, line in enumerate(lines) if json.loads(line).get("text") == "offline"
    )
    file = tmp_path / "gone.jsonl"
    file.write_text("\n".join(lines[: gone + 1]))
    feed = ReplayFeed(file)
    feed.play()
    fleet = feed.snapshot()
    assert fleet.deployments["digits"].state == "broken"
    assert (
        find_alerts(fleet)[0].text
        == "Board board-1 is offline; deployment digits needs this board."
    )
