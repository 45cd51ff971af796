from __future__ import annotations

import pytest
from paho.mqtt.client import topic_matches_sub

from edge_core.contract.topics import (
    OFFLINE,
    ONLINE,
    RESULT,
    TOPIC_KINDS,
    Role,
    Topic,
    TopicPrefixError,
    Topics,
)


def test_topics_match_the_contract() -> None:
    topics = Topics()
    assert topics.availability("pi-1") == "edge/v1/device/pi-1/availability"
    assert topics.profile("pi-1") == "edge/v1/device/pi-1/profile"
    assert topics.stats("pi-1") == "edge/v1/device/pi-1/stats"
    assert topics.command("pi-1") == "edge/v1/device/pi-1/command"
    assert topics.manifest("tiny") == "edge/v1/deployment/tiny/manifest"
    assert topics.stage("tiny", 2) == "edge/v1/deployment/tiny/stage/2"
    assert topics.result("me") == "edge/v1/client/me/result"
    assert (ONLINE, OFFLINE) == (b"online", b"offline")


def test_replicas_share_a_subscription_and_a_single_board_does_not() -> None:
    topics = Topics("x")
    assert topics.stage_subscription("tiny", 1, 1) == "x/deployment/tiny/stage/1"
    shared = topics.stage_subscription("tiny", 1, 2)
    assert shared == "$share/tiny-1/x/deployment/tiny/stage/1"


def test_each_stage_has_its_own_group_of_replicas() -> None:
    topics = Topics()
    groups = {
        topics.stage_subscription(deployment, index, 2).split("/")[1]
        for deployment in ("a", "b")
        for index in (0, 1)
    }
    assert len(groups) == 4


@pytest.mark.parametrize("prefix", ["edge/v1", "x", "factory.2/line_1/edge-9/v1"])
def test_name_in_returns_the_name_in_a_topic_under_any_prefix(prefix: str) -> None:
    topics = Topics(prefix)
    assert topics.name_in(topics.availability("pi-1")) == "pi-1"
    assert topics.name_in(topics.manifest("tiny")) == "tiny"
    assert topics.name_in(topics.stage("tiny", 3)) == "tiny"
    assert topics.name_in(topics.result("me")) == "me"


def test_a_plus_for_the_name_matches_every_device_and_nothing_else() -> None:
    topics = Topics()
    every = topics.availability("+")
    assert topic_matches_sub(every, topics.availability("pi-1"))
    assert not topic_matches_sub(every, topics.profile("pi-1"))
    assert not topic_matches_sub(every, Topics("edge/v2").availability("pi-1"))


@pytest.mark.parametrize(
    "prefix",
    ["", "/", "/edge", "edge/", "edge//v1", "edge/+", "#", "$SYS", "$share/g/x", "a b", "é", "x\n"],
)
def test_an_invalid_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(TopicPrefixError, match="topic prefix") as caught:
        Topics(prefix)
    assert caught.value.prefix == prefix
    assert "\n" not in str(caught.value)


def test_delivery_matches_the_contract() -> None:
    topics = Topics()
    delivery = [
        (topic.kind.qos, topic.kind.retained)
        for topic in (
            topics.availability("pi-1"),
            topics.profile("pi-1"),
            topics.stats("pi-1"),
            topics.command("pi-1"),
            topics.manifest("tiny"),
            topics.stage("tiny", 0),
            topics.stage_subscription("tiny", 0, 2),
            topics.result("me"),
            topics.answer("me"),
            topics.trace("me"),
        )
    ]
    assert delivery == [
        (1, True), (1, True), (0, False), (1, False), (1, True),
        (1, False), (1, False), (1, False), (1, False), (0, False),
    ]  # fmt: skip


def test_tensors_and_answers_are_never_retained_and_the_monitor_never_sends() -> None:
    for kind in TOPIC_KINDS:
        assert not kind.retained or kind.pattern.endswith(("availability", "profile", "manifest"))
        assert Role.MONITOR not in kind.sent_by


def test_a_topic_is_a_string_that_keeps_its_kind_one_level_below() -> None:
    topic = Topic("a/b", RESULT).below("c")
    assert topic == "a/b/c"
    assert topic.kind is RESULT
