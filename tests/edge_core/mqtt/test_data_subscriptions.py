import mqtt5
import pytest

from edge_core.mqtt.data_subscriptions import DataSubscriptions
from edge_core.mqtt.message import Message


def _mine(_message: Message) -> None: ...


def _other(_message: Message) -> None: ...


@pytest.mark.parametrize(
    ("topic_filter", "topic", "is_mine"),
    [
        ("ep/a", "ep/a", True),
        ("ep/a", "ep/b", False),
        ("ep/+/manifest", "ep/digits/manifest", True),
        ("ep/#", "ep/a/b/c", True),
        ("$share/group/ep/a", "ep/a", True),
        ("$share/group/ep/+", "ep/a", True),
        ("$share/group/ep/+", "ep/a/b", False),
    ],
)
def test_a_message_goes_to_the_handler_of_its_filter(
    topic_filter: str, topic: str, is_mine: bool
) -> None:
    subscriptions = DataSubscriptions(_other)
    subscriptions.add(topic_filter, _mine, 1)
    assert subscriptions.handler_of(topic) is (_mine if is_mine else _other)
    subscriptions.remove(topic_filter)
    assert subscriptions.handler_of(topic) is _other
    assert subscriptions.filters == []


def test_a_request_names_the_filters_and_is_answered_by_its_packet_id() -> None:
    subscriptions = DataSubscriptions(None)
    subscriptions.add("a", None, 0)
    subscriptions.add("b/#", None, 1)
    packet, _ = mqtt5.read(memoryview(subscriptions.request(9, subscriptions.filters)))
    assert isinstance(packet, mqtt5.SubscribePacket)
    assert packet.packet_id == 9
    assert [(item.pattern, int(item.max_qos)) for item in packet.topic_filters] == [
        ("a", 0),
        ("b/#", 1),
    ]
    assert not subscriptions.is_answered

    codes = [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_MOST_ONCE, mqtt5.SubAckReasonCode.NOT_AUTHORIZED]
    assert subscriptions.take_answer(mqtt5.SubAckPacket(8, codes)) == []
    assert not subscriptions.is_answered
    assert subscriptions.take_answer(mqtt5.SubAckPacket(9, codes)) == [("b/#", "Not authorized")]
    assert subscriptions.is_answered
    assert subscriptions.refused == {"b/#": "Not authorized"}

    subscriptions.start_over()
    assert subscriptions.refused == {}
    assert subscriptions.filters == ["a", "b/#"]
