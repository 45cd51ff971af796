"""paho's client with this project's options."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edge_core.mqtt.broker_address import BrokerAddress
from edge_core.mqtt.message import Will
from edge_core.mqtt.paho_client import local_address, make_client
from edge_core.mqtt.subscriptions import topic_pattern

if TYPE_CHECKING:
    import paho.mqtt.client as paho


def client(*, will: Will | None = None) -> paho.Client:
    address = BrokerAddress("127.0.0.1", 1, username="me")
    return make_client(address, "client", will=will)


def test_a_client_has_the_username_and_the_will_of_its_arguments() -> None:
    made = client(will=Will("gone", b"offline"))
    assert made.username == "me"
    assert (made.will_topic, made.will_payload) == ("gone", b"offline")
    assert client().will_topic == ""


def test_a_client_without_a_connection_has_no_local_address() -> None:
    assert local_address(client()) is None


@pytest.mark.parametrize(
    ("topic_filter", "pattern"),
    [("a/+/b", "a/+/b"), ("$share/group/a/+/b", "a/+/b"), ("$share/group/#", "#")],
)
def test_the_pattern_of_a_shared_subscription_lacks_its_group(
    topic_filter: str, pattern: str
) -> None:
    assert topic_pattern(topic_filter) == pattern
