"""Publish whether the board is online, and stop if another agent takes the board's name."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from edge_core.contract.messages import decode_json
from edge_core.contract.topics import OFFLINE, ONLINE
from edge_core.errors import EdgePartitionError

if TYPE_CHECKING:
    from device_agent.telemetry.report import Report
    from edge_core.contract.topics import Topics
    from edge_core.mqtt.connection import Connection, Message
    from edge_core.program.stop_request import StopRequest

_LOG = logging.getLogger("device-agent")

#: Time that a broker may take to send its retained messages, in seconds. After that time the agent
#: treats a retained message that did not arrive as forgotten.
RETAINED_WAIT_S = 2.0
_OFFLINE_WAIT_S = 2.0


class Presence:
    """Publishes the board's availability, and stops this agent if another agent takes its name.

    Attributes:
        is_taken_over: Whether another agent took the name.
    """

    def __init__(
        self,
        connection: Connection,
        topics: Topics,
        report: Report,
        stop: StopRequest,
        *,
        device: str,
        instance: str,
    ) -> None:
        """Create the publisher; nothing is published before :meth:`connected`.

        Args:
            connection: The agent's connection.
            topics: The topics of the fleet.
            report: Publisher of the profile.
            stop: Stop request of the agent, set when another agent takes the name.
            device: This board's name.
            instance: Id of this process.
        """
        self.is_taken_over = False
        self._connection = connection
        self._report = report
        self._stop = stop
        self._device = device
        self._instance = instance
        self._availability = topics.availability(device)
        self._connects = 0

    @property
    def was_online(self) -> bool:
        """Whether the agent has connected to the broker at least once."""
        return self._connects > 0

    def connected(self) -> None:
        """Publish ``online`` after each connect. Runs in the network thread."""
        url = self._connection.address.url
        if self.was_online:
            # The retained profile shows whether the name still belongs to this agent. The agent
            # publishes the profile only if the broker has none (see `profile_arrived`).
            self._report.profile_due_s = time.monotonic() + RETAINED_WAIT_S
            self._connection.publish(self._availability, ONLINE)
            _LOG.info("online again at %s", url)
        else:
            self._connection.publish(self._availability, ONLINE)
            self._report.publish_profile()
            _LOG.info("online at %s as %s", url, self._device)
        self._connects += 1

    def profile_arrived(self, message: Message) -> None:
        """Stop this agent if the retained profile is from another agent with this agent's name.

        That agent connected while this agent was disconnected. A broker should report this as
        "session taken over" (MQTT 5.0, section 3.14.2.1), but mosquitto 2.0.11 only closes the
        connection. Without this check, two agents would end each other's connection again and
        again.
        """
        if self._connects > 1 and message.payload:
            self._report.profile_due_s = None
            if decode_json(message.payload).get("instance") != self._instance:
                self.yield_name()

    def yield_name(self) -> None:
        """Stop this agent, because another agent has taken its name."""
        self.is_taken_over = True
        self._stop.set()

    def say_offline(self) -> None:
        """Publish ``offline`` and wait for the broker's acknowledgement."""
        try:
            self._connection.publish_and_wait(
                self._availability, OFFLINE, timeout_s=_OFFLINE_WAIT_S
            )
        except EdgePartitionError:
            _LOG.warning(
                "the broker at %s did not acknowledge `offline`; the broker will report this board "
                "as offline when it notices that the connection is gone",
                self._connection.address.url,
            )
