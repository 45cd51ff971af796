from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import pytest
from any_topic import any_topic
from connections import PATIENCE_S, address_of, listen, name

from edge_core.contract.messages import CommandError, ErrorCode, decode_json, encode_json
from edge_core.contract.topics import OFFLINE, ONLINE
from edge_core.mqtt.agent_requests import AgentLostError, AgentRequests, RequestTimeoutError
from edge_core.mqtt.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from broker_config.serve.broker_process import BrokerProcess
    from broker_config.serve.mosquitto import MosquittoBroker
    from edge_core.mqtt.connection import Message


@contextmanager
def agent(broker: BrokerProcess, answer: Callable[[dict[str, Any]], Any]) -> Iterator[str]:
    """Answer commands on a topic as an agent does; ``answer`` returns None for no answer."""
    topic = f"{name('device')}/command"
    with Connection(address_of(broker), name("agent")) as connection:

        def handle(message: Message) -> None:
            said = answer(decode_json(message.payload))
            if said is not None:
                assert message.response_topic is not None
                connection.publish(
                    any_topic(message.response_topic),
                    said if isinstance(said, bytes) else encode_json(said),
                    correlation_data=message.correlation_data,
                )

        connection.subscribe(any_topic(topic), handle, timeout_s=PATIENCE_S)
        yield topic


def ask(connection: Connection, topic: str, **options: Any) -> dict[str, Any]:
    if connection not in _REQUESTS:
        reply_topic = f"client/{connection.client_id}/result"
        _REQUESTS[connection] = AgentRequests(connection, any_topic(reply_topic))
    command = {"command": "ping", "n": options.pop("n", 0)}
    return _REQUESTS[connection].request(any_topic(topic), command, device="pi-1", **options)


_REQUESTS: WeakKeyDictionary[Connection, AgentRequests] = WeakKeyDictionary()


def test_concurrent_requests_each_get_their_own_answer(any_broker: BrokerProcess) -> None:
    answers: dict[int, Any] = {}
    with (
        agent(any_broker, lambda command: {"ok": True, "n": command["n"]}) as topic,
        Connection(address_of(any_broker), name("host")) as host,
    ):
        assert ask(host, topic, n=-1)["n"] == -1

        def run(number: int) -> None:
            answers[number] = ask(host, topic, n=number)["n"]

        threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == {number: number for number in range(8)}


def test_answers_are_acknowledged_with_a_small_receive_maximum(mosquitto: MosquittoBroker) -> None:
    """Agents that ask other agents have such a connection."""
    availability = f"{name('device')}/availability"
    with (
        agent(mosquitto, lambda command: {"ok": True, "n": command["n"]}) as topic,
        Connection(address_of(mosquitto), name(), receive_maximum=2) as asking,
        Connection(address_of(mosquitto), name()) as board,
    ):
        for number in range(5):
            board.publish_and_wait(any_topic(availability, retained=True), ONLINE)
            wait = {"availability_topic": any_topic(availability), "timeout_s": PATIENCE_S}
            assert ask(asking, topic, n=number, **wait)["n"] == number


def test_a_request_without_an_answer_times_out_with_the_boards_name(
    mosquitto: MosquittoBroker,
) -> None:
    with (
        agent(mosquitto, lambda _command: None) as topic,
        Connection(address_of(mosquitto), name("host")) as host,
    ):
        with pytest.raises(
            RequestTimeoutError, match="pi-1 did not answer the command 'ping'"
        ) as caught:
            ask(host, topic, timeout_s=0.3)
        assert caught.value.timeout_s == 0.3


def test_an_agent_that_goes_offline_ends_the_wait_for_its_answer(any_broker: BrokerProcess) -> None:
    availability = f"{name('device')}/availability"
    asked: list[int] = []

    def answer(command: dict[str, Any]) -> dict[str, Any] | None:
        asked.append(command["n"])
        if command["n"] == 1:
            said.publish(any_topic(availability, retained=True), OFFLINE)
            return None
        return {"ok": True, "n": command["n"]}

    with (
        Connection(address_of(any_broker), name("said")) as said,
        agent(any_broker, answer) as topic,
        Connection(address_of(any_broker), name("host")) as host,
    ):
        said.publish_and_wait(any_topic(availability, retained=True), ONLINE)
        wait = {"availability_topic": any_topic(availability), "timeout_s": PATIENCE_S}
        assert ask(host, topic, n=0, **wait)["n"] == 0
        for n in (1, 2):
            with pytest.raises(AgentLostError, match=r"pi-1 went offline before .* 'ping'"):
                ask(host, topic, n=n, **wait)
        # An offline agent gets no commands; an agent that is back online does.
        assert asked == [0, 1]
        heard = listen(host, marker := name())
        said.publish_and_wait(any_topic(availability, retained=True), ONLINE)
        said.publish(any_topic(marker), b"")
        heard.get(timeout=PATIENCE_S)
        assert ask(host, topic, n=3, **wait)["n"] == 3
        # A later host reads the retained availability.
        said.publish_and_wait(any_topic(availability, retained=True), OFFLINE)
        with (
            Connection(address_of(any_broker), name("host")) as late,
            pytest.raises(AgentLostError),
        ):
            ask(late, topic, n=1, **wait)


def test_a_late_answer_does_not_answer_the_next_request(mosquitto: MosquittoBroker) -> None:
    release = threading.Event()

    def answer(command: dict[str, Any]) -> dict[str, Any]:
        if command["n"] == 1:
            release.wait(PATIENCE_S)
        return {"ok": True, "n": command["n"]}

    with (
        agent(mosquitto, answer) as topic,
        Connection(address_of(mosquitto), name("host")) as host,
    ):
        with pytest.raises(RequestTimeoutError):
            ask(host, topic, n=1, timeout_s=0.2)
        release.set()
        assert ask(host, topic, n=2)["n"] == 2


@pytest.mark.parametrize(
    ("said", "code", "reason"),
    [
        ({"ok": False, "code": "no-memory", "reason": "9 MB free"}, "no-memory", "9 MB free"),
        ({"ok": False, "code": "of-the-future", "reason": "x"}, "bad-command", "x"),
        ({"ok": False, "code": [], "reason": "x"}, "bad-command", "x"),
        ({}, "bad-command", "no reason given"),
        (b"not json", "bad-command", "not JSON"),
    ],
)
def test_a_refused_request_has_the_code_and_the_reason(
    mosquitto: MosquittoBroker, said: Any, code: str, reason: str
) -> None:
    with (
        agent(mosquitto, lambda _command: said) as topic,
        Connection(address_of(mosquitto), name("host")) as host,
        pytest.raises(CommandError, match=reason) as caught,
    ):
        ask(host, topic)
    assert caught.value.code is ErrorCode(code)
