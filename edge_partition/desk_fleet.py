"""A whole fleet on one machine: a broker and agents as processes of their own, on loopback."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

from broker_config import die_with_parent
from broker_config.connection import BrokerAddress, Connection
from broker_config.errors import EdgePartitionError
from broker_config.start_broker import start_broker
from broker_config.topics import ONLINE, Topics

if TYPE_CHECKING:
    from broker_config.connection import Message
    from edge_partition.fleet import Fleet

_ONLINE_TIMEOUT_S = 20.0
_STOP_TIMEOUT_S = 15.0


class AgentStartError(EdgePartitionError):
    """An agent did not come online.

    Attributes:
        device: Its name.
    """

    def __init__(self, device: str, last_words: str) -> None:
        self.device = device
        super().__init__(
            f"The agent {device} did not come online: {last_words or 'it said nothing'}"
        )


class DeskFleet:
    """A broker and one agent a device; leaving the ``with`` ends them all."""

    def __init__(self, fleet: Fleet) -> None:
        """Prepare; entering starts everything."""
        self._fleet = fleet
        self._resources = ExitStack()
        self._agents: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: dict[str, Path] = {}
        self.url = ""
        self.broker_description = ""

    def __enter__(self) -> Self:
        with ExitStack() as resources:
            folder = Path(
                resources.enter_context(tempfile.TemporaryDirectory(prefix="edge-partition-"))
            )
            broker = resources.enter_context(start_broker(port=0))
            self.url = broker.url
            self.broker_description = f"{broker.kind} {broker.version}"
            resources.callback(self._stop_agents)
            self._start_agents(folder)
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    @property
    def process_ids(self) -> dict[str, int]:
        """The agents' process ids, by device name."""
        return {device: agent.pid for device, agent in self._agents.items()}

    def _start_agents(self, folder: Path) -> None:
        topics = Topics()
        waiting = {device.name for device in self._fleet.devices}

        def note(message: Message) -> None:
            if message.payload == ONLINE:
                waiting.discard(topics.name_in(message.topic))

        for device in self._fleet.devices:
            log = folder / f"{device.name}.log"
            # Should this process be killed, its agents end with it.
            words = [sys.executable, "-I", "-S", die_with_parent.__file__, str(os.getpid())]
            words += [sys.executable, "-m", "device_agent", "--broker", self.url]
            words += ["--name", device.name, "--state-dir", str(folder / device.name)]
            words += ["--threads", "1"]
            if math.isfinite(device.ram_mib):
                words += ["--ram-mib", str(int(device.ram_mib))]
            with log.open("wb") as stream:
                self._agents[device.name] = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=stream,
                    env=_environment(),
                )
            self._logs[device.name] = log
        with Connection(BrokerAddress.parse(self.url, environ={}), "edge-desk-fleet") as connection:
            connection.subscribe(topics.availability("+"), note)
            deadline = time.monotonic() + _ONLINE_TIMEOUT_S
            while waiting:
                for device_name in sorted(waiting):
                    if self._agents[device_name].poll() is not None or time.monotonic() > deadline:
                        raise AgentStartError(device_name, self._last_words(device_name))
                time.sleep(0.02)

    def _last_words(self, device: str) -> str:
        lines = self._logs[device].read_text(errors="replace").splitlines()
        return lines[-1] if lines else ""

    def _stop_agents(self) -> None:
        for agent in self._agents.values():
            agent.terminate()
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        for agent in self._agents.values():
            try:
                agent.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                agent.kill()
                agent.wait()


def _environment() -> dict[str, str]:
    """Return our environment without what would point the agents at another broker or account."""
    return {key: value for key, value in os.environ.items() if not key.startswith("EDGE_PARTITION")}
