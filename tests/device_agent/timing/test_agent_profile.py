"""``profile`` and ``time-messages``: what a board times and refuses, and that nothing stays."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from agent_host import Host, start_agent
from dense_models import make_pipeline, sha256

from edge_core.contract.messages import MAX_TIMED_MESSAGE_BYTES, CommandError
from edge_core.contract.topics import ONLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from agent_host import AgentProcess
    from dense_models import Pipeline

    from broker_config.serve.mosquitto import MosquittoBroker

    Start = Callable[..., AgentProcess]


def ask(host: Host, name: str, piece: Pipeline, **options: Any) -> dict[str, Any]:
    options = {"displaced_bytes": 1000, "max_s": 1.0, **options}
    manifest = json.loads(piece.manifest.to_json())
    return host.command(name, "profile", manifest=manifest, **options)


def refusal(what: Callable[[], object]) -> CommandError:
    with pytest.raises(CommandError) as caught:
        what()
    return caught.value


def held(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "artifacts").iterdir())


def test_a_slice_is_sent_timed_and_freed(
    host: Host, name: str, start: Start, tmp_path: Path
) -> None:
    start(name)
    piece = make_pipeline("piece", [[name]])
    data = piece.files[0]
    assert ask(host, name, piece) == {"ok": True, "have_bytes": 0}
    assert host.store(name, data, 0, data[:100]) == 100
    assert ask(host, name, piece) == {"ok": True, "have_bytes": 100}
    host.store(name, data, 100, data[100:])
    assert held(tmp_path / name) == [sha256(data)]
    answer = ask(host, name, piece)
    assert answer["invoke_ms"] > 0
    assert answer["spread_ms"] >= 0
    assert answer["runs"] > 1
    assert isinstance(answer["settled"], bool)
    assert {"temperature_c", "clock_mhz"} <= answer.keys()
    assert held(tmp_path / name) == []
    assert host.states(name) == {}


def test_a_board_that_serves_refuses_unless_forced_and_keeps_its_files(
    host: Host, name: str, start: Start, tmp_path: Path
) -> None:
    start(name)
    live = make_pipeline(f"live-{name}", [[name]])
    host.deploy(live)
    before = held(tmp_path / name)
    # The very file that it serves is timed: it must not be deleted with the slice.
    refused = refusal(lambda: ask(host, name, live))
    assert refused.code == "busy"
    assert f"serves live-{name}" in refused.reason
    assert ask(host, name, live, force=True)["invoke_ms"] > 0
    assert held(tmp_path / name) == before
    sent, expected = live.tensors(3)
    assert len(host.ask(live.manifest.deployment, sent.tobytes()).payload) == expected.nbytes


def test_a_slice_that_the_board_cannot_hold_is_refused(host: Host, name: str, start: Start) -> None:
    start(name, "--ram-mib", "100")
    refused = refusal(lambda: ask(host, name, make_pipeline("p", [[name]], ram_bytes=100 << 20)))
    assert refused.code == "no-memory"
    assert "the slice needs" in refused.reason


def test_a_damaged_slice_is_refused_and_freed(
    host: Host, name: str, start: Start, tmp_path: Path
) -> None:
    start(name)
    piece = make_pipeline("piece", [[name]])
    ask(host, name, piece)
    damaged = bytes(len(piece.files[0]))
    assert refusal(lambda: host.store(name, piece.files[0], 0, damaged)).code == "checksum"
    assert held(tmp_path / name) == []


@pytest.mark.parametrize(
    "options",
    [
        {"max_s": 0},
        {"max_s": 11},
        {"max_s": True},
        {"max_s": float("nan")},
        {"max_s": "1"},
        {"displaced_bytes": -1},
        {"displaced_bytes": 1 << 40},
        {"displaced_bytes": None},
    ],
)
def test_what_is_out_of_bounds_is_refused(
    host: Host, shared_agent: str, options: dict[str, Any]
) -> None:
    piece = make_pipeline("piece", [[shared_agent]])
    assert refusal(lambda: ask(host, shared_agent, piece, **options)).code == "bad-command"


def test_a_slice_is_one_stage_for_this_board(host: Host, shared_agent: str) -> None:
    for devices in ([["other"]], [[shared_agent, "other"]], [[shared_agent], [shared_agent]]):
        piece = make_pipeline("piece", devices)
        assert refusal(lambda p=piece: ask(host, shared_agent, p)).code == "bad-command"
    refused = refusal(lambda: host.command(shared_agent, "profile", manifest={"schema": 1}))
    assert refused.code == "bad-command"


@pytest.mark.alone
def test_messages_are_timed_one_at_a_time_and_several_together(
    host: Host, shared_agent: str
) -> None:
    # Another program may take the processors from one measurement, but not from each of five.
    for _ in range(5):
        small, large = (
            host.command(shared_agent, "time-messages", size_bytes=size_bytes)
            for size_bytes in (0, 800_000)
        )
        for answer in (small, large):
            assert answer["cpu_ms"] > 0
            assert answer["lone_ms"] > 0
            assert answer["apart_cpu_ms"] > 0
            assert answer["window_ms"] > 0
            assert answer["cores"] > 0
        is_alone = all(answer["cpu_ms"] < answer["lone_ms"] for answer in (small, large))
        if is_alone and all(small[key] < large[key] for key in ("cpu_ms", "lone_ms")):
            break
    else:
        pytest.fail(f"the last of five measurements: {small} without payload, {large} with one")
    for size in (-1, MAX_TIMED_MESSAGE_BYTES + 1, 1.0, "1", None):
        refused = refusal(lambda s=size: host.command(shared_agent, "time-messages", size_bytes=s))
        assert refused.code == "bad-command"


def test_a_board_that_serves_times_no_messages_unless_forced(
    host: Host, name: str, start: Start
) -> None:
    start(name)
    host.deploy(make_pipeline(f"live-{name}", [[name]]))
    refused = refusal(lambda: host.command(name, "time-messages", size_bytes=10))
    assert refused.code == "busy"
    assert host.command(name, "time-messages", size_bytes=10, force=True)["lone_ms"] > 0


@pytest.fixture(scope="module")
def shared_agent(
    broker: MosquittoBroker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """One for all that is refused, which leaves nothing."""
    name = f"pi-{uuid.uuid4().hex[:6]}"
    host = Host(broker.url)
    agent = start_agent(broker.url, name, tmp_path_factory.mktemp("shared") / name)
    try:
        host.wait_for_availability(name, ONLINE)
        yield name
    finally:
        host.close()
        assert agent.stop() == 0
