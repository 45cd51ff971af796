"""A fleet on one machine: a broker, and one agent process for each board.

The processes are connected over the loopback interface.
"""

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

from broker_config.serve.start_broker import start_broker
from edge_core.contract.topics import ONLINE, Topics
from edge_core.errors import EdgePartitionError
from edge_core.mqtt.broker_address import BrokerAddress
from edge_core.mqtt.connection import Connection
from edge_core.program.die_with_parent import bound_to_caller
from edge_partition.emulation.limit_board import BoardLimiter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_core.mqtt.connection import Message
    from edge_partition.emulation.limit_board import Limits
    from edge_partition.planning.fleet import Device, Fleet

_ONLINE_TIMEOUT_S = 20.0
_STOP_TIMEOUT_S = 15.0


class AgentStartError(EdgePartitionError):
    """An agent did not come online. The message ends with the last line of the agent's log.

    Attributes:
        device: The agent's name.
    """

    def __init__(self, device: str, last_line: str) -> None:
        self.device = device
        super().__init__(
            f"The agent {device} did not come online: {last_line or 'its log is empty'}"
        )


class DeskFleet:
    """A broker and one agent for each board, all on this machine.

    A context manager: entering the context starts the processes, and leaving the context ends
    them.

    Attributes:
        url: The broker's URL; empty until the context is entered.
        broker_description: The broker's kind and version; empty until the context is entered.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        limits: Mapping[str, Limits] | None = None,
        shape_links: bool = False,
    ) -> None:
        """Prepare a fleet; entering the context starts the fleet's processes.

        Args:
            fleet: The boards.
            limits: Limits of the agents, by board name; None: no limits.
            shape_links: Whether to emulate each board's link, with the bandwidth
                ``link_mbit_s`` and the delay ``link_ms`` of the board.
        """
        self._fleet = fleet
        self._limits = limits
        self._shape_links = shape_links
        self._resources = ExitStack()
        self._agents: dict[str, subprocess.Popen[bytes]] = {}
        self._links: list[subprocess.Popen[bytes]] = []
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
            limiter = None if self._limits is None else BoardLimiter()
            if limiter is not None:
                resources.callback(limiter.close)
            resources.callback(self._stop_agents)
            self._start_agents(folder, limiter)
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def _start_agents(self, folder: Path, limiter: BoardLimiter | None) -> None:
        topics = Topics()
        waiting = {device.name for device in self._fleet.devices}

        def note(message: Message) -> None:
            if message.payload == ONLINE:
                waiting.discard(topics.name_in(message.topic))

        for device in self._fleet.devices:
            log = folder / f"{device.name}.log"
            url = self._start_link(device) if self._shape_links else self.url
            words = [sys.executable, "-m", "device_agent", "--broker", url]
            words += ["--name", device.name, "--state-dir", str(folder / device.name)]
            threads = 1
            if limiter is not None and self._limits is not None:
                threads = math.ceil(self._limits[device.name].cpu_share)
            words += ["--threads", str(threads)]
            if math.isfinite(device.ram_mib):
                words += ["--ram-mib", str(int(device.ram_mib))]
            if limiter is not None and self._limits is not None:
                words = limiter.command(device.name, self._limits[device.name], words)
            with log.open("wb") as stream:
                self._agents[device.name] = subprocess.Popen(
                    bound_to_caller(words),
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
                        raise AgentStartError(device_name, self._last_line(device_name))
                time.sleep(0.02)

    def _start_link(self, device: Device) -> str:
        """Start a link for the board; return the URL of the broker over this link."""
        words = [sys.executable, "-m", "edge_partition.emulation.shaped_link"]
        words += ["--to", self.url.removeprefix("mqtt://")]
        words += ["--mbit-s", str(device.link_mbit_s), "--delay-ms", str(device.link_ms)]
        link = subprocess.Popen(bound_to_caller(words), stdout=subprocess.PIPE)
        self._links.append(link)
        if link.stdout is None or not (line := link.stdout.readline().strip()):
            raise AgentStartError(device.name, "its emulated link could not be started")
        return f"mqtt://127.0.0.1:{int(line)}"

    def _last_line(self, device: str) -> str:
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
        for link in self._links:
            link.terminate()
            link.wait()
            if link.stdout is not None:
                link.stdout.close()


def _environment() -> dict[str, str]:
    """Return the environment without the variables that may name another broker or account."""
    return {key: value for key, value in os.environ.items() if not key.startswith("EDGE_PARTITION")}
