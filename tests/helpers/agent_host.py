"""The host for tests of the agent: starts agents, sends commands and requests."""

from __future__ import annotations

import base64
import json
import queue
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from any_topic import any_topic
from dense_models import Pipeline, sha256

from edge_core.contract.topics import Topic, Topics
from edge_core.mqtt.agent_requests import AgentRequests
from edge_core.mqtt.broker_address import BrokerAddress
from edge_core.mqtt.connection import Connection, Message
from edge_core.mqtt.read_retained import read_retained

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PATIENCE_S = 20.0


def wait_for(what: Callable[[], Any], timeout_s: float = PATIENCE_S) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


@dataclass
class AgentProcess:
    """An agent in a process of its own, as a user starts an agent."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def text(self) -> str:
        return self.log.read_text()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)


def start_agent(
    url: str, name: str, state_dir: Path, *options: str, python: str = sys.executable
) -> AgentProcess:
    log = state_dir.parent / f"{name}-{uuid.uuid4().hex[:6]}.txt"
    with log.open("wb") as stream:
        words = [python, "-m", "device_agent", "--broker", url, "--name", name]
        words += ["--state-dir", str(state_dir), "--threads", "1", *options]
        # Outside the checkout, so that the installed agent runs.
        process = subprocess.Popen(words, stdout=stream, stderr=stream, cwd=state_dir.parent)
    return AgentProcess(name, process, log)


@dataclass
class Host:
    """A client that sends commands and requests, and keeps the agents' messages."""

    url: str
    topics: Topics = field(default_factory=Topics)

    def __post_init__(self) -> None:
        self.client = f"test-{uuid.uuid4().hex[:8]}"
        self.connection = Connection(BrokerAddress.parse(self.url, environ={}), self.client)
        self.connection.open()
        self.requests = AgentRequests(self.connection, self.topics.answer(f"{self.client}-c"))
        self.availability: dict[str, bytes] = {}
        self.stats: list[dict[str, Any]] = []
        self.results: queue.Queue[Message] = queue.Queue()
        self.result_topic = self.topics.result(f"{self.client}-r")
        subscribe = self.connection.subscribe
        subscribe(self.topics.availability("+"), self._note_availability, timeout_s=PATIENCE_S)
        subscribe(self.topics.stats("+"), self._note_stats, timeout_s=PATIENCE_S)
        subscribe(any_topic(self.result_topic), self.results.put, timeout_s=PATIENCE_S)

    def _note_availability(self, message: Message) -> None:
        self.availability[self.topics.name_in(message.topic)] = bytes(message.payload)

    def _note_stats(self, message: Message) -> None:
        self.stats.append(json.loads(message.payload))

    def close(self) -> None:
        self.connection.close()

    def wait_for_availability(self, name: str, state: bytes) -> None:
        wait_for(lambda: self.availability.get(name) == state)

    def retained(self, topic: Topic) -> bytes | None:
        return read_retained(self.connection, topic, self.topics.result(self.client)).get(topic)

    def command(self, device: str, command: str, **arguments: Any) -> dict[str, Any]:
        return self.requests.request(
            self.topics.command(device),
            {"command": command, **arguments},
            device=device,
            timeout_s=PATIENCE_S,
        )

    # Deployment step by step

    def prepare(self, device: str, pipeline: Pipeline) -> dict[str, bytes]:
        """Send ``prepare``; return what the agent lacks, by SHA-256."""
        tensors = [tensor.tobytes() for tensor in pipeline.tensors(0)]
        contents = {sha256(data): data for data in (*tensors, *pipeline.files)}
        references = [
            {"stage": stage.index, "input": _file(before), "output": _file(after)}
            for stage in pipeline.manifest.stages_of(device)
            for before, after in [tensors[stage.index : stage.index + 2]]
        ]
        answer = self.command(
            device,
            "prepare",
            manifest=json.loads(pipeline.manifest.to_json()),
            references=references,
        )
        return {
            item["sha256"]: contents[item["sha256"]]
            for item in answer["artifacts"]
            if item["have_bytes"] < item["size_bytes"]
        }

    def store(self, device: str, data: bytes, offset: int, chunk: bytes) -> int:
        return self.command(
            device,
            "store",
            sha256=sha256(data),
            size_bytes=len(data),
            offset=offset,
            data=base64.b64encode(chunk).decode(),
        )["have_bytes"]

    def load(self, device: str, pipeline: Pipeline) -> list[dict[str, Any]]:
        for data in self.prepare(device, pipeline).values():
            middle = len(data) // 2
            assert self.store(device, data, 0, data[:middle]) == middle
            assert self.store(device, data, middle, data[middle:]) == len(data)
        manifest = pipeline.manifest
        return self.command(
            device, "load", deployment=manifest.deployment, generation=manifest.generation
        )["stages"]

    def publish_manifest(self, pipeline: Pipeline) -> None:
        manifest = pipeline.manifest
        self.connection.publish_and_wait(
            self.topics.manifest(manifest.deployment), manifest.to_json().encode()
        )

    def states(self, device: str) -> dict[str, str]:
        """Return the state of each generation on a device."""
        deployments = self.command(device, "status")["deployments"]
        return {item["generation"]: item["state"] for item in deployments}

    def deploy(self, pipeline: Pipeline) -> None:
        manifest = pipeline.manifest
        devices = sorted({name for stage in manifest.stages for name in stage.devices})
        for device in devices:
            self.load(device, pipeline)
        self.publish_manifest(pipeline)
        for device in devices:
            wait_for(lambda d=device: self.states(d).get(manifest.generation) == "live")

    # Requests

    def send(self, deployment: str, payload: bytes, *, stage: int = 0, **options: Any) -> bytes:
        request_id = uuid.uuid4().bytes
        options.setdefault("response_topic", self.result_topic)
        self.connection.publish(
            self.topics.stage(deployment, stage), payload, correlation_data=request_id, **options
        )
        return request_id

    def receive(self, timeout_s: float = PATIENCE_S) -> Message:
        return self.results.get(timeout=timeout_s)

    def ask(self, deployment: str, payload: bytes, **options: Any) -> Message:
        request_id = self.send(deployment, payload, **options)
        message = self.receive()
        assert message.correlation_data == request_id
        return message


def _file(data: bytes) -> dict[str, Any]:
    return {"sha256": sha256(data), "size_bytes": len(data)}
