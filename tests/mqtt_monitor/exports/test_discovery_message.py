from __future__ import annotations

import json
import re

from fleet_messages import Watched, availability, profile
from hypothesis import given
from hypothesis import strategies as st

from edge_core.contract.names import NAME_PATTERN
from edge_core.contract.topics import Topics
from mqtt_monitor.exports.discovery_message import config_topic, describe_board, is_ours, object_id

#: Home Assistant, homeassistant/components/mqtt/discovery.py: TOPIC_MATCHER.
OBJECT_ID = re.compile(r"[a-zA-Z0-9_-]+")
names = st.from_regex(NAME_PATTERN, fullmatch=True)


@given(names, names, st.sampled_from(["edge/v1", "edge", "a_b", "a.b"]))
def test_ids_are_valid_in_home_assistant_and_unique(a: str, b: str, prefix: str) -> None:
    first, second = object_id(Topics(prefix), a), object_id(Topics(prefix), b)
    assert OBJECT_ID.fullmatch(first)
    assert (first == second) == (a == b)


def test_names_that_differ_in_escaped_characters_have_different_ids() -> None:
    near = ["pi.1", "pi_1", "pi-1", "pi_2e1", "pi_5f1"]
    assert len({object_id(Topics(), name) for name in near}) == len(near)
    assert object_id(Topics("edge"), "v1.pi") != object_id(Topics("edge/v1"), "pi")


def test_a_message_has_the_required_fields_and_no_forbidden_ones() -> None:
    text = "<b>{{ 7*7 }}</b>\x1b[2J"
    watched = Watched().tell(availability(0, "pi.1", b"online"), profile(0, "pi.1", cpu_model=text))
    payload = describe_board(Topics(), watched.at(1).devices["pi.1"])
    document = json.loads(payload)
    assert set(document) == {"dev", "o", "cmps", "availability"}
    assert document["dev"]["ids"]
    assert "\x1b" not in document["dev"]["mdl"]
    assert all(
        text not in json.dumps(component) and component["p"] in {"sensor", "binary_sensor"}
        for component in document["cmps"].values()
    )
    unique = [component["unique_id"] for component in document["cmps"].values()]
    assert len(set(unique)) == len(unique)
    # Home Assistant forbids both forms of availability side by side, also where one is inherited.
    assert not any("availability_topic" in component for component in document["cmps"].values())


def test_only_messages_of_this_fleet_are_ours() -> None:
    watched = Watched().tell(availability(0, "pi-1", b"online"))
    payload = describe_board(Topics(), watched.at(1).devices["pi-1"])
    topic = config_topic(Topics("homeassistant"), Topics(), "pi-1")
    assert is_ours(Topics(), topic, payload)
    assert not is_ours(Topics("edge/v2"), topic, payload)
    assert not is_ours(Topics(), topic, payload.replace(b'"edge-partition"', b'"zigbee2mqtt"'))
    for garbage in (b"", b"[]", b"{", b"[" * 100_000, b'{"o":7}', b"\xff"):
        assert not is_ours(Topics(), topic, garbage)
