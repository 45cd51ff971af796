"""Commands are answered once, after the subscriptions for the state in the answer."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from board_deployments import assignment, generation_of

from device_agent.artifact_store import ArtifactStore
from device_agent.capacity import Capacity
from device_agent.command_inbox import CommandInbox
from device_agent.commands import Commands
from device_agent.jobs import Jobs
from device_agent.locked_deployments import LockedDeployments
from device_agent.saved_state import SavedState
from device_agent.subscriptions import Subscriptions
from device_agent.timing.time_messages import MessageTimer
from edge_core.contract.topics import Topics
from edge_core.mqtt.broker_address import BrokerAddress
from edge_core.mqtt.message import Message

if TYPE_CHECKING:
    from pathlib import Path

TOPICS = Topics()


class Wire:
    """Packets that leave the board, in order; takes the place of a connection's socket."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, dict[str, Any]]] = []

    def subscribe(self, topic: str, _handler: object = None) -> None:
        self.sent.append(("subscribe", topic, {}))

    def unsubscribe(self, topic: str) -> None:
        self.sent.append(("unsubscribe", topic, {}))

    def publish(self, topic: str, payload: bytes, **_properties: object) -> None:
        self.sent.append(("publish", topic, json.loads(payload)))


class Board:
    """An inbox with commands, deployments and a state directory, and a wire for the network."""

    def __init__(self, folder: Path) -> None:
        self.wire = Wire()
        connection: Any = self.wire
        self.deployments = LockedDeployments("pi-1")
        store = ArtifactStore(folder)
        self.jobs = Jobs()
        self.subscriptions = Subscriptions(
            connection, connection, TOPICS, self.deployments, lambda _: None
        )
        self.changes: list[str] = []
        self.inbox = CommandInbox(
            connection,
            self.jobs,
            device="pi-1",
            instance="abc",
            update_subscriptions=self.subscriptions.update,
            on_changed=lambda: self.changes.append("changed"),
        )
        self.inbox.commands = Commands(
            "pi-1",
            self.deployments,
            store,
            SavedState("pi-1", self.deployments, store, threads=1),
            capacity=Capacity("pi-1", store, None),
            timer=MessageTimer(BrokerAddress("127.0.0.1", 1), "pi-1", TOPICS.answer("pi-1"), 1),
            threads=1,
        )

    def take(self, payload: bytes, **fields: Any) -> None:
        self.inbox.take(
            Message(
                **{
                    "topic": TOPICS.command("pi-1"),
                    "payload": payload,
                    "response_topic": "host/result",
                    "correlation_data": b"7",
                    "expiry_s": None,
                    "user": {},
                    "retained": False,
                    "arrived": time.monotonic(),
                    **fields,
                }
            )
        )

    def work(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Do all jobs and return all sent packets."""
        self.jobs.start()
        self.jobs.finish(20)
        return self.wire.sent


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def test_status_is_answered_after_the_subscriptions_for_the_reported_state(board: Board) -> None:
    taken = assignment("a1", ("pi-1", "pi-2"))
    with board.deployments.change() as deployments:
        deployments.restore("net", live=None, prepared=generation_of(taken))
    board.subscriptions.update()
    shared = TOPICS.stage_subscription("net", 0, 2)
    assert ("subscribe", shared, {}) not in board.wire.sent
    # The network thread has changed the state and was stopped before it subscribed.
    assert board.deployments.manifest_arrived("net", taken.manifest.to_json().encode())
    board.take(b'{"command": "status"}')
    *_, subscribed, (kind, topic, answer) = board.work()
    assert subscribed == ("subscribe", shared, {})
    assert (kind, topic) == ("publish", "host/result")
    assert [item["state"] for item in answer["deployments"]] == ["live"]


def test_a_ping_is_answered_at_once_and_a_status_by_the_jobs_thread(board: Board) -> None:
    board.take(b'{"command": "ping"}')
    board.take(b'{"command": "status"}')
    assert [sent[2] for sent in board.wire.sent] == [
        {"ok": True, "device": "pi-1", "instance": "abc"}
    ]
    assert board.work()[1][2] == {"ok": True, "deployments": []}
    assert board.changes == []


@pytest.mark.parametrize(
    ("payload", "code", "says"),
    [
        (b"{", "bad-command", "not JSON"),
        (b'{"command": "dance"}', "bad-command", "expected ping, prepare, store"),
        (b'{"command": "remove", "deployment": "net"}', "not-found", "no generation of net"),
    ],
)
def test_a_refusal_has_a_code_and_a_reason(
    board: Board, payload: bytes, code: str, says: str
) -> None:
    board.take(payload)
    ((_, _, answer),) = board.work()
    assert (answer["ok"], answer["code"]) == (False, code)
    assert says in answer["reason"]
    assert board.changes == (["changed"] if b"remove" in payload else [])


def test_a_retained_command_and_an_expired_one_are_not_executed(board: Board) -> None:
    board.take(b'{"command": "status"}', retained=True)
    board.take(b'{"command": "status"}', expiry_s=1, arrived=time.monotonic() - 60)
    assert board.work() == []


def test_a_stopping_agent_and_a_full_queue_refuse(board: Board) -> None:
    for _ in range(33):
        board.take(b'{"command": "status"}')
    ((_, _, answer),) = board.wire.sent
    assert answer["code"] == "overloaded"
    assert "32 commands are waiting" in answer["reason"]
    board.inbox.is_stopping = True
    board.take(b'{"command": "status"}')
    assert board.wire.sent[-1][2]["code"] == "stopping"
