"""Keeps one retained discovery message for each board at the broker, for Home Assistant.

No other module of the monitor publishes messages. This module publishes only below Home Assistant's
prefix. It has a connection to the broker of its own; the feed's connection only reads.
"""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING, Self

from edge_core.contract.topics import ONLINE, Topic, Topics
from edge_core.errors import BrokerRefusedError, BrokerUnreachableError, EdgePartitionError
from edge_core.mqtt.connection import Connection
from edge_core.mqtt.read_retained import read_retained
from mqtt_monitor.exports.discovery_message import BIRTH, config_topic, describe_board, is_ours

if TYPE_CHECKING:
    from edge_core.mqtt.broker_address import BrokerAddress
    from edge_core.mqtt.connection import Message
    from mqtt_monitor.fleet.snapshot import Fleet

DEFAULT_DISCOVERY_PREFIX = "homeassistant"
_ANSWER_S = 10.0


class DiscoveryAccessError(EdgePartitionError):
    """The account at the broker has no right to read or to write Home Assistant's topics."""

    def __init__(self, broker_url: str, prefix: str) -> None:
        self.broker_url = broker_url
        self.prefix = prefix
        super().__init__(
            f"The account at {broker_url} can't read and write {prefix}/#. Home Assistant's "
            "discovery needs both rights: add them to the broker's access list."
        )


class HomeAssistant:
    """Publishes the discovery messages of one fleet. A context manager, which connects on entry.

    All calls of the methods must come from one thread.
    """

    def __init__(self, address: BrokerAddress, topics: Topics, discovery: Topics) -> None:
        """Prepare the connection.

        Args:
            address: The broker, which the fleet and Home Assistant share.
            topics: The fleet's topics.
            discovery: The topics under Home Assistant's discovery prefix.
        """
        self._topics = topics
        self._discovery = discovery
        #: Set after a start of Home Assistant, which then needs all messages again.
        self._restarted = threading.Event()
        #: Set after a reconnection: the broker may have lost its retained messages.
        self._reread = threading.Event()
        #: The fleet's discovery messages that the broker retains, by topic.
        self._held: dict[Topic, bytes] = {}
        self._connection = Connection(
            address, f"edge-discovery-{uuid.uuid4().hex[:12]}", on_connected=self._reread.set
        )

    def __enter__(self) -> Self:
        """Connect, and read the discovery messages that earlier runs left at the broker.

        Raises:
            BrokerUnreachableError: No broker answers at the address.
            BrokerRefusedError: The broker refused the connection.
            DiscoveryAccessError: The account at the broker has no right to read or to write Home
                Assistant's topics.
        """
        self._connection.open()
        try:
            self._connection.subscribe(
                Topic(f"{self._discovery.prefix}/status", BIRTH), self._status, timeout_s=_ANSWER_S
            )
            self._reread.clear()
            self._read()
        except (BrokerRefusedError, BrokerUnreachableError):
            connected = self._connection.is_connected
            self._connection.close()
            if not connected:
                raise
            raise DiscoveryAccessError(
                self._connection.address.url, self._discovery.prefix
            ) from None
        except BaseException:
            self._connection.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def follow(self, fleet: Fleet) -> int:
        """Publish the discovery messages that have changed; return how many were published.

        A board that has left the fleet is removed from Home Assistant. Without a connection to the
        broker, this method publishes nothing and returns 0; a later call publishes the messages.

        Raises:
            BrokerUnreachableError: The connection was lost during the call; call again.
        """
        if not (self._connection.is_connected and fleet.broker.connected):
            return 0
        if self._reread.is_set():
            self._reread.clear()
            try:
                self._read()
            except EdgePartitionError:
                self._reread.set()
                raise
        wanted = {
            config_topic(self._discovery, self._topics, device.name): describe_board(
                self._topics, device
            )
            for device in fleet.devices.values()
            if device.state != "unknown"
        }
        if self._restarted.is_set():
            # Home Assistant ignores the messages that it already has.
            self._restarted.clear()
            changed = dict(wanted)
        else:
            changed = {
                topic: payload
                for topic, payload in wanted.items()
                if self._held.get(topic) != payload
            }
        changed |= {topic: b"" for topic in self._held if topic not in wanted}
        self._publish(changed)
        return len(changed)

    def remove(self) -> int:
        """Remove all boards of this fleet from Home Assistant; return the number of boards."""
        gone = dict.fromkeys(self._held, b"")
        self._publish(gone)
        return len(gone)

    def _read(self) -> None:
        found = read_retained(
            self._connection,
            config_topic(self._discovery, self._topics, "+"),
            # The topic for the message that marks the end of the retained messages. Home Assistant
            # does not read this topic.
            Topic(f"{self._discovery.prefix}/edge-partition/{self._connection.client_id}", BIRTH),
            timeout_s=_ANSWER_S,
        )
        self._held = {
            topic: payload
            for topic, payload in found.items()
            if is_ours(self._topics, topic, payload)
        }

    def _publish(self, messages: dict[Topic, bytes]) -> None:
        for topic, payload in messages.items():
            # Each message waits for the broker's acknowledgement: no queue grows, and _held has
            # only messages that the broker has received.
            self._connection.publish_and_wait(topic, payload, timeout_s=_ANSWER_S)
            if payload:
                self._held[topic] = payload
            else:
                del self._held[topic]

    def _status(self, message: Message) -> None:
        # A retained message is about an earlier start of Home Assistant.
        if message.payload == ONLINE and not message.retained:
            self._restarted.set()
