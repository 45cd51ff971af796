"""Check that no other agent has this agent's name.

Two agents with the same name have the same MQTT client id, so each would end the other's
connection.
"""

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

#: Longest time that a running agent takes to answer a ``ping``, in seconds.
_PING_WAIT_S = 1.0


class NameInUseError(EdgePartitionError):
    """Another agent with this name is connected to the broker.

    Attributes:
        name: Name of both agents.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"Agent name already in use: another agent called {name} is connected to this broker. "
            "Stop that agent, or choose another --name."
        )


def check_name_is_free(config: Config, address: BrokerAddress) -> None:
    """Check that no running agent has this agent's name.

    If the broker reports a board of this name as online, the function sends ``ping`` to its agent.

    Raises:
        NameInUseError: An agent with this name answered.
        BrokerUnreachableError: No broker answered.
        BrokerRefusedError: The broker refused the connection.
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
        _LOG.info(
            "the broker still reports %s as online, but the previous agent of this name has ended",
            name,
        )
    finally:
        probe.close()
