"""The inference thread answers every request once, with a result or an error."""

from __future__ import annotations

import queue
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from dense_models import make_pipeline

from device_agent.deployments import Route
from device_agent.load_stage import LoadedStage
from device_agent.telemetry.stats import Stats
from device_agent.worker import QUEUE_LENGTH, Worker
from edge_core.contract.messages import ERROR, GENERATION, TRACE, ErrorCode, decode_trace
from edge_core.contract.topics import Topics
from edge_core.mqtt.connection import Message
from edge_core.runtime.stage_interpreter import StageInterpreter

TOPICS = Topics()
PATIENCE_S = 20


@dataclass
class Wire:
    """Messages that leave the board, in order; takes the place of a connection's socket."""

    sent: queue.Queue[tuple[Any, ...]] = field(default_factory=queue.Queue)

    def publish(self, topic: str, payload: bytes, **properties: Any) -> None:
        self.sent.put((topic, payload, properties))

    def acknowledge(self, message: Message) -> None:
        self.sent.put(("acknowledged", message))


@dataclass
class Board:
    wire: Wire
    worker: Worker
    stats: Stats
    stage: LoadedStage
    input: bytes
    output: bytes

    def request(self, **fields: Any) -> Message:
        return Message(
            **{
                "topic": TOPICS.stage("net", 0),
                "payload": self.input,
                "response_topic": "client/result",
                "correlation_data": b"7",
                "expiry_s": None,
                "user": {},
                "retained": False,
                "arrived": time.monotonic(),
                **fields,
            }
        )

    def ask(self, message: Message) -> tuple[str, bytes, dict[str, Any]]:
        """Return the message that the worker publishes; the acknowledgement must follow."""
        self.worker.submit("net", 0, message)
        topic, payload, properties = self.wire.sent.get(timeout=PATIENCE_S)
        assert self.wire.sent.get(timeout=PATIENCE_S) == ("acknowledged", message)
        return topic, payload, properties


@pytest.fixture(params=[True, False], ids=["last", "first-of-two"])
def board(request: pytest.FixtureRequest) -> Any:
    boards = [["pi-1"]] if request.param else [["pi-1"], ["pi-2"]]
    pipeline = make_pipeline("net", boards)
    (stage, *_), tensors = pipeline.manifest.stages, pipeline.tensors(3)
    specs = stage.inputs, pipeline.manifest.sent_by(0)
    interpreter, reference = (
        StageInterpreter(pipeline.files[0], *specs, num_threads=1) for _ in range(2)
    )
    # The expected bits come from the runtime; numpy's result differs by rounding.
    expected = reference.invoke(tensors[0].tobytes())
    assert np.allclose(np.frombuffer(expected, np.float32), tensors[1].ravel(), atol=1e-5)
    generation = pipeline.manifest.generation
    loaded = LoadedStage("net", generation, stage, request.param, interpreter)
    route = Route(generation, {generation: loaded}, frozenset({"theirs"}))
    wire, stats = Wire(), Stats()
    connection: Any = wire
    worker = Worker(connection, TOPICS, "pi-1", lambda: {("net", 0): route}, stats)
    worker.start()
    yield Board(wire, worker, stats, loaded, tensors[0].tobytes(), expected)
    worker.finish(PATIENCE_S)


def test_a_result_goes_to_the_client_or_to_the_next_stage(board: Board) -> None:
    topic, payload, properties = board.ask(board.request(expiry_s=30))
    assert payload == board.output
    assert topic == ("client/result" if board.stage.is_last else TOPICS.stage("net", 1))
    assert properties["correlation_data"] == b"7"
    assert properties["user"][GENERATION] == board.stage.generation
    (trace,) = decode_trace(properties["user"][TRACE])
    assert (trace.stage, trace.device) == (0, "pi-1")
    assert properties.get("response_topic", "client/result") == "client/result"
    if not board.stage.is_last:
        assert 0 < properties["expiry_s"] <= 30


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"payload": b"short"}, ErrorCode.BAD_PAYLOAD),
        ({"user": {GENERATION: "unknown"}}, ErrorCode.UNKNOWN_GENERATION),
        ({"expiry_s": 1, "arrived": time.monotonic() - 60}, ErrorCode.EXPIRED),
    ],
)
def test_a_request_that_cannot_be_served_gets_an_error(
    board: Board, fields: dict[str, Any], code: ErrorCode
) -> None:
    topic, payload, properties = board.ask(board.request(**fields))
    assert (topic, properties["user"][ERROR]) == ("client/result", code)
    assert b"net" in payload or b"pi-1" in payload
    # The thread survives the error.
    assert board.ask(board.request())[1] == board.output


@pytest.mark.parametrize("fields", [{"user": {GENERATION: "theirs"}}, {"response_topic": None}])
def test_a_request_that_this_board_does_not_answer_is_only_acknowledged(
    board: Board, fields: dict[str, Any]
) -> None:
    message = board.request(**fields)
    board.worker.submit("net", 0, message)
    assert board.wire.sent.get(timeout=PATIENCE_S) == ("acknowledged", message)


def test_a_request_to_a_full_queue_is_refused_at_once() -> None:
    wire = Wire()
    connection: Any = wire
    worker = Worker(connection, TOPICS, "pi-1", dict, Stats())  # not started: everything waits
    message = Message("t", b"", "client/result", b"1", None, {}, False, time.monotonic())  # noqa: FBT003
    for _ in range(QUEUE_LENGTH):
        worker.submit("net", 0, message)
    assert worker.queue_length() == QUEUE_LENGTH
    assert wire.sent.empty()
    worker.submit("net", 0, message)
    _, reason, properties = wire.sent.get_nowait()
    assert properties["user"][ERROR] == ErrorCode.OVERLOADED
    assert str(QUEUE_LENGTH).encode() in reason
    assert wire.sent.get_nowait() == ("acknowledged", message)
