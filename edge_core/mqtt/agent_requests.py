"""Commands to agents, and their answers."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from edge_core.contract.messages import CommandError, ErrorCode, decode_json, encode_json
from edge_core.contract.topics import OFFLINE
from edge_core.errors import EdgePartitionError

if TYPE_CHECKING:
    from edge_core.contract.topics import Topic
    from edge_core.mqtt.connection import Connection, Message


class NoAnswerError(EdgePartitionError):
    """An agent did not answer a command.

    Attributes:
        device: The agent.
        command: What it was asked.
    """

    def __init__(self, device: str, command: str, text: str) -> None:
        self.device = device
        self.command = command
        super().__init__(text)


class RequestTimeoutError(NoAnswerError):
    """An agent did not answer a command in time.

    Attributes:
        timeout_s: How long the answer was awaited.
    """

    def __init__(self, device: str, command: str, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        super().__init__(
            device,
            command,
            f"Board {device} did not answer '{command}' within {timeout_s:g} s. "
            f"Check that its agent runs: `device-agent --name {device} ...`.",
        )


class AgentLostError(NoAnswerError):
    """The broker said that an agent is gone while its answer was awaited."""

    def __init__(self, device: str, command: str) -> None:
        super().__init__(
            device,
            command,
            f"Board {device} went offline before it answered '{command}': its agent ended or lost "
            "the broker. Its log says which, or the kernel's, if it ran out of memory: "
            "`dmesg | grep -i oom`.",
        )


class AgentRequests:
    """Sends commands and waits for their answers. Methods may be called from any thread."""

    def __init__(self, connection: Connection, reply_topic: Topic) -> None:
        """Subscribe to nothing yet.

        Args:
            connection: An open connection, when the first command is sent.
            reply_topic: The topic of the answers, which nobody else uses.
        """
        self._connection = connection
        self._reply_topic = reply_topic
        self._is_listening = False
        self._lock = threading.Lock()
        #: By request id: the agent asked, and its answer's payload; None: the agent is gone.
        self._replies: dict[bytes, tuple[str, Future[bytes | bytearray | None]]] = {}
        #: Agents whose availability is listened to, and whether the broker says they are gone.
        self._gone: dict[str, bool] = {}

    def request(
        self,
        topic: Topic,
        command: dict[str, Any],
        *,
        device: str,
        availability_topic: Topic | None = None,
        timeout_s: float = 10.0,
    ) -> dict[str, Any]:
        """Send a command and return its answer.

        Args:
            topic: The agent's command topic.
            command: The command's fields.
            device: The agent's name.
            availability_topic: The topic on which the broker says ``offline`` for an agent that is
                gone, which ends the wait; None: do not listen there.
            timeout_s: How long to wait.

        Raises:
            CommandError: The agent refused, or the answer is not JSON.
            RequestTimeoutError: No answer within ``timeout_s``.
            AgentLostError: The agent is offline.
            MessageTooLargeError: The command doesn't fit into one packet.
        """
        if not self._is_listening:
            self._connection.subscribe(self._reply_topic, self._take_reply, timeout_s=timeout_s)
            self._is_listening = True
        name = str(command.get("command"))
        request_id = uuid.uuid4().bytes
        reply: Future[bytes | bytearray | None] = Future()
        with self._lock:
            self._replies[request_id] = (device, reply)
        try:
            if availability_topic is not None:
                self._watch(availability_topic, device, timeout_s)
            if self._gone.get(device):
                raise AgentLostError(device, name)
            self._connection.publish(
                topic,
                encode_json(command),
                response_topic=self._reply_topic,
                correlation_data=request_id,
                expiry_s=max(1, int(timeout_s)),
            )
            payload = reply.result(timeout_s)
        except TimeoutError:
            raise RequestTimeoutError(device, name, timeout_s) from None
        finally:
            with self._lock:
                self._replies.pop(request_id, None)
        if payload is None:
            raise AgentLostError(device, name)
        answer = decode_json(payload)
        if not answer.get("ok"):
            code = answer.get("code")
            known = code if code in list(ErrorCode) else ErrorCode.BAD_COMMAND
            raise CommandError(ErrorCode(known), str(answer.get("reason", "no reason given")))
        return answer

    def _take_reply(self, message: Message) -> None:
        # Otherwise each reply would hold a place of the receive maximum for good.
        self._connection.acknowledge(message)
        with self._lock:
            _, reply = self._replies.pop(message.correlation_data, (None, None))
        if reply is not None:
            reply.set_result(message.payload)

    def _watch(self, availability_topic: Topic, device: str, timeout_s: float) -> None:
        """From now on, end the wait for an agent's answer when the broker says it is gone."""

        def learn(message: Message) -> None:
            self._connection.acknowledge(message)
            is_gone = message.payload == OFFLINE
            with self._lock:
                self._gone[device] = is_gone
                asked = [key for key, (name, _) in self._replies.items() if name == device]
                lost = [self._replies.pop(key)[1] for key in asked] if is_gone else []
            for reply in lost:
                reply.set_result(None)

        with self._lock:
            if device in self._gone:
                return
            self._gone[device] = False
        self._connection.subscribe(availability_topic, learn, timeout_s=timeout_s)
