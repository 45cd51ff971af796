"""A client that publishes the messages of a fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from any_topic import any_topic

from edge_core.mqtt.broker_address import BrokerAddress
from edge_core.mqtt.connection import Connection

if TYPE_CHECKING:
    from mqtt_monitor.fleet.arrival import Arrival


def agent(url: str) -> Connection:
    """Return a client that may publish."""
    return Connection(BrokerAddress.parse(url, username="agent", environ={}), "test-agent")


def publish(connection: Connection, *arrivals: Arrival) -> None:
    for item in arrivals:
        retained = not item.topic.endswith("/stats")
        info = connection.publish(any_topic(item.topic, retained=retained), item.payload)
        info.wait_for_publish(10)
