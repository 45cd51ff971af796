"""paho's client with this project's options, and the private parts of paho that it uses."""

from __future__ import annotations

import paho.mqtt.client as paho
import pytest

from edge_core.mqtt.broker_address import BrokerAddress
from edge_core.mqtt.message import Will
from edge_core.mqtt.paho_client import PahoClient, local_address, make_client
from edge_core.mqtt.publish_packets import PackedProperties, largest_packet_bytes
from edge_core.mqtt.subscriptions import topic_pattern


def client(*, will: Will | None = None) -> PahoClient:
    address = BrokerAddress("127.0.0.1", 1, username="me")
    return make_client(address, "client", will=will, manual_ack=True)


def test_the_installed_paho_has_the_private_parts_that_the_client_uses() -> None:
    assert callable(vars(paho.Client)["_handle_publish"])
    assert client()._manual_ack is True
    assert {"command", "packet"} <= client()._in_packet.keys()
    assert callable(client()._handle_on_message)
    assert callable(client()._send_puback)


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


def test_the_largest_packet_counts_bytes_and_not_characters() -> None:
    none = PackedProperties()
    ascii_bytes = largest_packet_bytes("abc", b"payload", none)
    assert largest_packet_bytes("äöü", b"payload", none) == ascii_bytes + 3
    some = PackedProperties(user={"trace": "t" * 100})
    assert largest_packet_bytes("abc", b"payload", some) > ascii_bytes + 100
