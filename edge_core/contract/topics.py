"""The topics of a fleet, with their senders, readers, payloads and delivery.

``TOPIC_KINDS`` lists every kind of topic under the fleet's prefix. The only other kinds are under
Home Assistant's prefix; they are defined in ``mqtt_monitor/exports/discovery_message.py``. Code
that publishes or subscribes takes quality of service and retention from the kind. A broker's access
list must grant what ``sent_by`` and ``read_by`` say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from edge_core.errors import EdgePartitionError

DEFAULT_PREFIX = "edge/v1"

ONLINE = b"online"
OFFLINE = b"offline"

_PREFIX_PATTERN = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")


class Role(StrEnum):
    """A kind of program that connects to the broker."""

    AGENT = "agent"
    HOST = "host"
    CLIENT = "client"
    MONITOR = "monitor"


class Payload(StrEnum):
    """The format of a message's payload."""

    STATE = "'online' or 'offline'"
    JSON = "a JSON object"
    MANIFEST = "a manifest in JSON, or an empty payload after the end of the deployment"
    TENSORS = "tensors as little-endian bytes, or a sentence with the user property 'error'"


@dataclass(frozen=True)
class TopicKind:
    """A kind of topic, such as the availability of a board.

    Attributes:
        pattern: The levels after the prefix; ``{...}`` stands for a name.
        sent_by: The programs that publish.
        read_by: The programs that subscribe.
        payload: The format of a message.
        qos: The quality of service of a message, 0 or 1.
        retained: Whether the broker keeps the last message for later subscribers.
    """

    pattern: str
    sent_by: tuple[Role, ...]
    read_by: tuple[Role, ...]
    payload: Payload
    qos: int = 1
    retained: bool = False


_A, _H, _C, _M = Role.AGENT, Role.HOST, Role.CLIENT, Role.MONITOR
_ALL = (_A, _H, _C, _M)

# The arguments: pattern, sent by, read by, payload, delivery.
AVAILABILITY = TopicKind("device/{device}/availability", (_A,), _ALL, Payload.STATE, retained=True)
PROFILE = TopicKind("device/{device}/profile", (_A,), (_H, _M), Payload.JSON, retained=True)
STATS = TopicKind("device/{device}/stats", (_A,), (_M,), Payload.JSON, qos=0)
COMMAND = TopicKind("device/{device}/command", (_H, _A), (_A,), Payload.JSON)
MANIFEST = TopicKind(
    "deployment/{deployment}/manifest", (_H, _A), _ALL, Payload.MANIFEST, retained=True
)  # fmt: skip
STAGE = TopicKind("deployment/{deployment}/stage/{index}", (_C, _A), (_A,), Payload.TENSORS)
BOARD_STAGE = TopicKind(
    "deployment/{deployment}/stage/{index}/{device}", (_C, _A), (_A,), Payload.TENSORS
)
RESULT = TopicKind("client/{client}/result", (_A,), (_C, _M), Payload.TENSORS)
ANSWER = TopicKind("client/{client}/result", (_A,), (_H, _A), Payload.JSON)
TRACE = TopicKind("client/{client}/trace", (_C,), (_M,), Payload.JSON, qos=0)

TOPIC_KINDS = (
    AVAILABILITY, PROFILE, STATS, COMMAND, MANIFEST, STAGE, BOARD_STAGE, RESULT, ANSWER, TRACE,
)  # fmt: skip


class Topic(str):
    """A topic or a topic filter, with its kind.

    Attributes:
        kind: The kind of topic, which sets the quality of service and retention of messages.
    """

    __slots__ = ("kind",)

    kind: TopicKind

    def __new__(cls, text: str, kind: TopicKind) -> Self:
        """Return ``text`` as a topic of ``kind``."""
        topic = super().__new__(cls, text)
        topic.kind = kind
        return topic

    def below(self, level: str) -> Topic:
        """Append ``level`` to this topic; return the result as a topic of the same kind."""
        return Topic(f"{self}/{level}", self.kind)


class TopicPrefixError(EdgePartitionError):
    """A topic prefix has an empty level or a character that is not allowed."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        super().__init__(
            f"The topic prefix {prefix!r} is not usable; expected levels of letters, digits, "
            f"'.', '_' and '-' joined by '/', such as {DEFAULT_PREFIX!r}."
        )


@dataclass(frozen=True)
class Topics:
    """The topics under one prefix.

    In each method, ``+`` may stand for the name of a board, deployment or client. The method then
    returns a topic filter for all boards, deployments or clients.

    Attributes:
        prefix: The first levels of every topic, without a slash at either end.
    """

    prefix: str = DEFAULT_PREFIX

    def __post_init__(self) -> None:
        if not _PREFIX_PATTERN.fullmatch(self.prefix):
            raise TopicPrefixError(self.prefix)

    def availability(self, device: str) -> Topic:
        """Return the topic for a board's availability: ``online`` or ``offline``."""
        return self._topic(AVAILABILITY, device=device)

    def profile(self, device: str) -> Topic:
        """Return the topic for a board's hardware, runtime, measured speed and free memory."""
        return self._topic(PROFILE, device=device)

    def stats(self, device: str) -> Topic:
        """Return the topic for a board's load and stage statistics, sent every few seconds."""
        return self._topic(STATS, device=device)

    def command(self, device: str) -> Topic:
        """Return the topic for commands to a board's agent."""
        return self._topic(COMMAND, device=device)

    def manifest(self, deployment: str) -> Topic:
        """Return the topic for a deployment's live manifest."""
        return self._topic(MANIFEST, deployment=deployment)

    def stage(self, deployment: str, index: int) -> Topic:
        """Return the topic for a stage's requests that may go to any board of the stage."""
        return self._topic(STAGE, deployment=deployment, index=index)

    def board_stage(self, deployment: str, index: int, device: str) -> Topic:
        """Return the topic for a stage's requests that must go to the board ``device``."""
        return self._topic(BOARD_STAGE, deployment=deployment, index=index, device=device)

    def stage_subscription(self, deployment: str, index: int, replicas: int) -> Topic:
        """Return the topic filter by which an agent subscribes to the topic of :meth:`stage`.

        If the stage has replicas, the subscription is shared: the broker sends each message to one
        of the agents (MQTT 5.0, section 4.8.2).
        """
        topic = self.stage(deployment, index)
        return Topic(f"$share/{deployment}-{index}/{topic}", STAGE) if replicas > 1 else topic

    def result(self, client: str) -> Topic:
        """Return the topic for a client's results."""
        return self._topic(RESULT, client=client)

    def answer(self, client: str) -> Topic:
        """Return the topic for answers to the commands that ``client``, a host or agent, sends."""
        return self._topic(ANSWER, client=client)

    def trace(self, client: str) -> Topic:
        """Return the topic for the times that a client measured for some of its requests."""
        return self._topic(TRACE, client=client)

    def name_in(self, topic: str) -> str:
        """Return the name of the board, deployment or client in ``topic``."""
        return topic[len(self.prefix) :].split("/")[2]

    def _topic(self, kind: TopicKind, **names: object) -> Topic:
        return Topic(f"{self.prefix}/{kind.pattern.format_map(names)}", kind)
