"""Sends commands to agents, and waits for the agents' answers."""

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
    """An agent did not answer a command; each subclass is one cause.

    Attributes:
        device: Name of the board.
        command: Name of the command, such as ``ping``.
    """

    def __init__(self, device: str, command: str, text: str) -> None:
        self.device = device
        self.command = command
        super().__init__(text)


class RequestTimeoutError(NoAnswerError):
    """An agent did not answer a command in time.

    Attributes:
        timeout_s: Time for which the sender waited, in seconds.
    """

    def __init__(self, device: str, command: str, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        super().__init__(
            device,
            command,
            f"Board {device} did not answer the command '{command}' within {timeout_s:g} s. "
            f"Check that device-agent runs on the board with the option `--name {device}`.",
        )


class AgentLostError(NoAnswerError):
    """An agent went offline before it answered a command."""

    def __init__(self, device: str, command: str) -> None:
        super().__init__(
            device,
            command,
            f"Board {device} went offline before it answered the command '{command}': its "
            "device-agent ended or lost the connection to the broker. Read device-agent's log on "
            "the board, and run `dmesg | grep -i oom` there to see whether memory ran out.",
        )


class AgentRequests:
    """Sends commands to agents and waits for the answers.

    Methods may be called from any thread.
    """

    def __init__(self, connection: Connection, reply_topic: Topic) -> None:
        """Create the object; the first :meth:`request` subscribes to ``reply_topic``.

        Args:
            connection: The connection, which the caller opens before the first request.
            reply_topic: Topic of the answers. No other client may use this topic.
        """
        self._connection = connection
        self._reply_topic = reply_topic
        self._is_subscribed = False
        self._lock = threading.Lock()
        #: Agent's name and the future payload of its answer, by request id. The payload is None if
        #: the agent goes offline.
        self._replies: dict[bytes, tuple[str, Future[bytes | None]]] = {}
        #: Whether an agent is offline, by the agent's name. Contains the agents whose availability
        #: topic is subscribed.
        self._offline: dict[str, bool] = {}

    def request(
        self,
        topic: Topic,
        command: dict[str, Any],
        *,
        device: str,
        availability_topic: Topic | None = None,
        timeout_s: float = 10.0,
    ) -> dict[str, Any]:
        """Send a command to an agent, and return the JSON object of the agent's answer.

        Args:
            topic: Command topic of the agent.
            command: The command's JSON object. Its field ``command`` is the command's name.
            device: Name of the agent.
            availability_topic: Availability topic of the agent. A message ``offline`` on this topic
                ends the wait. None: the method waits ``timeout_s`` even if the agent is offline.
            timeout_s: Longest wait, in seconds.

        Raises:
            CommandError: The agent refused, or the answer is not JSON.
            RequestTimeoutError: No answer within ``timeout_s``.
            AgentLostError: The agent is offline.
            BrokerRefusedError: The access list forbids a subscription.
            BrokerUnreachableError: The broker did not answer a subscription within ``timeout_s``.
            MessageTooLargeError: The command is larger than the broker accepts.
        """
        if not self._is_subscribed:
            self._connection.subscribe(self._reply_topic, self._take_reply, timeout_s=timeout_s)
            self._is_subscribed = True
        name = str(command.get("command"))
        request_id = uuid.uuid4().bytes
        reply: Future[bytes | None] = Future()
        with self._lock:
            self._replies[request_id] = (device, reply)
        try:
            if availability_topic is not None:
                self._watch_availability(availability_topic, device, timeout_s)
            if self._offline.get(device):
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
        with self._lock:
            _, reply = self._replies.pop(message.correlation_data, (None, None))
        if reply is not None:
            reply.set_result(bytes(message.payload))

    def _watch_availability(self, availability_topic: Topic, device: str, timeout_s: float) -> None:
        """Subscribe to an agent's availability; ``offline`` ends all waits for this agent."""

        def note_availability(message: Message) -> None:
            is_offline = message.payload == OFFLINE
            with self._lock:
                self._offline[device] = is_offline
                asked = [key for key, (name, _) in self._replies.items() if name == device]
                lost = [self._replies.pop(key)[1] for key in asked] if is_offline else []
            for reply in lost:
                reply.set_result(None)

        with self._lock:
            if device in self._offline:
                return
            self._offline[device] = False
        self._connection.subscribe(availability_topic, note_availability, timeout_s=timeout_s)
