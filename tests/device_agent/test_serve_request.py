"""Every request is answered once, with a result or an error, and acknowledged behind the answer."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from dense_models import make_pipeline

from device_agent.deployments import ServedStage
from device_agent.find_route import RouteFinder
from device_agent.load_stage import LoadedStage
from device_agent.serve_request import RequestServer
from device_agent.telemetry.stats import Stats
from device_agent.worker import QUEUE_LENGTH, Worker
from edge_core.contract.manifest import NEEDS_ROUTE
from edge_core.contract.messages import ERROR, GENERATION, ROUTE, TRACE, ErrorCode, decode_trace
from edge_core.contract.topics import Topics
from edge_core.mqtt.message import NO_RECEIPT, Message, Receipt
from edge_core.runtime.stage_interpreter import StageInterpreter

TOPICS = Topics()
#: The receipt of every request.
RECEIPT = Receipt(5, 1)


@dataclass
class Wire:
    """Messages that leave the board, in order; takes the place of a connection's socket."""

    sent: list[tuple[str, bytes, dict[str, Any]]] = field(default_factory=list)
    acknowledged: list[Receipt] = field(default_factory=list)
    keepalive_s = 10

    def publish(self, topic: str, *payload: bytes, **properties: Any) -> None:
        self.sent.append((topic, b"".join(payload), properties))

    def acknowledge(self, receipt: Receipt) -> None:
        self.acknowledged.append(receipt)


@dataclass
class Board:
    wire: Wire
    server: RequestServer
    stats: Stats
    stage: LoadedStage
    stages: dict[str, LoadedStage]
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
                "receipt": RECEIPT,
                **fields,
            }
        )

    def unroute(self) -> None:
        """Serve a manifest of the version before routes."""
        manifest = replace(self.stage.manifest, needs=())
        self.stages[self.stage.generation] = replace(self.stage, manifest=manifest)

    def ask(self, message: Message) -> tuple[str, bytes, dict[str, Any]]:
        """Return the only message that the board publishes; it answers the request."""
        self.wire.sent.clear()
        self.server.serve("net", 0, message)
        ((topic, payload, properties),) = self.wire.sent
        assert properties["answers"] == message.receipt
        assert self.wire.acknowledged == []
        return topic, payload, properties


@pytest.fixture(params=[True, False], ids=["last", "first-of-two"])
def board(request: pytest.FixtureRequest) -> Any:
    boards = [["pi-1"]] if request.param else [["pi-1"], ["pi-2", "pi-3"]]
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
    loaded = LoadedStage(replace(pipeline.manifest, needs=(NEEDS_ROUTE,)), stage, interpreter)
    assert loaded.is_last == request.param
    stages = {generation: loaded}
    served = ServedStage(generation, stages, frozenset({"theirs"}))
    wire, stats = Wire(), Stats()
    connection: Any = wire
    server = RequestServer(
        connection,
        TOPICS,
        "pi-1",
        served_stages=lambda: {("net", 0): served},
        stats=stats,
        finder=RouteFinder("pi-1"),
        wait_for_room=lambda: None,
    )
    return Board(wire, server, stats, loaded, stages, tensors[0].tobytes(), expected)


def test_a_result_goes_to_the_client_or_to_the_next_stage(board: Board) -> None:
    topic, payload, properties = board.ask(board.request(expiry_s=30))
    assert payload == board.output
    if board.stage.is_last:
        assert topic == "client/result"
    else:
        assert topic == TOPICS.board_stage("net", 1, "pi-2")
        assert properties["user"][ROUTE] == "pi-1,pi-2"
    assert properties["correlation_data"] == b"7"
    assert properties["user"][GENERATION] == board.stage.generation
    (trace,) = decode_trace(properties["user"][TRACE])
    assert (trace.stage, trace.device) == (0, "pi-1")
    assert properties["response_topic"] == (None if board.stage.is_last else "client/result")
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
    assert board.ask(board.request())[1] == board.output


@pytest.mark.parametrize("fields", [{"user": {GENERATION: "theirs"}}, {"response_topic": None}])
def test_a_request_that_this_board_does_not_answer_is_only_acknowledged(
    board: Board, fields: dict[str, Any]
) -> None:
    message = board.request(**fields)
    board.server.serve("net", 0, message)
    assert board.wire.sent == []
    assert board.wire.acknowledged == [message.receipt]


def test_a_request_keeps_its_route(board: Board) -> None:
    route = "pi-1" if board.stage.is_last else "pi-1,pi-3"
    topic, payload, properties = board.ask(board.request(user={ROUTE: route}))
    assert payload == board.output
    if not board.stage.is_last:
        assert topic == TOPICS.board_stage("net", 1, "pi-3")
        assert properties["user"][ROUTE] == route


def test_a_route_that_does_not_fit_is_refused(board: Board) -> None:
    if board.stage.is_last:
        return
    for route in ("pi-1", "pi-1,pi-9", "pi-1,+", "pi-1,pi-2,pi-3"):
        topic, payload, properties = board.ask(board.request(user={ROUTE: route}))
        assert (topic, properties["user"][ERROR]) == ("client/result", ErrorCode.BAD_ROUTE)
        assert b"pi-2, pi-3" in payload


def test_a_stage_of_a_manifest_without_routes_sends_to_the_shared_topic(board: Board) -> None:
    if board.stage.is_last:
        return
    board.unroute()
    topic, payload, properties = board.ask(board.request())
    assert payload == board.output
    assert topic == TOPICS.stage("net", 1)
    assert ROUTE not in properties["user"]


@pytest.mark.parametrize(
    ("reason", "code"), [(0x10, ErrorCode.NOT_LISTENING), (0x87, ErrorCode.BROKER_REFUSED)]
)
def test_a_result_that_the_next_board_does_not_get_becomes_an_error(
    board: Board, reason: int, code: ErrorCode
) -> None:
    _, _, properties = board.ask(board.request())
    if board.stage.is_last:
        assert properties["on_acknowledged"] is None
        return
    board.wire.sent.clear()
    properties["on_acknowledged"](0)
    assert board.wire.sent == []
    properties["on_acknowledged"](reason)
    ((topic, payload, error),) = board.wire.sent
    assert (topic, error["user"][ERROR]) == ("client/result", code)
    assert (error["correlation_data"], error["answers"]) == (b"7", NO_RECEIPT)
    assert TOPICS.board_stage("net", 1, "pi-2").encode() in payload


def test_a_request_to_a_full_queue_is_refused_at_once() -> None:
    wire = Wire()
    connection: Any = wire
    # Not started: everything waits.
    worker = Worker(
        connection, TOPICS, "pi-1", served_stages=dict, stats=Stats(), finder=RouteFinder("pi-1")
    )
    message = Message("t", b"", "client/result", b"1", None, {}, False, time.monotonic(), RECEIPT)  # noqa: FBT003
    for _ in range(QUEUE_LENGTH):
        worker.submit("net", 0, message)
    assert worker.queue_length() == QUEUE_LENGTH
    assert wire.sent == []
    worker.submit("net", 0, message)
    ((_, reason, properties),) = wire.sent
    assert properties["user"][ERROR] == ErrorCode.OVERLOADED
    assert properties["answers"] == RECEIPT
    assert str(QUEUE_LENGTH).encode() in reason
