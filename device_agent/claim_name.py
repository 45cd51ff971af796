"""One name, one agent: two agents of one name would take the broker's session from each other."""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING

from edge_core.contract.topics import ONLINE, Topics
from edge_core.errors import EdgePartitionError
from edge_core.mqtt.agent_requests import AgentRequests, RequestTimeoutError
from edge_core.mqtt.connection import Connection
from edge_core.mqtt.read_retained import read_retained

if TYPE_CHECKING:
    from device_agent.config import Config
    from edge_core.mqtt.broker_address import BrokerAddress

_LOG = logging.getLogger("device-agent")

#: How long a running agent may take to answer a ping.
_PING_WAIT_S = 1.0


class NameInUseError(EdgePartitionError):
    """Another agent of this name is connected.

    Attributes:
        name: The name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"Agent name already in use: another agent called {name} is connected to this broker. "
            "Stop it, or choose another --name."
        )


def check_name_is_free(config: Config, address: BrokerAddress) -> None:
    """Ask the broker and the agent of this name, if there is one, whether the agent runs.

    Raises:
        NameInUseError: The agent answered.
        EdgePartitionError: The broker cannot be reached, or refuses.
    """
    name, topics = config.name, Topics(config.prefix)
    client = f"edge-agent-{name}-{uuid.uuid4().hex[:8]}"
    own_topic = topics.answer(client)
    availability = topics.availability(name)
    timeout_s = config.connect_timeout
    probe = Connection(address, client, keepalive_s=config.keepalive)
    probe.open(timeout_s)
    try:
        retained = read_retained(probe, availability, own_topic, timeout_s=timeout_s)
        if retained.get(availability) == ONLINE:
            AgentRequests(probe, own_topic).request(
                topics.command(name), {"command": "ping"}, device=name, timeout_s=_PING_WAIT_S
            )
            raise NameInUseError(name)
    except RequestTimeoutError:
        _LOG.info("the agent that was %s is gone; its will is not out yet", name)
    finally:
        probe.close()
