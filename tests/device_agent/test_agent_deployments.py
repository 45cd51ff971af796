from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from agent_host import Host, start_agent, wait_for
from dense_models import make_pipeline, sha256

from broker_config.serve.mosquitto import MosquittoBroker
from edge_core.contract.messages import CommandError
from edge_core.contract.topics import ONLINE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent_host import AgentProcess
    from dense_models import Pipeline

    Start = Callable[..., AgentProcess]


def _assert_serves(host: Host, pipeline: Pipeline, **options: object) -> None:
    for seed in (1, 2):
        before, *_, after = pipeline.tensors(seed)
        message = host.ask(pipeline.manifest.deployment, before.tobytes(), **options)
        assert "error" not in message.user, bytes(message.payload)
        found = np.frombuffer(message.payload, np.float32).reshape(after.shape)
        np.testing.assert_allclose(found, after, rtol=1e-4, atol=1e-5)


def _assert_refused(code: str, says: str, what: Callable[[], object]) -> None:
    with pytest.raises(CommandError) as refused:
        what()
    assert refused.value.code == code
    assert says in refused.value.reason


# Receiving a deployment


def test_a_damaged_file_is_refused_and_deleted(
    host: Host, name: str, start: Start, tmp_path: Path
) -> None:
    start(name)
    pipeline = make_pipeline(name, [[name]])
    wanted = host.prepare(name, pipeline)
    data = pipeline.files[0]
    assert sha256(data) in wanted
    bad = bytes([data[0] ^ 1]) + data[1:]
    _assert_refused("checksum", "Send the file again", lambda: host.store(name, data, 0, bad))
    assert not list((tmp_path / name / "artifacts").glob(f"{sha256(data)}*"))
    host.load(name, pipeline)
    assert host.states(name) == {"g1": "prepared"}


def test_a_transfer_continues_where_it_stopped_even_after_a_restart(
    host: Host, name: str, start: Start
) -> None:
    agent = start(name)
    pipeline = make_pipeline(name, [[name]])
    data = pipeline.files[0]
    host.prepare(name, pipeline)
    assert host.store(name, data, 0, data[:100]) == 100
    assert agent.stop() == 0
    start(name)
    _assert_refused("bad-command", "announced", lambda: host.store(name, data, 100, data[100:]))
    host.prepare(name, pipeline)
    assert host.store(name, data, 0, data[:100]) == 100, "a repeated chunk does no harm"
    _assert_refused(
        "bad-command", "expected byte 100", lambda: host.store(name, data, 50, data[50:])
    )
    assert host.store(name, data, 100, data[100:]) == len(data)


@pytest.mark.parametrize("repeat", [b"more"])
def test_a_file_never_grows_beyond_what_was_announced(
    host: Host, name: str, start: Start, repeat: bytes
) -> None:
    start(name)
    pipeline = make_pipeline(name, [[name]])
    host.prepare(name, pipeline)
    data = pipeline.files[0]
    _assert_refused("bad-command", "the file has", lambda: host.store(name, data, 0, data + repeat))


def test_a_file_that_was_not_announced_is_not_stored(host: Host, name: str, start: Start) -> None:
    start(name)
    host.prepare(name, make_pipeline(name, [[name]]))
    _assert_refused("bad-command", "announced", lambda: host.store(name, b"other", 0, b"other"))


def test_too_little_memory_is_refused_with_numbers(host: Host, name: str, start: Start) -> None:
    start(name, "--ram-mib", "128")
    large = make_pipeline(name, [[name]], ram_bytes=512 * 1024 * 1024)
    _assert_refused("no-memory", "MiB", lambda: host.prepare(name, large))
    host.deploy(make_pipeline(name, [[name]], ram_bytes=60 * 1024 * 1024))


def test_too_little_storage_is_refused_with_numbers(host: Host, name: str, start: Start) -> None:
    start(name)
    pipeline = make_pipeline(name, [[name]])
    stage = replace(pipeline.manifest.stages[0], size_bytes=2**60)
    manifest = replace(pipeline.manifest, stages=(stage,))
    # A board with too little memory refuses for that reason first.
    with pytest.raises(CommandError) as refused:
        host.prepare(name, replace(pipeline, manifest=manifest))
    assert refused.value.code in {"no-storage", "no-memory"}
    assert "MiB" in refused.value.reason


def test_a_stage_whose_output_differs_from_its_reference_is_refused(
    host: Host, name: str, start: Start
) -> None:
    start(name)
    good = make_pipeline(name, [[name]])
    host.deploy(good)
    other = make_pipeline(name, [[name]], generation="g2", seed=5)
    # Manifest and file belong to one model, the reference to another.
    wrong = replace(other, weights=good.weights)
    _assert_refused("wrong-result", "differs by up to", lambda: host.load(name, wrong))
    assert host.states(name) == {"g1": "live"}
    _assert_serves(host, good)


def test_a_file_that_is_not_a_model_is_refused(host: Host, name: str, start: Start) -> None:
    start(name)
    pipeline = make_pipeline(name, [[name]])
    junk = b"TFL3" + hashlib.sha256(b"x").digest() * 8
    stage = replace(pipeline.manifest.stages[0], sha256=sha256(junk), size_bytes=len(junk))
    manifest = replace(pipeline.manifest, stages=(stage,))
    broken = replace(pipeline, manifest=manifest, files=(junk,))
    _assert_refused("cannot-load", "cannot load", lambda: host.load(name, broken))
    assert host.states(name) == {}


def test_wrong_commands_are_refused(host: Host, name: str, start: Start, tmp_path: Path) -> None:
    start(name)
    keep = tmp_path / "keep.json"
    keep.write_text("{}")

    def remove(deployment: str) -> None:
        host.command(name, "remove", deployment=deployment)

    _assert_refused("bad-command", "unknown", lambda: host.command(name, "dance"))
    _assert_refused("bad-command", "manifest", lambda: host.command(name, "prepare"))
    _assert_refused(
        "bad-command",
        "expected a letter",
        lambda: remove("../keep"),
    )
    _assert_refused("not-found", "nothing to remove", lambda: remove("other"))
    elsewhere = make_pipeline(name, [["another-board"]])
    _assert_refused("bad-command", "no stage", lambda: host.prepare(name, elsewhere))
    host.connection.publish(host.topics.command(name), b"\xff{", response_topic=host.result_topic)
    assert b"not JSON" in host.receive().payload
    assert keep.exists()


# Changing the generation


def test_requests_before_the_manifest_get_the_error_unknown_generation(
    host: Host, name: str, start: Start
) -> None:
    start(name)
    pipeline = make_pipeline(name, [[name]])
    host.load(name, pipeline)
    message = host.ask(name, pipeline.tensors(1)[0].tobytes())
    assert message.user["error"] == "unknown-generation"
    host.publish_manifest(pipeline)
    # No wait: the manifest comes before the request on the same connection.
    _assert_serves(host, pipeline)


def test_the_old_generation_drains_while_the_new_one_serves(
    host: Host, name: str, start: Start, tmp_path: Path
) -> None:
    start(name)
    old = make_pipeline(name, [[name]])
    new = make_pipeline(name, [[name]], generation="g2", seed=2)
    host.deploy(old)
    host.load(name, new)
    assert host.states(name) == {"g1": "live", "g2": "prepared"}
    _assert_serves(host, old)
    host.publish_manifest(new)
    wait_for(lambda: host.states(name).get("g2") == "live")
    _assert_serves(host, new)
    _assert_serves(host, old, user={"generation": "g1"})
    assert host.states(name) == {"g1": "draining", "g2": "live"}
    host.publish_manifest(old)
    _assert_serves(host, old)
    assert host.states(name) == {"g1": "live", "g2": "draining"}
    wait_for(lambda: host.states(name) == {"g1": "live"})
    artifacts = tmp_path / name / "artifacts"
    wait_for(lambda: not (artifacts / sha256(new.files[0])).exists())
    assert (artifacts / sha256(old.files[0])).exists()
    _assert_serves(host, old)
    message = host.ask(name, old.tensors(1)[0].tobytes(), user={"generation": "g2"})
    assert message.user["error"] == "unknown-generation"


def test_one_board_answers_each_request_after_a_stage_moved_to_another_board(
    host: Host, name: str, start: Start
) -> None:
    first, second = f"{name}-a", f"{name}-b"
    start(first)
    start(second)
    old = make_pipeline(name, [[first]])
    new = make_pipeline(name, [[second]], generation="g2", seed=2)
    host.deploy(old)
    host.load(second, new)
    _assert_serves(host, old)
    host.publish_manifest(new)
    # A request without a generation gets the live generation of the board that receives it.
    wait_for(lambda: host.states(second) == {"g2": "live"})
    wait_for(lambda: host.states(first).get("g1") != "live")
    _assert_serves(host, new)
    _assert_serves(host, old, user={"generation": "g1"})
    _assert_serves(host, new, user={"generation": "g2"})
    time.sleep(0.5)
    assert host.results.empty(), "a second board answered too"


def test_an_aborted_generation_leaves_nothing(
    host: Host, name: str, start: Start, tmp_path: Path
) -> None:
    start(name)
    pipeline = make_pipeline(name, [[name]])
    host.load(name, pipeline)
    host.command(name, "abort", deployment=name, generation="g1")
    assert host.states(name) == {}
    assert not list((tmp_path / name / "artifacts").iterdir())
    assert not list((tmp_path / name / "deployments").iterdir())


def test_an_undeployed_deployment_leaves_nothing(
    host: Host, name: str, start: Start, tmp_path: Path
) -> None:
    start(name)
    pipeline = make_pipeline(name, [[name]])
    host.deploy(pipeline)
    host.connection.publish_and_wait(host.topics.manifest(name), b"")
    wait_for(lambda: not list((tmp_path / name / "artifacts").iterdir()))
    assert host.states(name) == {}
    assert not list((tmp_path / name / "deployments").iterdir())


# Restarts


def test_a_restarted_agent_serves_from_disk_with_no_host_present(
    host: Host, name: str, start: Start
) -> None:
    agent = start(name)
    pipeline = make_pipeline(name, [[name]])
    host.deploy(pipeline)
    agent.kill()
    start(name)
    _assert_serves(host, pipeline)


def test_the_files_of_the_saved_state_stay_while_a_new_state_cannot_be_written(
    host: Host, name: str, start: Start, tmp_path: Path
) -> None:
    agent = start(name)
    old = make_pipeline(name, [[name]])
    new = make_pipeline(name, [[name]], generation="g2", seed=2)
    host.deploy(old)
    # A folder with the name of the new file makes the write fail.
    (tmp_path / name / "deployments" / f"{name}.json.new").mkdir()
    host.deploy(new)
    wait_for(lambda: host.states(name) == {"g2": "live"})
    kept = {path.name for path in (tmp_path / name / "artifacts").iterdir()}
    assert sha256(old.files[0]) in kept
    assert "cannot write the state" in agent.text()
    # Once writing works again, the agent saves the served generation and keeps only its files.
    (tmp_path / name / "deployments" / f"{name}.json.new").rmdir()
    host.deploy(make_pipeline(name, [[name]], generation="g3", seed=3))
    wait_for(lambda: host.states(name) == {"g3": "live"})
    wait_for(lambda: not (tmp_path / name / "artifacts" / sha256(old.files[0])).exists())


def test_a_damaged_file_is_not_served_after_a_restart(
    host: Host, name: str, start: Start, tmp_path: Path
) -> None:
    agent = start(name)
    pipeline = make_pipeline(name, [[name]])
    host.deploy(pipeline)
    agent.stop()
    file = tmp_path / name / "artifacts" / pipeline.manifest.stages[0].sha256
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1
    file.write_bytes(damaged)
    again = start(name)
    wait_for(lambda: host.states(name) == {} and "cannot load the saved generation" in again.text())
    assert not file.exists()


def test_a_deployment_survives_a_broker_that_forgets_its_manifest(
    name: str, tmp_path: Path
) -> None:
    with MosquittoBroker(port=0) as broker:
        agent = start_agent(broker.url, name, tmp_path / name)
        try:
            host = Host(broker.url)
            host.wait_for_availability(name, ONLINE)
            pipeline = make_pipeline(name, [[name]])
            host.deploy(pipeline)
            host.close()
            broker.restart()
            host = Host(broker.url)
            host.wait_for_availability(name, ONLINE)
            wait_for(lambda: host.retained(host.topics.manifest(name)))
            _assert_serves(host, pipeline)
            host.close()
        finally:
            assert agent.stop() == 0


# Statistics


def _newest_stats(host: Host, name: str) -> dict[str, Any]:
    """Return statistics that the board sends after this call."""
    host.stats.clear()
    return wait_for(lambda: next((item for item in host.stats if item["device"] == name), None))


def test_statistics_have_the_last_refusal_until_the_board_takes_the_deployment(
    host: Host, name: str, start: Start
) -> None:
    start(name, "--ram-mib", "128")
    assert _newest_stats(host, name)["refusals"] == []
    large = make_pipeline(name, [[name]], ram_bytes=512 * 1024 * 1024)
    with pytest.raises(CommandError) as refused:
        host.prepare(name, large)
    (told,) = _newest_stats(host, name)["refusals"]
    assert abs(told.pop("time_s") - time.time()) < 30
    assert told == {
        "deployment": large.manifest.deployment,
        "generation": large.manifest.generation,
        "code": "no-memory",
        "reason": refused.value.reason[:200],
    }
    host.deploy(make_pipeline(name, [[name]], ram_bytes=60 * 1024 * 1024))
    assert _newest_stats(host, name)["refusals"] == []


def test_statistics_have_a_refusal_for_a_manifest_that_the_board_cannot_read(
    host: Host, name: str, start: Start
) -> None:
    start(name)
    held = make_pipeline(name, [[name]])
    host.deploy(held)
    deployment = held.manifest.deployment
    host.connection.publish_and_wait(host.topics.manifest(deployment), b'{"schema": 99}')
    told = _newest_stats(host, name)
    assert [item["generation"] for item in told["stages"]] == ["g1"]
    (refusal,) = told["refusals"]
    assert (refusal["deployment"], refusal["code"]) == (deployment, "bad-payload")
    assert "schema 99" in refusal["reason"]


def test_statistics_name_the_loaded_generation_not_that_of_the_manifest(
    host: Host, name: str, start: Start
) -> None:
    start(name)
    held = make_pipeline(name, [[name]])
    host.deploy(held)
    assert [item["generation"] for item in _newest_stats(host, name)["stages"]] == ["g1"]
    # This board was never asked to load generation g2.
    host.publish_manifest(make_pipeline(name, [[name]], generation="g2"))
    host.stats.clear()
    told = wait_for(lambda: [item["stages"] for item in host.stats if item["device"] == name])[0]
    assert [item["generation"] for item in told] == ["g1"], (
        "g1 is draining, and no other generation is loaded"
    )
    assert wait_for(lambda: not _newest_stats(host, name)["stages"])
