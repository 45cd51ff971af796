"""The monitor with real boards that work, are killed and return."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

from desk import BOARDS, wait_until
from monitors import MONITOR, monitor, shown, stream

from edge_partition.boards.deploy_bundle import Deployer

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from desk import Desk

    from edge_partition.bundles.bundle import Bundle


def states(document: dict[str, Any]) -> dict[str, str]:
    return {device["name"]: device["state"] for device in document["devices"]}


def test_once_shows_boards_at_work_and_one_that_was_killed(
    three_boards: Desk, digits_bundle: Bundle, images: list[dict[str, np.ndarray]]
) -> None:
    desk = three_boards
    empty = shown(desk.url, "--once", "--json", "--wait", "0")
    assert states(empty) == dict.fromkeys(BOARDS, "online")
    assert empty["deployments"] == []
    with Deployer(desk.url) as deployer:
        deployer.deploy(digits_bundle)
    with stream(desk, images):
        busy = shown(desk.url, "--once", "--json", "--wait", "11")
    (deployment,) = busy["deployments"]
    assert deployment["deployment"] == "digits"
    assert deployment["generation"] == digits_bundle.manifest.generation
    assert deployment["state"] == "live"
    assert [stage["devices"] for stage in deployment["stages"]] == [[name] for name in BOARDS]
    for stage in deployment["stages"]:
        assert stage["requests_per_s"] > 1
        assert stage["invoke_ms"] > 0
        assert stage["boards"][0]["serves"]
    for device in busy["devices"]:
        assert device["load"]["free_memory_bytes"] > 0
        assert abs(device["clock_offset_s"]) < 2
    desk.kill_agent("board-1")
    wait_until(lambda: not desk.is_online("board-1"), "the broker's word for it")
    broken = shown(desk.url, "--once", "--json", "--wait", "0")
    assert states(broken) == {"board-0": "online", "board-1": "offline", "board-2": "online"}
    assert broken["deployments"][0]["state"] == "broken"
    assert (
        broken["alerts"][0]["text"]
        == "Board board-1 is offline; deployment digits needs this board."
    )
    tables = monitor(desk.url, "--once").stdout
    assert "critical: Board board-1 is offline" in tables
    assert "board-2" in tables


def test_a_killed_recorder_leaves_its_lines(
    three_boards: Desk, digits_bundle: Bundle, tmp_path: Path
) -> None:
    desk, file = three_boards, tmp_path / "fleet.jsonl"
    recorder = subprocess.Popen(
        [MONITOR, "record", file, "--broker", desk.url], stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: file.exists() and file.read_bytes().count(b"online") == 3, "boards")
        with Deployer(desk.url) as deployer:
            deployer.deploy(digits_bundle)
        wait_until(lambda: b'\\"stage\\":2' in file.read_bytes(), "statistics of the last stage")
    finally:
        recorder.kill()
        recorder.wait()
    replayed = shown("mqtt://127.0.0.1:1", "replay", file, "--once", "--json")
    assert states(replayed) == dict.fromkeys(BOARDS, "online")
    (deployment,) = replayed["deployments"]
    assert [stage["devices"] for stage in deployment["stages"]] == [[name] for name in BOARDS]
    assert [event["kind"] for event in replayed["events"]] == ["deployed"]
