"""Boards that serve models with state, in the modes ``reset`` and ``keep``."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import state_models
from agent_host import wait_for
from any_topic import any_topic

from edge_core.contract.manifest import Manifest, TensorSpec
from edge_core.contract.messages import CommandError
from edge_core.runtime.stage_interpreter import StageInterpreter
from edge_partition.bundles.run_bundle import reference_payloads
from edge_partition.bundles.write_bundle import write_bundle
from edge_partition.planning.fleet import Device, Fleet
from edge_partition.planning.plan_split import plan_split
from edge_partition.tflite.read_tflite import read_tflite

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from agent_host import AgentProcess, Host

    from edge_core.mqtt.connection import Message

    Start = Callable[..., AgentProcess]


@dataclass(frozen=True)
class StatePipeline:
    """A manifest, its files and a reference, in the place of ``dense_models.Pipeline``."""

    manifest: Manifest
    files: tuple[bytes, ...]
    reference: tuple[np.ndarray, ...]

    def tensors(self, _seed: int) -> list[np.ndarray]:
        return list(self.reference)


def make_pipeline(
    name: str, boards: Sequence[str], folder: Path, *, cuts: Sequence[int] = (), state: str
) -> StatePipeline:
    model = read_tflite(state_models.chain())
    fleet = Fleet(tuple(Device(board) for board in boards))
    bundle = write_bundle(
        folder / "build",
        model,
        plan_split(model.graph, fleet, cuts=cuts),
        name="chain",
        deployment=name,
        quantization="as-given",
        weights="trained",
        state=state,
    )
    return StatePipeline(
        bundle.manifest,
        tuple(bundle.stage_file(stage).read_bytes() for stage in bundle.manifest.stages),
        tuple(np.frombuffer(payload, np.uint8) for payload in reference_payloads(bundle)),
    )


def inputs(count: int) -> list[bytes]:
    random = np.random.default_rng(11)
    return [
        random.normal(size=state_models.SHAPE).astype(np.float32).tobytes() for _ in range(count)
    ]


def answers(payloads: list[bytes], *, anew: bool) -> list[bytes]:
    specs = [TensorSpec(name, "float32", state_models.SHAPE) for name in ("x", "out")]

    def load() -> StageInterpreter:
        return StageInterpreter(state_models.chain(), specs[:1], specs[1:], num_threads=1)

    kept = load()
    return [(load() if anew else kept).invoke(payload) for payload in payloads]


def ask(
    host: Host,
    name: str,
    payload: bytes,
    number: int,
    client: str = "a",
    *,
    repeated: Collection[int] = (),
) -> Message:
    """Send a request and return its answer.

    Args:
        host: The test's host.
        name: Name of the deployment.
        payload: Payload of the request.
        number: Number of the request.
        client: Name of the client.
        repeated: Numbers of earlier requests that may be answered again: after the agent was
            killed, the broker delivers unacknowledged requests again.
    """
    topic = host.topics.result(f"{host.client}-{client}")
    asked = _ASKED.get(topic)
    if asked is None:
        host.connection.subscribe(any_topic(topic), host.results.put, timeout_s=20)
        asked = _ASKED[topic] = set()
    assert set(repeated) <= asked - {number}
    asked.add(number)
    host.connection.publish(
        host.topics.stage(name, 0),
        payload,
        response_topic=topic,
        correlation_data=number.to_bytes(8, "big"),
    )
    left = set(repeated)
    while True:
        message = host.receive()
        assert message.topic == topic
        answered = int.from_bytes(message.correlation_data, "big")
        if answered not in left:
            break
        left.remove(answered)
    assert message.correlation_data == number.to_bytes(8, "big")
    return message


#: Numbers of the sent requests, by the topic of their results.
_ASKED: dict[str, set[int]] = {}


def result(message: Message) -> bytes:
    assert "error" not in message.user, bytes(message.payload)
    return bytes(message.payload)


def test_with_reset_each_request_starts_from_the_initial_state(
    host: Host, name: str, start: Start, tmp_path: Path
) -> None:
    boards = [f"{name}-{place}" for place in "abc"]
    for board in boards:
        start(board)
    host.deploy(make_pipeline(name, boards, tmp_path, cuts=[1, 2], state="reset"))
    payloads = inputs(12)
    expected = answers(payloads, anew=True)
    assert expected != answers(payloads, anew=False)
    assert [bytes(host.ask(name, payload).payload) for payload in payloads] == expected
    # The same holds for requests that wait in the queue.
    for payload in payloads:
        host.send(name, payload)
    assert [bytes(host.receive().payload) for _ in payloads] == expected


def test_with_keep_the_state_follows_one_clients_requests_in_their_order(
    host: Host, name: str, start: Start, tmp_path: Path
) -> None:
    boards = [f"{name}-a", f"{name}-b"]
    for board in boards:
        start(board)
    host.deploy(make_pipeline(name, boards, tmp_path, cuts=[2], state="keep"))
    payloads = inputs(6)
    expected = answers(payloads, anew=False)
    # The reference input and the timed runs after loading did not change the state.
    assert result(ask(host, name, payloads[0], 1)) == expected[0]
    assert result(ask(host, name, payloads[1], 2)) == expected[1]
    for _ in range(2):
        assert result(ask(host, name, payloads[1], 2)) == expected[1], "sent again"
    assert result(ask(host, name, payloads[2], 3)) == expected[2]

    gap = ask(host, name, payloads[4], 5)
    assert gap.user["error"] == "state-lost"
    assert b"Stage 0" in gap.payload
    assert b"got request 5, but the previous request was 3" in gap.payload
    short = ask(host, name, payloads[3][:-1], 4)
    assert short.user["error"] == "bad-payload"
    assert result(ask(host, name, payloads[3], 4)) == expected[3]

    assert result(ask(host, name, payloads[0], 1, "b")) == expected[0]
    assert ask(host, name, payloads[4], 5).user["error"] == "state-taken"
    assert result(ask(host, name, payloads[1], 2, "b")) == expected[1]
    # Requests without a number are served in order, starting from the initial state.
    assert [bytes(host.ask(name, payload).payload) for payload in payloads] == expected


def test_profiling_does_not_change_kept_state_and_a_restart_ends_it_with_an_error(
    host: Host, name: str, start: Start, tmp_path: Path
) -> None:
    agent = start(name)
    pipeline = make_pipeline(name, [name], tmp_path, state="keep")
    host.deploy(pipeline)
    payloads = inputs(4)
    expected = answers(payloads, anew=False)
    assert result(ask(host, name, payloads[0], 1)) == expected[0]
    timed = host.command(
        name,
        "profile",
        manifest=json.loads(pipeline.manifest.to_json()),
        displaced_bytes=0,
        max_s=0.2,
        force=True,
    )
    assert timed["invoke_ms"] > 0
    assert result(ask(host, name, payloads[1], 2)) == expected[1]

    agent.kill()
    start(name)
    lost = ask(host, name, payloads[2], 3, repeated={2})
    assert lost.user["error"] == "state-lost"
    assert name.encode() in lost.payload
    assert b"restarted" in lost.payload
    assert result(ask(host, name, payloads[0], 1)) == expected[0]


def test_a_manifest_with_unknown_needs_is_refused_from_the_host_and_from_disk(
    host: Host, name: str, start: Start, tmp_path: Path
) -> None:
    agent = start(name)
    pipeline = make_pipeline(name, [name], tmp_path, state="reset")
    strange = replace(
        pipeline, manifest=replace(pipeline.manifest, needs=("state", "telepathy", "tea"))
    )
    with pytest.raises(CommandError, match="needs telepathy, tea from its agents") as refused:
        host.prepare(name, strange)
    assert refused.value.code == "unknown-need"
    host.deploy(pipeline)

    assert agent.stop() == 0
    file = tmp_path / name / "deployments" / f"{name}.json"
    saved: dict[str, Any] = json.loads(file.read_text())
    saved["live"]["manifest"]["needs"] = ["telepathy"]
    file.write_text(json.dumps(saved))
    again = start(name)
    wait_for(lambda: "needs telepathy from its agents" in again.text())
    assert host.states(name) == {}
