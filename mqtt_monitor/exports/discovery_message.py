"""Builds the message that describes a board to Home Assistant. Pure.

The format is a "device-based discovery message" (Home Assistant's documentation, page "MQTT",
section "Discovery messages"): ``dev`` is the device, ``o`` is the program that sends the message,
and ``cmps`` are the device's entities. For each entity, Home Assistant reads a topic of the board's
agent and extracts a value with a Jinja template. The monitor therefore publishes no values.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from edge_core.contract.topics import OFFLINE, ONLINE, Payload, Role, Topic, TopicKind
from mqtt_monitor.fleet.limits import MAX_DEVICES

if TYPE_CHECKING:
    from edge_core.contract.topics import Topics
    from mqtt_monitor.fleet.snapshot import Device, Profile

ORIGIN = "edge-partition"
#: Time without statistics after which Home Assistant shows a value as unavailable, in seconds.
#: Agents publish statistics every 5 s.
_EXPIRE_AFTER_S = 30
_MIB = 1024 * 1024
#: The kinds of topics under Home Assistant's prefix, not under the fleet's prefix: the description
#: of a board, and Home Assistant's own state (``online`` when Home Assistant has started).
DISCOVERY = TopicKind("device/{id}/config", (Role.MONITOR,), (), Payload.JSON, retained=True)
BIRTH = TopicKind("status", (), (Role.MONITOR,), Payload.STATE)
#: Jinja expression for the number of requests that a board answered in the newest period.
#: ``select`` leaves out idle stages, whose ``invoke_ms`` is null.
_ANSWERED = (
    "value_json.stages | default([]) | map(attribute='invoke_ms') | select"
    " | map(attribute='count') | sum"
)


def object_id(topics: Topics, device: str) -> str:
    """Return a board's unique id in Home Assistant.

    The id is ``PREFIX/BOARD`` with some characters replaced. Every character that is no ASCII
    letter, digit or ``-`` is replaced by ``_`` and the character's code in hexadecimal. Two boards
    therefore never have the same id.
    """
    return _escape(f"{topics.prefix}/{device}")


def config_topic(discovery: Topics, topics: Topics, device: str) -> Topic:
    """Return the topic of a board's discovery message.

    Args:
        discovery: The topics under Home Assistant's prefix.
        topics: The fleet's topics.
        device: Name of the board; or ``+``, for a topic filter that matches the discovery messages
            of all boards of all fleets.
    """
    level = device if device == "+" else object_id(topics, device)
    return Topic(f"{discovery.prefix}/device/{level}/config", DISCOVERY)


def is_ours(topics: Topics, topic: str, payload: bytes) -> bool:
    """Return whether a retained discovery message describes a board of this fleet."""
    try:
        document = json.loads(payload)
        origin = document["o"]["name"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return False
    return bool(origin == ORIGIN and topic.split("/")[-2].startswith(_escape(f"{topics.prefix}/")))


def describe_board(topics: Topics, device: Device) -> bytes:
    """Return a board's discovery message, in JSON.

    The message depends only on the fleet's topics and on the board's name and profile.
    """
    return _describe(topics, device.name, device.profile)


#: Called twice a second for each board. Without the cache, 500 boards would take 4 % of a core.
@lru_cache(MAX_DEVICES)
def _describe(topics: Topics, device: str, profile: Profile | None) -> bytes:
    identity = object_id(topics, device)
    about = {"ids": [identity], "name": device}
    if profile is not None:
        known = {"mdl": profile.cpu_model, "hw": profile.machine, "sw": profile.agent}
        about |= {key: text for key, text in known.items() if text}
    state = {
        "availability": [
            {
                "topic": topics.availability(device),
                "payload_available": ONLINE.decode(),
                "payload_not_available": OFFLINE.decode(),
            }
        ]
    }
    components = {
        key: {"unique_id": f"{identity}_{key}", **component}
        for key, component in _components(topics, device).items()
    }
    document = {"dev": about, "o": {"name": ORIGIN}, "cmps": components, **state}
    return json.dumps(document, separators=(",", ":")).encode()


def _components(topics: Topics, device: str) -> dict[str, dict[str, Any]]:
    stats = topics.stats(device)
    throttled = {
        "p": "binary_sensor",
        "name": "Throttled",
        "device_class": "problem",
        "state_topic": stats,
        "value_template": (
            "{{ {true: 'ON', false: 'OFF'}.get(value_json.throttled | default(none)) }}"
        ),
        "expire_after": _EXPIRE_AFTER_S,
    }
    return {
        "connectivity": {
            "p": "binary_sensor",
            "name": "Connectivity",
            "device_class": "connectivity",
            "entity_category": "diagnostic",
            "state_topic": topics.availability(device),
            "payload_on": ONLINE.decode(),
            "payload_off": OFFLINE.decode(),
            # No availability topic: while the board is offline, Home Assistant shows this entity
            # as disconnected and not as unavailable.
            "availability": [],
        },
        **{key: _sensor(stats, *sensor) for key, sensor in _LOAD.items()},
        "throttled": throttled,
        "requests": _sensor(stats, *_REQUESTS),
    }


def _sensor(
    topic: Topic, name: str, template: str, unit: str, display: dict[str, Any]
) -> dict[str, Any]:
    return {
        "p": "sensor",
        "name": name,
        "state_topic": topic,
        # If the board does not report the value, the template gives None and not an empty text, so
        # that Home Assistant shows the value as unknown.
        "value_template": f"{{{{ {template} }}}}",
        "unit_of_measurement": unit,
        "state_class": "measurement",
        "expire_after": _EXPIRE_AFTER_S,
        **display,
    }


def _mib(field: str) -> str:
    value = f"value_json.{field}"
    return f"({value} / {_MIB}) | round(1) if {value} is number else none"


def _display(digits: int, device_class: str | None = None) -> dict[str, Any]:
    known = {"device_class": device_class} if device_class else {}
    return {**known, "suggested_display_precision": digits}


#: The sensors of a board's load, by key: name, Jinja expression, unit and display options.
_LOAD = {
    "cpu": (
        "Agent's CPU use, of one core",
        "value_json.cpu_percent | default(none)",
        "%",
        _display(0),
    ),
    "memory": ("Agent's memory", _mib("rss_bytes"), "MiB", _display(0, "data_size")),
    "free_memory": ("Free memory", _mib("free_memory_bytes"), "MiB", _display(0, "data_size")),
    "temperature": (
        "Temperature",
        "value_json.temperature_c | default(none)",
        "°C",
        _display(0, "temperature"),
    ),
}
_REQUESTS = (
    "Requests",
    f"(({_ANSWERED}) / (value_json.period_s | default(5))) | round(2)",
    "1/s",
    _display(1),
)


def _escape(text: str) -> str:
    return "".join(
        letter
        if letter.isascii() and (letter.isalnum() or letter == "-")
        else f"_{ord(letter):02x}"
        for letter in text
    )
