"""``profile``: boards are asked once, and plans say what rests on measurements."""

from __future__ import annotations

import hashlib
import json
import statistics
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from commands import failed, run

from edge_core.runtime.stage_interpreter import StageInterpreter
from edge_partition.boards.deploy_bundle import Deployer
from edge_partition.bundles.run_bundle import made_up_payloads, whole_interpreter
from edge_partition.planning.fit_messages import TimedMessage
from edge_partition.planning.stage_times import TimedSlice
from edge_partition.profiling.profile_boards import Profiler
from edge_partition.profiling.profile_store import BoardProfile, ProfileStore

if TYPE_CHECKING:
    from pathlib import Path

    from desk import Desk

    from edge_partition.bundles.bundle import Bundle
    from edge_partition.model.load_model import LoadedTflite

pytestmark = pytest.mark.alone


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
    return [
        (board["device"], board["source"], board["link_source"])
        for stage in plan["stages"]
        for board in stage["replicas"]
    ]


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
    assert "Measured before: board-0, board-9" in table.stdout, table.stderr
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
    assert "All times are measured; memory is estimated" in shown.stdout

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


def test_boards_time_the_very_stages_of_plans(desk: Desk, model: Path, cache: Path) -> None:
    for index in range(2):
        desk.start_agent(f"board-{index}")
    boards = document("profile", model, "--broker", desk.url)["boards"]
    plan = document(*on_fleet(model, 2))
    assert len(plan["stages"]) == 2
    for stage in plan["stages"]:
        (replica,) = stage["replicas"]
        (slices,) = (board["slices"] for board in boards if board["board"] == replica["device"])
        times_ms = [
            item["invoke_ms"]
            for item in slices
            if [item["start"], item["stop"]] == stage["operators"]
        ]
        # Three times, for a plan picks what happened to be quick once.
        assert len(times_ms) >= 3
        assert replica["invoke_ms"] == pytest.approx(statistics.median(times_ms), abs=1e-6)


def test_boards_that_the_fleet_does_not_name_are_left_alone(
    desk: Desk, model: Path, cache: Path
) -> None:
    desk.start_agent("board-9")
    fleet = on_fleet(model, 2)[3]
    words = ["profile", model, "--broker", desk.url, "--fleet", fleet]
    assert f"None of the boards in {fleet} is online at {desk.url}" in failed(*words)
    strange = run("edge-partition", *words, "--device", "board-9")
    assert strange.returncode == 2
    assert f"{fleet} has no board board-9" in strange.stderr
    desk.start_agent("board-0")
    result = run("edge-partition", *words)
    assert result.returncode == 0, result.stderr
    assert "Not measured, because offline: board-1." in result.stderr
    assert list(cache.glob("**/board-0/*.json"))
    assert not list(cache.glob("**/board-9/*.json"))


def test_a_profile_that_does_not_fit_the_model_is_measured_anew(
    desk: Desk, model: Path, cache: Path
) -> None:
    desk.start_agent("board-0")
    with Profiler(desk.url) as profiler:
        (board,) = profiler.boards()
    unfit = BoardProfile(
        model_sha256=hashlib.sha256(model.read_bytes()).hexdigest(),
        model_name="first",
        board=board.name,
        runtime=board.runtime,
        threads=board.threads,
        measured_at="2026-01-01T00:00:00+00:00",
        slices=(TimedSlice(0, 999, 1.0),),
        messages=(TimedMessage(1000, 1.0, 1.0, 0.5, 0.5),),
        cores=1.0,
    )
    path = ProfileStore().save(unfit)
    result = run("edge-partition", "profile", model, "--broker", desk.url, "--json")
    assert result.returncode == 0, result.stderr
    assert (
        f"{path} cannot be used: its slice [0, 999) starts or ends where the model has no cut"
        in result.stderr
    )
    assert result.stderr.count("\n") == 1
    (measured,) = json.loads(result.stdout)["boards"]
    assert measured["measured_now"]
    assert len(measured["slices"]) > 3


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


def test_plans_and_status_go_by_the_agents_limit_and_say_where_the_fleet_file_differs(
    desk: Desk, model: Path, cache: Path
) -> None:
    desk.start_agent("board-0", "--ram-mib", "500")
    fleet = model.with_name("limited.toml")
    fleet.write_text('[[device]]\nname = "board-0"\nram_mib = 900\n')
    words = [model, "--fleet", fleet]
    on_broker = ["--broker", desk.url]
    line = "board-0: 900 MiB of RAM in the fleet file, 500 MiB in its agent's --ram-mib"
    assert line in run("edge-partition", "profile", *words, *on_broker).stderr
    planned = run("edge-partition", "plan", *words)
    assert line in planned.stderr
    assert planned.stderr.count("\n") == 1
    assert "500" in planned.stdout
    assert "900" not in planned.stdout
    status = run("edge-partition", "status", "--fleet", fleet, *on_broker)
    assert line in status.stderr
    assert "limit MiB" in status.stdout
    assert "500" in status.stdout

    # Started again with another limit, the board is not measured again for that.
    desk.stop_agent("board-0")
    desk.start_agent("board-0", "--ram-mib", "900")
    (board,) = document("profile", *words, *on_broker)["boards"]
    assert not board["measured_now"]
    assert board["ram_mib"] == 900
    assert not run("edge-partition", "plan", *words).stderr
    assert not run("edge-partition", "status", "--fleet", fleet, *on_broker).stderr


def test_boards_that_are_not_there_are_named(desk: Desk, model: Path, cache: Path) -> None:
    assert "No board is online" in failed("profile", model, "--broker", desk.url)
    desk.start_agent("board-0")
    line = failed("profile", model, "--broker", desk.url, "--device", "pi-9")
    assert "Not online: pi-9; boards online: board-0" in line


def test_a_board_too_small_for_the_whole_times_its_parts(
    desk: Desk, model: Path, digits_bundle: Bundle, cache: Path, digits_model: LoadedTflite
) -> None:
    desk.start_agent("board-0")
    words = ["profile", model, "--broker", desk.url]
    document(*words)
    agent_mib = psutil.Process(desk.agents["board-0"].pid).memory_info().rss >> 20
    desk.stop_agent("board-0")
    # The whole model takes its 16 MiB beside the agent.
    desk.start_agent("board-0", "--ram-mib", str(agent_mib + 14))
    words = ["profile", digits_bundle.whole_file, "--broker", desk.url]
    (board,) = document(*words)["boards"]
    operators = len(digits_model.tflite.graph.operators)
    assert board["whole_ms"] is None
    assert (0, operators) not in {(item["start"], item["stop"]) for item in board["slices"]}
    assert board["operators_ms"] > 0


def test_a_loaded_models_file_takes_no_memory_and_its_answers_are_the_same(
    digits_bundle: Bundle,
) -> None:
    manifest, path = digits_bundle.manifest, digits_bundle.whole_file
    loaded = whole_interpreter(digits_bundle)
    kept = StageInterpreter(path.read_bytes(), manifest.inputs, manifest.outputs, num_threads=1)
    payloads = made_up_payloads(digits_bundle, 3)
    answers = [loaded.invoke(payload) for payload in payloads]
    assert answers == [kept.invoke(payload) for payload in payloads]
    assert len(set(answers)) == len(payloads)
    (mapped,) = (item for item in psutil.Process().memory_maps() if item.path == str(path))
    assert mapped.size > path.stat().st_size * 0.9
    assert mapped.rss < path.stat().st_size / 4
