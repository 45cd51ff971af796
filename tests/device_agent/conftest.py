from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from agent_host import AgentProcess, Host, start_agent

from broker_config.serve.mosquitto import MosquittoBroker, find_mosquitto
from edge_core.contract.topics import ONLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def broker() -> Iterator[MosquittoBroker]:
    """One broker for all tests: each test has its own names of boards and deployments."""
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    with MosquittoBroker(port=0) as broker:
        yield broker


@pytest.fixture
def host(broker: MosquittoBroker) -> Iterator[Host]:
    host = Host(broker.url)
    yield host
    host.close()


@pytest.fixture
def name() -> str:
    return f"pi-{uuid.uuid4().hex[:6]}"


@pytest.fixture
def start(
    broker: MosquittoBroker, host: Host, tmp_path: Path
) -> Iterator[Callable[..., AgentProcess]]:
    """Start agents, wait until they are online, and stop them after the test."""
    agents: list[AgentProcess] = []

    def start_one(name: str, *options: str) -> AgentProcess:
        host.availability.pop(name, None)
        agent = start_agent(broker.url, name, tmp_path / name, *options)
        agents.append(agent)
        host.wait_for_availability(name, ONLINE)
        return agent

    yield start_one
    for agent in agents:
        agent.process.terminate()
    for agent in agents:
        agent.stop()
