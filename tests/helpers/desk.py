"""A broker and agents for one test, and bundles for the agents."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from checkout import CHECKOUT

from edge_core.contract.topics import ONLINE
from edge_partition.bundles.write_bundle import write_bundle
from edge_partition.planning.fleet import equal_fleet
from edge_partition.planning.plan_split import plan_split

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from broker_config.serve.broker_process import BrokerProcess
    from edge_partition.bundles.bundle import Bundle
    from edge_partition.model.load_model import LoadedTflite
    from edge_partition.planning.plan_split import Plan, WireChoice

EXAMPLES = CHECKOUT / "examples"
BOARDS = ("board-0", "board-1", "board-2")
PATIENCE_S = 20.0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {PATIENCE_S:g} s for: {what}")
        time.sleep(0.02)


@dataclass
class Desk:
    """A real broker and real agents, for one test."""

    broker: BrokerProcess
    folder: Path
    agents: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    availability: dict[str, bytes] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.broker.url

    def start_agent(self, name: str, *options: str) -> None:
        self._begin_agent(name, *options)
        self._wait_for_agent(name)

    def start_agents(self, *names: str) -> None:
        """Start several agents at the same time."""
        for name in names:
            self._begin_agent(name)
        for name in names:
            self._wait_for_agent(name)

    def _begin_agent(self, name: str, *options: str) -> None:
        words = [sys.executable, "-m", "device_agent", "--broker", self.url, "--name", name]
        words += ["--state-dir", str(self.folder / name), "--threads", "1", *options]
        with self.log(name).open("ab") as log:
            self.agents[name] = subprocess.Popen(words, stdout=log, stderr=log)

    def _wait_for_agent(self, name: str) -> None:
        wait_until(lambda: self.is_online(name), f"{name} online; {self.log(name).read_text()}")

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def is_online(self, name: str) -> bool:
        return self.availability.get(name) == ONLINE

    def kill_agent(self, name: str) -> None:
        agent = self.agents.pop(name)
        agent.send_signal(signal.SIGKILL)
        agent.wait()

    def stop_agent(self, name: str) -> int:
        agent = self.agents.pop(name)
        agent.terminate()
        return agent.wait(PATIENCE_S)

    def close(self) -> None:
        for agent in self.agents.values():
            agent.terminate()
        for agent in self.agents.values():
            try:
                agent.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                agent.kill()
                agent.wait()


def make_bundle(
    model: LoadedTflite,
    path: Path,
    *,
    stages: int,
    deployment: str = "digits",
    wire: WireChoice = "float32",
) -> Bundle:
    plan = plan_split(model.tflite.graph, equal_fleet(stages), stages=stages, wire=wire)
    return bundle_of(model, plan, path, deployment=deployment)


def bundle_of(model: LoadedTflite, plan: Plan, path: Path, *, deployment: str = "digits") -> Bundle:
    return write_bundle(
        path,
        model.tflite,
        plan,
        name=model.name,
        deployment=deployment,
        quantization=model.quantization,
        weights=model.weights,
        facts=model.facts,
        wrapped=model.wrapped,
    )
