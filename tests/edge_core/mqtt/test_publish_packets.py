"""This module reads and writes the same PUBLISH packets as paho."""

from __future__ import annotations

import contextlib
import struct

import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_core.mqtt.publish_packets import PackedProperties, read_publish

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)
OPTIONS = st.fixed_dictionaries(
    {
        "response_topic": st.none() | TEXT,
        "correlation_data": st.binary(max_size=20),
        "expiry_s": st.none() | st.integers(0, 2**32 - 1),
        "user": st.none() | st.dictionaries(TEXT, TEXT, max_size=3),
    }
)
NAMES = ("ResponseTopic", "CorrelationData", "MessageExpiryInterval", "UserProperty")


def packet_of(topic: str, qos: int, packed: bytes, payload: bytes) -> tuple[int, bytes]:
    name = topic.encode()
    head = struct.pack("!H", len(name)) + name + (struct.pack("!H", 7) if qos else b"")
    return 0x30 | qos << 1, head + packed + payload


def read_by_paho(header: int, packet: bytes) -> paho.MQTTMessage:
    """Return the message that paho's own client reads from a PUBLISH packet."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5, manual_ack=True)
    messages: list[paho.MQTTMessage] = []
    client._handle_on_message = messages.append
    client._in_packet |= {"command": header, "packet": bytearray(packet)}
    client._in_packet["remaining_length"] = len(packet)
    client._handle_publish()
    (message,) = messages
    return message


@given(TEXT, st.integers(0, 1), OPTIONS, st.binary(max_size=300))
def test_a_packet_has_the_same_content_for_paho_and_for_this_module(
    topic: str, qos: int, options: dict, payload: bytes
) -> None:
    packed = PackedProperties(**options).pack()
    header, packet = packet_of(topic, qos, packed, payload)
    expected = read_by_paho(header, packet)
    message = read_publish(header, bytearray(packet))
    assert message is not None
    assert (message.topic, message.payload) == (topic, payload)
    assert (message.mid, message.qos) == (expected.mid, expected.qos)
    for name in NAMES:
        default = [] if name == "UserProperty" else b"" if name == "CorrelationData" else None
        assert getattr(message.properties, name) == getattr(expected.properties, name, default)


def test_paho_reads_other_properties_and_other_packets() -> None:
    others = Properties(PacketTypes.PUBLISH)
    others.ContentType = "text"
    assert read_publish(*packet_of("t", 1, others.pack(), b"x")) is None
    assert read_publish(*packet_of("t", 2, b"\0", b"x")) is None
    twice = PackedProperties(expiry_s=3).pack()[1:]
    assert read_publish(*packet_of("t", 1, bytes([10]) + twice + twice, b"x")) is None


@given(st.binary(max_size=60))
def test_malformed_packets_are_left_to_paho_or_read_as_by_paho(packet: bytes) -> None:
    message = read_publish(0x32, packet)
    if message is None:
        return
    with contextlib.suppress(UnicodeError):
        expected = read_by_paho(0x32, packet)
        assert (message._topic, message.payload) == (expected._topic, bytes(expected.payload))


def test_a_truncated_packet_is_never_read() -> None:
    packed = PackedProperties(response_topic="r/t", correlation_data=b"12345678", expiry_s=9).pack()
    header, packet = packet_of("topic", 1, packed, b"")
    assert read_publish(header, packet) is not None
    for length in range(len(packet)):
        assert read_publish(header, packet[:length]) is None, length


def test_a_property_longer_than_65535_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="65,536"):
        PackedProperties(user={"trace": "x" * 65_536})
