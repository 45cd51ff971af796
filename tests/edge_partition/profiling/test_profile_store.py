from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, get_args

import pytest
from random_models import random_graph, seeded

from edge_partition.planning.cost_model import StageTable, stage_cost
from edge_partition.planning.fit_messages import HandlingTimes, TimedMessage
from edge_partition.planning.fleet import Device, Fleet
from edge_partition.planning.plan_split import Plan, evaluate, plan_split
from edge_partition.planning.stage_times import TimedSlice
from edge_partition.profiling.apply_profiles import apply_profiles
from edge_partition.profiling.choose_slices import choose_slices
from edge_partition.profiling.profile_store import BoardProfile, ProfileError, ProfileStore
from edge_partition.tflite.graph import Wire

if TYPE_CHECKING:
    from pathlib import Path

    from edge_partition.tflite.graph import Graph

SHA256 = "ab" * 32
GRAPH = random_graph(seeded(7), 40)
MESSAGES = tuple(TimedMessage(size, 2.0 + size / 1e4, 9.0, 0.5, 0.5) for size in (1000, 64_000))


def measured(
    graph: Graph = GRAPH, board: str = "pi-1", ms_per_operator: float = 2.0
) -> BoardProfile:
    return BoardProfile(
        model_sha256=SHA256,
        model_name="random",
        board=board,
        runtime="ai-edge-litert 2.3.0",
        threads=4,
        measured_at="2026-01-02T03:04:05+00:00",
        slices=tuple(
            TimedSlice(start, stop, ms_per_operator * (stop - start))
            for start, stop in choose_slices(graph)
        ),
        messages=MESSAGES,
        cores=0.5,
        temperature_c=(40.5, 61.0),
        clock_mhz=(1500.0, 1500.0),
        unsettled=2,
    )


def applied(store: ProfileStore, *names: str) -> tuple[Fleet, list[str]]:
    complaints: list[str] = []
    fleet = apply_profiles(
        Fleet(tuple(Device(name) for name in names)),
        GRAPH,
        SHA256,
        store,
        on_unusable=lambda error: complaints.append(str(error)),
    )
    return fleet, complaints


def test_what_was_saved_is_found_by_model_board_and_runtime(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path)
    profile = replace(measured(), ram_mib=128.0)
    assert store.save(profile) == store.path(SHA256, "pi-1", profile.runtime)
    assert store.find(SHA256, "pi-1", profile.runtime) == profile
    assert store.newest(SHA256, "pi-1") == profile
    assert store.find(SHA256, "pi-2", profile.runtime) is None
    assert store.find("cd" * 32, "pi-1", profile.runtime) is None
    assert store.find(SHA256, "pi-1", "ai-edge-litert 2.4.0") is None
    assert store.newest(SHA256, "pi-2") is None


def test_of_several_runtimes_a_plan_takes_what_was_measured_last(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path)
    older = measured()
    newer = replace(older, runtime="tflite-runtime 2.14.0", measured_at="2026-02-01T00:00:00+00:00")
    store.save(newer)
    store.save(older)
    assert store.newest(SHA256, "pi-1") == newer


def test_profiles_are_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert ProfileStore().folder == tmp_path / "edge-partition" / "profiles"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ProfileStore().folder == tmp_path / ".cache" / "edge-partition" / "profiles"


def damage(text: str, **changes: Any) -> str:
    return json.dumps({**json.loads(text), **changes})


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: "",
        lambda _: "[]",
        lambda _: "[" * 100_000,
        lambda text: text[: len(text) // 2],
        lambda text: text + " " * (1 << 20),
        lambda text: damage(text, schema=1),
        lambda text: damage(text, board="pi-2"),
        lambda text: damage(text, board="../pi"),
        lambda text: damage(text, model_sha256="x"),
        lambda text: damage(text, slices=[]),
        lambda text: damage(text, slices=[{"start": 3, "stop": 3, "invoke_ms": 1.0}]),
        lambda text: damage(text, slices=[{"start": 0, "stop": 3, "invoke_ms": -1.0}]),
        lambda text: damage(text, slices=[{"start": 0, "stop": 3, "invoke_ms": float("nan")}]),
        lambda text: damage(text, slices=[{"start": 0, "stop": 3}]),
        lambda text: damage(text, slices=[{"start": 0, "stop": 1000, "invoke_ms": 1.0}]),
        lambda text: damage(text, slices=[{"start": 0, "stop": 1, "invoke_ms": 1.0}]),
        lambda text: damage(text, messages=None),
        lambda text: damage(text, messages=[]),
        lambda text: damage(text, messages=[{**vars(MESSAGES[0]), "cpu_ms": 0}]),
        lambda text: damage(text, messages=[{**vars(MESSAGES[0]), "apart_cpu_ms": -1}]),
        lambda text: damage(text, cores=0),
        lambda text: damage(text, temperature_c=[1]),
        lambda text: damage(text, threads="4"),
        lambda text: damage(text, ram_mib=0),
    ],
)
def test_a_damaged_profile_is_named_and_the_board_estimated(tmp_path: Path, spoil: Any) -> None:
    store = ProfileStore(tmp_path)
    path = store.save(measured())
    assert applied(store, "pi-1")[0].devices[0].stage_times is not None
    path.write_text(spoil(path.read_text()))
    fleet, complaints = applied(store, "pi-1")
    assert fleet.devices == (Device("pi-1"),)
    assert len(complaints) == 1
    assert str(path) in complaints[0]
    assert "edge-partition profile" in complaints[0]
    assert "\n" not in complaints[0]


def test_plans_keep_the_limit_of_the_agent_and_say_where_the_fleet_file_differs(
    tmp_path: Path,
) -> None:
    store = ProfileStore(tmp_path)
    for name, limit_mib in (("small", 128.0), ("equal", 300.0), ("unlimited", None)):
        store.save(replace(measured(board=name), ram_mib=limit_mib))
    names = ("small", "equal", "unlimited", "unknown")
    told: list[str] = []
    fleet = apply_profiles(
        Fleet(tuple(Device(name, ram_mib=300) for name in names)),
        GRAPH,
        SHA256,
        store,
        on_unusable=lambda error: pytest.fail(str(error)),
        on_limit=told.append,
    )
    assert [device.ram_mib for device in fleet.devices] == [128, 300, 300, 300]
    (line,) = told
    assert line.startswith("small: 300 MiB of RAM in the fleet file, 128 MiB in its agent's")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path)
    path = store.path(SHA256, "pi-1", "r")
    path.mkdir(parents=True)
    with pytest.raises(ProfileError, match=r"r\.json cannot be used"):
        store.newest(SHA256, "pi-1")


def test_measured_boards_cost_what_they_measured_and_say_so(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path)
    store.save(measured())
    fleet, complaints = applied(store, "pi-1", "pi-2")
    assert complaints == []
    n = len(GRAPH.operators)
    known, unknown = (stage_cost(GRAPH, device, 0, n) for device in fleet.devices)
    assert known.invoke_ms == pytest.approx(2.0 * n, rel=1e-3)
    assert unknown.invoke_ms != pytest.approx(known.invoke_ms, rel=0.1)
    assert known.handling_ms == pytest.approx(1.0, rel=1e-3)
    assert known.busy_ms == pytest.approx(2.0 * n + 1.0, rel=1e-3)
    assert {known.invoke_source, known.handling_source, known.link_source} == {"measured"}
    assert {unknown.invoke_source, unknown.handling_source, unknown.link_source} == {"estimated"}
    assert fleet.devices[0].handling == HandlingTimes(
        pytest.approx(0.5), pytest.approx(0, abs=1e-6)
    )
    # Half a processor makes 1 ms of 0.5; what is left is 1 + size / 1e4 ms over two messages: 0.5
    # ms, and 5e-5 ms a byte.
    assert fleet.devices[0].link_ms == pytest.approx(0.5, rel=1e-3)
    assert fleet.devices[0].link_mbit_s == pytest.approx(160, rel=1e-3)


def test_the_table_agrees_with_the_single_stage_on_a_measured_board(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path)
    store.save(measured())
    device = applied(store, "pi-1")[0].devices[0]
    positions = (0, *GRAPH.cuts, len(GRAPH.operators))
    for wire in get_args(Wire):
        table = StageTable.of(GRAPH, positions, wire)
        invoke_ns = table.invoke_ns(device)
        for row, column in combinations(range(len(positions)), 2):
            # The model's own ends travel as they are, whatever the wire.
            cost = stage_cost(GRAPH, device, positions[row], positions[column], (wire, wire))
            assert invoke_ns[row, column] == round(cost.invoke_ms * 1e6)


def test_a_plan_tells_measured_boards_of_one_kind_apart(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path)
    store.save(measured(board="slow", ms_per_operator=9.0))
    store.save(measured(board="quick", ms_per_operator=1.0))
    fleet, _ = applied(store, "slow", "quick")
    best = plan_split(GRAPH, fleet, "latency", stages=1)
    assert best.stages[0].board_names == "quick"
    two = plan_split(GRAPH, fleet, "throughput", stages=2)
    others = [
        evaluate(Plan.of(GRAPH, [(order[:1], 0, cut), (order[1:], cut, len(GRAPH.operators))]))
        for order in (fleet.devices, fleet.devices[::-1])
        for cut in GRAPH.cuts
    ]
    assert two.bottleneck_ms == min(plan.bottleneck_ms for plan in others)
    assert len({plan.bottleneck_ms for plan in others}) > 1
