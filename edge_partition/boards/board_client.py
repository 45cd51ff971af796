"""The host's connection to the boards: who is online, commands, files sent in chunks."""

from __future__ import annotations

import base64
import uuid
from typing import TYPE_CHECKING, Any, Self

from edge_core.contract.topics import DEFAULT_PREFIX, ONLINE, Topic, Topics
from edge_core.errors import EdgePartitionError
from edge_core.mqtt.agent_requests import AgentRequests
from edge_core.mqtt.broker_address import BrokerAddress
from edge_core.mqtt.connection import Connection
from edge_core.mqtt.read_retained import read_retained

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Bytes of a packet besides the chunk of the file: topic, properties and JSON.
CHUNK_OVERHEAD_BYTES = 2048
#: Larger chunks are no faster, and delay other messages on the board's link.
_MAX_CHUNK_BYTES = 256 * 1024
_MIN_CHUNK_BYTES = 1024
COMMAND_TIMEOUT_S = 20.0


class UnknownBoardError(EdgePartitionError):
    """A command needs boards that are not online.

    Attributes:
        missing: The needed boards that are not online.
        online: The boards that are online.
    """

    def __init__(self, missing: Sequence[str], online: Sequence[str], *, advice: str = "") -> None:
        self.missing = tuple(missing)
        self.online = tuple(online)
        there = f"boards online: {', '.join(online)}" if online else "no board is online"
        super().__init__(
            f"Not online: {', '.join(missing)}; {there}. Start `device-agent --name {missing[0]}` "
            f"on that board, or {advice or 'split for the boards that are online'}."
        )


class BoardClient:
    """A connection that sends commands to boards: the base class for deploying and profiling.

    A context manager: entering the context connects.
    """

    def __init__(self, broker: str | BrokerAddress, *, prefix: str = DEFAULT_PREFIX) -> None:
        """Prepare a connection; entering the context connects.

        Args:
            broker: The broker's address or URL.
            prefix: The topics' prefix.
        """
        address = BrokerAddress.parse(broker) if isinstance(broker, str) else broker
        client_id = f"edge-host-{uuid.uuid4().hex[:12]}"
        self._topics = Topics(prefix)
        self._reply_topic = self._topics.answer(client_id)
        self._connection = Connection(address, client_id)
        self._requests = AgentRequests(self._connection, self._reply_topic)

    def __enter__(self) -> Self:
        self._connection.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def _retained(self, topic_filter: Topic) -> dict[Topic, bytes]:
        return read_retained(self._connection, topic_filter, self._reply_topic)

    def _online(self) -> list[str]:
        found = self._retained(self._topics.availability("+"))
        return sorted(
            self._topics.name_in(topic) for topic, payload in found.items() if payload == ONLINE
        )

    def _ask(
        self, device: str, command: dict[str, Any], timeout_s: float = COMMAND_TIMEOUT_S
    ) -> dict[str, Any]:
        return self._requests.request(
            self._topics.command(device),
            command,
            device=device,
            availability_topic=self._topics.availability(device),
            timeout_s=timeout_s,
        )

    def _store(self, device: str, sha256: str, data: bytes, have_bytes: int) -> Iterator[int]:
        """Send a file in chunks, from offset ``have_bytes``; yield each chunk's size in bytes."""
        room = (self._connection.maximum_packet_size - CHUNK_OVERHEAD_BYTES) * 3 // 4
        chunk_bytes = max(_MIN_CHUNK_BYTES, min(_MAX_CHUNK_BYTES, room))
        for offset in range(have_bytes, len(data), chunk_bytes):
            chunk = data[offset : offset + chunk_bytes]
            self._ask(
                device,
                {
                    "command": "store",
                    "sha256": sha256,
                    "size_bytes": len(data),
                    "offset": offset,
                    "data": base64.b64encode(chunk).decode(),
                },
            )
            yield len(chunk)
