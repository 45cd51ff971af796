"""One client in several threads, and requests that must be sent again but cannot be."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from agent_host import PATIENCE_S, Host, start_agent
from configured_mosquitto import configured_mosquitto
from dense_models import make_pipeline

from broker_config.serve.mosquitto import MosquittoBroker
from edge_core.contract.topics import ONLINE
from edge_core.errors import MessageTooLargeError
from edge_partition.client.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


THREADS, REQUESTS = 8, 200


@pytest.fixture
def host(mosquitto_installed: None) -> Iterator[Host]:
    with MosquittoBroker(port=0) as broker:
        host = Host(broker.url)
        yield host
        host.close()


@pytest.fixture
def start(host: Host, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Start an agent and wait until it is online."""
    agents = []

    def start_one(board: str) -> None:
        agents.append(start_agent(host.url, board, tmp_path / board))
        host.wait_for_availability(board, ONLINE)

    yield start_one
    for agent in agents:
        agent.process.terminate()
    for agent in agents:
        agent.stop()


@pytest.mark.timeout(120)
def test_threads_that_share_a_client_get_each_its_own_answers(
    host: Host, start: Callable[[str], None]
) -> None:
    for board in ("a", "b", "c"):
        start(board)
    made = make_pipeline("net", [["a", "b"], ["c"]])
    host.deploy(made)
    wrong: list[str] = []
    slowest_s: list[float] = []

    def ask(pipeline: Pipeline, thread: int) -> None:
        for number in range(REQUESTS):
            before, *_, after = made.tensors(thread * REQUESTS + number)
            began = time.monotonic()
            found = pipeline.infer(before)
            slowest_s.append(time.monotonic() - began)
            assert isinstance(found, np.ndarray)
            if not np.allclose(found, after, rtol=1e-4, atol=1e-5):
                wrong.append(f"{thread}/{number}")
            if number % 50 == thread:
                time.sleep(0.15)  # The stand-in steps meanwhile, if no thread waits.

    with Pipeline("net", host.url, timeout_s=PATIENCE_S) as pipeline:
        threads = [threading.Thread(target=ask, args=(pipeline, n)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert len(slowest_s) == THREADS * REQUESTS
    # A request that a thread forgot is found after half a keep-alive, 5 s, at the earliest.
    assert max(slowest_s) < 5


@pytest.mark.timeout(120)
def test_a_client_may_be_closed_while_threads_wait(
    host: Host, start: Callable[[str], None]
) -> None:
    start("a")
    made = make_pipeline("net", [["a"]], sizes=(256, 256), rows=1024, repeats=20)
    host.deploy(made)
    errors: list[BaseException] = []

    def ask(pipeline: Pipeline) -> None:
        try:
            while True:
                pipeline.infer(made.tensors(1)[0])
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    pipeline = Pipeline("net", host.url).open()
    threads = [threading.Thread(target=ask, args=(pipeline,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    pipeline.close()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert all("closed" in str(error) or "open" in str(error) for error in errors)
    assert len(errors) == 4


def test_a_repeat_over_the_limit_of_a_restarted_broker_fails_its_own_request(
    mosquitto_installed: None, tmp_path: Path
) -> None:
    made = make_pipeline("net", [["a"]], sizes=(5000, 1))
    found: list[object] = []
    everyone = "allow_anonymous true"
    with configured_mosquitto(tmp_path, everyone) as port:
        host = Host(f"mqtt://127.0.0.1:{port}")
        host.connection.publish_and_wait(host.topics.availability("a"), ONLINE)
        host.publish_manifest(made)
        # A board that never answers.
        host.connection.subscribe(host.topics.stage("net", 0), lambda _: None, timeout_s=PATIENCE_S)
        host.close()
        pipeline = Pipeline("net", host.url, timeout_s=PATIENCE_S).open()

        def ask() -> None:
            inputs = [made.tensors(seed)[0] for seed in range(2)]
            found.extend(pipeline.stream(inputs, on_error="yield"))

        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(0.3)
    with configured_mosquitto(tmp_path, everyone, "max_packet_size 1000", port=port):
        asking.join(PATIENCE_S)
        pipeline.close()
    assert [type(answer) for answer in found] == [MessageTooLargeError] * 2
