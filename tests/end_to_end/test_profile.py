"""``profile``: boards are asked once, and plans say what rests on measurements."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from test_cli import failed, run

from edge_partition.deployment import Deployer
from edge_partition.slice_model import slice_model

if TYPE_CHECKING:
    from pathlib import Path

    from desk import Desk

    from edge_partition.bundle import Bundle
    from edge_partition.load_model import LoadedTflite


@pytest.fixture
def model(digits_model: LoadedTflite, tmp_path: Path) -> Path:
    """The digits model's first operators: few slices, so that the test is quick."""
    graph = digits_model.tflite.graph
    path = tmp_path / "first.tflite"
    path.write_bytes(slice_model(digits_model.tflite, 0, graph.cuts[11]))
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def document(*words: object) -> Any:
    result = run("edge-partition", *words, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def on_fleet(model: Path, boards: int) -> list[object]:
    """Return the words that plan ``model`` for board-0, board-1, ..."""
    fleet = model.with_name(f"{boards}-boards.toml")
    fleet.write_text(
        "".join(
            f'[[device]]\nname = "board-{index}"\nlink_mbit_s = 1e4\n' for index in range(boards)
        )
    )
    return ["plan", model, "--fleet", fleet, "--stages", boards]


def sources(model: Path, boards: int) -> list[tuple[str, str, str]]:
    plan = document(*on_fleet(model, boards))
    return [(stage["device"], stage["source"], stage["link_source"]) for stage in plan["stages"]]


def test_boards_are_asked_once_and_plans_say_what_was_measured(
    desk: Desk, model: Path, cache: Path
) -> None:
    desk.start_agent("board-0")
    desk.start_agent("board-9")
    assert document(*on_fleet(model, 1))["source"] == "estimated"
    words = ["profile", model, "--broker", desk.url]
    first = document(*words)["boards"]
    assert [(board["board"], board["measured_now"]) for board in first] == [
        ("board-0", True),
        ("board-9", True),
    ]
    for board in first:
        assert board["whole_ms"] > 0
        assert board["link_mbit_s"] > 0
        assert board["runtime"].startswith("ai-edge-litert ")
        assert len(board["slices"]) > 3
        timed = [
            line for line in desk.log(board["board"]).read_text().splitlines() if "took" in line
        ]
        assert len(timed) == len(board["slices"])
        assert not list((desk.folder / board["board"] / "artifacts").iterdir())

    logs = [desk.log(name).read_text() for name in ("board-0", "board-9")]
    table = run("edge-partition", *words)
    assert "Not asked again: board-0, board-9" in table.stdout, table.stderr
    again = document(*words)["boards"]
    assert [board["measured_now"] for board in again] == [False, False]
    assert [board["slices"] for board in again] == [board["slices"] for board in first]
    assert [desk.log(name).read_text() for name in ("board-0", "board-9")] == logs

    plan = document(*on_fleet(model, 1))
    assert plan["source"] == "measured"
    assert sorted(sources(model, 2)) == [
        ("board-0", "measured", "measured"),
        ("board-1", "estimated", "estimated"),
    ]
    # Boards that are made up share nothing with real ones but a name.
    assert document("plan", model, "--stages", 1)["source"] == "estimated"
    shown = run("edge-partition", *on_fleet(model, 1))
    assert "measured" in shown.stdout
    assert "from measured times and links; memory is estimated" in shown.stdout

    # A damaged profile is named, estimates take its place, and it is measured anew.
    (path,) = cache.glob("**/board-0/*.json")
    path.write_text("{")
    damaged = run("edge-partition", *on_fleet(model, 1), "--json")
    assert damaged.returncode == 0
    assert json.loads(damaged.stdout)["source"] == "estimated"
    assert str(path) in damaged.stderr
    assert damaged.stderr.count("\n") == 1
    renewed = document(*words, "--device", "board-0")["boards"]
    assert [board["measured_now"] for board in renewed] == [True]
    assert sources(model, 1) == [("board-0", "measured", "measured")]


def test_a_board_that_serves_is_left_alone_unless_forced(
    three_boards: Desk, digits_bundle: Bundle, model: Path, cache: Path
) -> None:
    words = ["profile", model, "--broker", three_boards.url, "--device", "board-1"]
    with Deployer(three_boards.url) as deployer:
        deployer.deploy(digits_bundle)
    refused = failed(*words)
    assert "board-1 was not measured: Board board-1 serves digits" in refused
    assert "--force" in refused
    assert not list(cache.glob("**/*.json"))
    assert document(*words, "--force")["boards"][0]["measured_now"]
    with Deployer(three_boards.url) as deployer:
        assert [m.deployment for m in deployer.status().manifests] == ["digits"]


def test_boards_that_are_not_there_are_named(desk: Desk, model: Path, cache: Path) -> None:
    assert "No board is online" in failed("profile", model, "--broker", desk.url)
    desk.start_agent("board-0")
    line = failed("profile", model, "--broker", desk.url, "--device", "pi-9")
    assert "Not online: pi-9; online are: board-0" in line


def test_a_board_too_small_for_the_whole_times_its_parts(
    desk: Desk, model: Path, digits_bundle: Bundle, cache: Path, digits_model: LoadedTflite
) -> None:
    desk.start_agent("board-0")
    words = ["profile", model, "--broker", desk.url]
    document(*words)
    agent_mib = psutil.Process(desk.agents["board-0"].pid).memory_info().rss >> 20
    desk.stop_agent("board-0")
    # The whole model takes twice its 16 MiB beside the agent.
    desk.start_agent("board-0", "--ram-mib", str(agent_mib + 30))
    words = ["profile", digits_bundle.whole_file, "--broker", desk.url]
    (board,) = document(*words)["boards"]
    operators = len(digits_model.tflite.graph.operators)
    assert board["whole_ms"] is None
    assert (0, operators) not in {(item["start"], item["stop"]) for item in board["slices"]}
    assert board["operators_ms"] > 0
