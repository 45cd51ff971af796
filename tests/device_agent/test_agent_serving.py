from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from agent_host import wait_for
from dense_models import make_pipeline

from edge_core.contract.messages import RECEIVE_MAXIMUM, decode_trace
from edge_core.contract.topics import OFFLINE

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_host import AgentProcess, Host

    Start = Callable[..., AgentProcess]


def test_two_boards_give_the_output_of_the_whole_model(host: Host, name: str, start: Start) -> None:
    for board in (f"{name}-a", f"{name}-b"):
        start(board)
    pipeline = make_pipeline(name, [[f"{name}-a"], [f"{name}-b"]])
    host.deploy(pipeline)
    answers = []
    for seed in (1, 2):
        tensors = pipeline.tensors(seed)
        message = host.ask(name, tensors[0].tobytes(), expiry_s=30)
        assert "error" not in message.user
        answers.append(np.frombuffer(message.payload, np.float32).reshape(tensors[-1].shape))
        np.testing.assert_allclose(answers[-1], tensors[-1], rtol=1e-4, atol=1e-5)
        assert message.user["generation"] == "g1"
        trace = decode_trace(message.user["trace"])
        assert [(step.stage, step.device) for step in trace] == [(0, f"{name}-a"), (1, f"{name}-b")]
        assert all(step.invoke_ms > 0 for step in trace)
    assert not np.allclose(*answers)


def test_loading_reports_time_memory_and_no_difference(host: Host, name: str, start: Start) -> None:
    start(name)
    (report,) = host.load(name, make_pipeline(name, [[name]]))
    assert report["stage"] == 0
    assert report["load_ms"] > 0
    assert report["invoke_ms"] > 0
    assert 0 <= report["max_difference"] < 1e-3
    assert report["ram_bytes"] > 10e6


def test_a_wrong_request_gets_an_error_that_names_the_cause(
    host: Host, name: str, start: Start
) -> None:
    start(name)
    pipeline = make_pipeline(name, [[name]])
    host.deploy(pipeline)
    payload = pipeline.tensors(1)[0].tobytes()
    short = host.ask(name, payload[:-1])
    assert short.user["error"] == "bad-payload"
    assert b"31 bytes; expected 32" in short.payload
    other = host.ask(name, payload, user={"generation": "g0"})
    assert other.user["error"] == "unknown-generation"
    assert "error" not in host.ask(name, payload, user={"generation": "g1"}).user


def test_a_request_without_a_response_topic_is_counted(host: Host, name: str, start: Start) -> None:
    agent = start(name)
    pipeline = make_pipeline(name, [[name]])
    host.deploy(pipeline)
    payload = pipeline.tensors(1)[0].tobytes()
    host.send(name, payload, response_topic=None)
    assert "error" not in host.ask(name, payload).user
    mine = wait_for(lambda: [s for s in host.stats if s["device"] == name and s["stages"]][-1:])[0]
    assert mine["stages"][0]["unanswerable"] == 1
    assert mine["stages"][0]["requests"] == 1
    assert mine["stages"][0]["invoke_ms"]["max"] > 0
    assert mine["rss_bytes"] > 10e6
    assert "without a usable response topic" in agent.text()


@pytest.fixture
def slow(host: Host, name: str, start: Start) -> tuple[str, bytes, AgentProcess]:
    """A board whose stage takes some tenths of a second."""
    agent = start(name)
    pipeline = make_pipeline(name, [[name]], sizes=(256, 256), rows=1024, repeats=40)
    host.deploy(pipeline)
    return name, pipeline.tensors(1)[0].tobytes(), agent


@pytest.mark.alone
def test_a_request_that_expired_in_the_queue_gets_the_error_expired(
    host: Host, name: str, start: Start
) -> None:
    start(name)
    # The board must hold all requests at once: the board cannot see the time that a request waits
    # at the broker. The earlier requests must take far longer than the one second that the last
    # request has. The speed of the machine may change several-fold, so the test repeats with more
    # work if the earlier requests were too fast.
    held = RECEIVE_MAXIMUM - 1
    for generation, repeats in enumerate((80, 320, 1280), 1):
        pipeline = make_pipeline(
            name,
            [[name]],
            generation=f"g{generation}",
            sizes=(256, 256),
            rows=1024,
            repeats=repeats,
        )
        host.deploy(pipeline)
        payload = pipeline.tensors(1)[0].tobytes()
        earlier = [host.send(name, payload) for _ in range(held - 1)]
        late = host.send(name, payload, expiry_s=1)
        began = time.monotonic()
        answers, arrived = {}, {}
        for _ in range(held):
            message = host.receive()
            answers[message.correlation_data] = message.user.get("error")
            arrived[message.correlation_data] = time.monotonic()
        if max(arrived[request] for request in earlier) - began > 2.5:
            break
    assert answers == {**dict.fromkeys(earlier), late: "expired"}


def test_a_stopping_agent_answers_its_waiting_requests(
    host: Host, slow: tuple[str, bytes, AgentProcess]
) -> None:
    name, payload, agent = slow
    sent = {host.send(name, payload) for _ in range(4)}
    # With the second answer, the agent has read all four requests. A request that a stopping agent
    # has not read stays with the broker.
    answered = {host.receive().correlation_data for _ in range(2)}
    assert agent.stop() == 0
    host.wait_for_availability(name, OFFLINE)
    answered |= {host.receive().correlation_data for _ in range(2)}
    assert answered == sent


def test_a_restarted_agent_answers_the_requests_of_the_killed_agent(
    host: Host, slow: tuple[str, bytes, AgentProcess], start: Start
) -> None:
    name, payload, agent = slow
    sent = {host.send(name, payload) for _ in range(6)}
    answered = {host.receive().correlation_data}
    agent.kill()
    start(name)
    deadline = time.monotonic() + 20
    while answered < sent and time.monotonic() < deadline:
        answered.add(host.receive().correlation_data)
    assert answered == sent


def test_stages_of_one_board_run_one_after_another(host: Host, name: str, start: Start) -> None:
    start(name)
    pipeline = make_pipeline(name, [[name], [name]])
    host.deploy(pipeline)
    tensors = pipeline.tensors(3)
    message = host.ask(name, tensors[0].tobytes())
    np.testing.assert_allclose(
        np.frombuffer(message.payload, np.float32), tensors[-1].ravel(), rtol=1e-4, atol=1e-5
    )


def test_replicas_share_the_requests(host: Host, name: str, start: Start) -> None:
    boards = [f"{name}-a", f"{name}-b"]
    for board in boards:
        start(board)
    pipeline = make_pipeline(name, [boards])
    host.deploy(pipeline)
    payload = pipeline.tensors(1)[0].tobytes()
    seen = {decode_trace(host.ask(name, payload).user["trace"])[0].device for _ in range(20)}
    assert seen == set(boards)
