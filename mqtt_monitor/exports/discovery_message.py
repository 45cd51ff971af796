"""What Home Assistant is told of a board: one device-based discovery message. Pure.

Home Assistant, "MQTT", section "Discovery messages": ``dev`` is the device, ``o`` who says so,
``cmps`` its entities. The entities read the agents' own topics through templates (Jinja), so that
nothing is sent twice.
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
#: Agents tell how they fare every 5 s.
_EXPIRE_AFTER_S = 30
_MIB = 1024 * 1024
#: Below Home Assistant's own prefix: the description of one board, and Home Assistant's start.
DISCOVERY = TopicKind("device/{id}/config", (Role.MONITOR,), (), Payload.JSON, retained=True)
BIRTH = TopicKind("status", (), (Role.MONITOR,), Payload.STATE)
#: Requests answered in the newest period; a stage at rest tells no times.
_ANSWERED = (
    "value_json.stages | default([]) | map(attribute='invoke_ms') | select"
    " | map(attribute='count') | sum"
)


def object_id(topics: Topics, device: str) -> str:
    """Return what Home Assistant knows a board by.

    It takes letters, digits, ``_`` and ``-``. What else a prefix or a name may hold, and ``_``
    itself, is written as ``_`` and two hexadecimal digits: no two boards get the same.
    """
    return _escape(f"{topics.prefix}/{device}")


def config_topic(discovery: Topics, topics: Topics, device: str) -> Topic:
    """Return where Home Assistant looks for a board; ``+`` for every board of every fleet."""
    level = device if device == "+" else object_id(topics, device)
    return Topic(f"{discovery.prefix}/device/{level}/config", DISCOVERY)


def is_ours(topics: Topics, topic: str, payload: bytes) -> bool:
    """Return whether a retained discovery message speaks of a board of this fleet."""
    try:
        document = json.loads(payload)
        origin = document["o"]["name"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return False
    return bool(origin == ORIGIN and topic.split("/")[-2].startswith(_escape(f"{topics.prefix}/")))


def describe_board(topics: Topics, device: Device) -> bytes:
    """Return a board's discovery message, the same for the same board."""
    return _describe(topics, device.name, device.profile)


#: Asked for each board twice a second: 500 would take 4 % of a processor.
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

    def sensor(name: str, template: str, unit: str, **more: Any) -> dict[str, Any]:
        return {
            "p": "sensor",
            "name": name,
            "state_topic": stats,
            # What a board doesn't tell is unknown to Home Assistant: None, not an empty text.
            "value_template": f"{{{{ {template} }}}}",
            "unit_of_measurement": unit,
            "state_class": "measurement",
            "expire_after": _EXPIRE_AFTER_S,
            **more,
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
            # Offline is this entity's very word, not a reason to hide it.
            "availability": [],
        },
        "cpu": sensor(
            "Agent's processor, of one core",
            "value_json.cpu_percent | default(none)",
            "%",
            suggested_display_precision=0,
        ),
        "memory": sensor(
            "Agent's memory",
            _mib("rss_bytes"),
            "MiB",
            device_class="data_size",
            suggested_display_precision=0,
        ),
        "free_memory": sensor(
            "Free memory",
            _mib("free_memory_bytes"),
            "MiB",
            device_class="data_size",
            suggested_display_precision=0,
        ),
        "temperature": sensor(
            "Temperature",
            "value_json.temperature_c | default(none)",
            "°C",
            device_class="temperature",
            suggested_display_precision=0,
        ),
        "throttled": {
            "p": "binary_sensor",
            "name": "Throttled",
            "device_class": "problem",
            "state_topic": stats,
            "value_template": (
                "{{ {true: 'ON', false: 'OFF'}.get(value_json.throttled | default(none)) }}"
            ),
            "expire_after": _EXPIRE_AFTER_S,
        },
        "requests": sensor(
            "Requests",
            f"(({_ANSWERED}) / (value_json.period_s | default(5))) | round(2)",
            "1/s",
            suggested_display_precision=1,
        ),
    }


def _mib(field: str) -> str:
    value = f"value_json.{field}"
    return f"({value} / {_MIB}) | round(1) if {value} is number else none"


def _escape(text: str) -> str:
    return "".join(
        letter
        if letter.isascii() and (letter.isalnum() or letter == "-")
        else f"_{ord(letter):02x}"
        for letter in text
    )
