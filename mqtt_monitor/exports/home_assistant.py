"""Boards in Home Assistant: keeps one retained discovery message a board at the broker.

Unlike the monitor's faces this writes, below Home Assistant's own prefix alone: it has a connection
of its own, whose account may be another's business than to see the fleet.
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
    """The account may not read and write Home Assistant's topics."""

    def __init__(self, broker_url: str, prefix: str) -> None:
        self.broker_url = broker_url
        self.prefix = prefix
        super().__init__(
            f"What is written below {prefix}/ at {broker_url} does not come back: expected an "
            f"account that may read and write {prefix}/#; let the broker's access list say so."
        )


class HomeAssistant:
    """The discovery messages of one fleet. A context manager: entering connects.

    Methods are one thread's.
    """

    def __init__(self, address: BrokerAddress, topics: Topics, discovery: Topics) -> None:
        """Prepare.

        Args:
            address: The broker of both, the fleet and Home Assistant.
            topics: The fleet's.
            discovery: Home Assistant's discovery prefix.
        """
        self._topics = topics
        self._discovery = discovery
        #: Home Assistant was started, or the broker may have forgotten what it retained.
        self._anew = threading.Event()
        self._reread = threading.Event()
        self._held: dict[Topic, bytes] = {}
        self._connection = Connection(
            address, f"edge-discovery-{uuid.uuid4().hex[:12]}", on_connected=self._reread.set
        )

    def __enter__(self) -> Self:
        """Connect and read what earlier runs left.

        Raises:
            BrokerUnreachableError: No broker there.
            BrokerRefusedError: The broker said no to the connection.
            DiscoveryAccessError: The account may not write what Home Assistant reads.
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
        """Publish what differs from what the broker holds; return how many messages.

        Boards that the fleet doesn't know any more are taken out. While the broker is away nothing
        is done: the next call makes up for it.

        Raises:
            BrokerUnreachableError: The broker went meanwhile; call again.
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
        if self._anew.is_set():
            # Home Assistant asks by its birth message; what it holds already changes nothing.
            self._anew.clear()
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
        """Take every board of this fleet out of Home Assistant; return how many there were."""
        gone = dict.fromkeys(self._held, b"")
        self._publish(gone)
        return len(gone)

    def _read(self) -> None:
        found = read_retained(
            self._connection,
            config_topic(self._discovery, self._topics, "+"),
            # Not below .../config, where Home Assistant would look at it.
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
            # Waited for one by one: no queue grows, and what is held is what the broker took.
            self._connection.publish_and_wait(topic, payload, timeout_s=_ANSWER_S)
            if payload:
                self._held[topic] = payload
            else:
                del self._held[topic]

    def _status(self, message: Message) -> None:
        # A retained one tells of a start that is past.
        if message.payload == ONLINE and not message.retained:
            self._anew.set()
