"""A reader of changes has the same values as a snapshot."""

from __future__ import annotations

import json
from typing import Any

from fleet_messages import Watched, availability, manifest, profile, stage, stats

from mqtt_monitor.fleet.alerts import find_alerts
from mqtt_monitor.fleet.arrival import Arrival
from mqtt_monitor.fleet.describe_fleet import describe_fleet
from mqtt_monitor.fleet.fleet_changes import describe_changes


def story() -> list[Arrival]:
    trace = '[{"stage":0,"device":"pi-1","queue_ms":1,"invoke_ms":2}]'
    result = Arrival(
        0,
        "edge/v1/client/me/result",
        b"",
        correlation_data=b"\1",
        user={"trace": trace},
    )
    report = {"request": "01", "latency_ms": 4.0, "trace": json.loads(trace)}
    told = Arrival(0, "edge/v1/client/me/trace", json.dumps(report).encode())
    return [
        availability(0, "pi-1", b"online"),
        availability(0, "pi-2", b"online"),
        profile(0, "pi-1", ram_mib=60),
        manifest(1, ["pi-1"], ["pi-2"]),
        stats(5, "pi-1", 1, stage(0, 10)),
        stats(5, "pi-2", 1, stage(1, 10, mean_ms=30.0)),
        result,
        stats(10, "pi-1", 2, stage(0, 60)),
        told,
        availability(12, "pi-2", b"offline"),
        availability(13, "pi-2", b""),
        manifest(14, ["pi-1"], name="other"),
        Arrival(15, "edge/v1/deployment/net/manifest", b""),
    ]


def by(items: list[Any], key: str) -> dict[str, Any]:
    return {item[key]: item for item in items}


class Reader:
    """Keeps the fleet as the page does."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.devices = by(document["devices"], "name")
        self.deployments = by(document["deployments"], "deployment")
        self.requests = by(document["requests"], "request")
        self.events, self.alerts = document["events"], document["alerts"]

    def fold(self, change: dict[str, Any]) -> None:
        for name in change["gone_devices"]:
            del self.devices[name]
        for name in change["gone_deployments"]:
            del self.deployments[name]
        self.devices |= by(change["devices"], "name")
        self.deployments |= by(change["deployments"], "deployment")
        self.requests |= by(change["requests"], "request")
        self.events = self.events + change["events"]
        self.alerts = change.get("alerts", self.alerts)


def test_changes_add_up_to_the_snapshot() -> None:
    watched = Watched()
    before = watched.at(0)
    reader = Reader(describe_changes(None, before))
    for number, message in enumerate(story()):
        now = watched.tell(message).at(number)
        reader.fold(json.loads(json.dumps(describe_changes(before, now))))
        expected = json.loads(json.dumps(describe_fleet(now, find_alerts(now))))
        assert reader.devices == by(expected["devices"], "name")
        assert reader.deployments == by(expected["deployments"], "deployment")
        assert reader.requests == by(expected["requests"], "request")
        assert reader.events == expected["events"]
        assert reader.alerts == expected["alerts"]
        before = now
    assert reader.requests["01"]["latency_ms"] == 4.0
    assert len(reader.events) > 3


def test_unchanged_boards_are_not_sent_again() -> None:
    watched = Watched().tell(*story()[:8])
    before = watched.at(10)
    change = describe_changes(before, watched.at(10.5))
    for kind in ("devices", "deployments", "events", "requests", "gone_devices"):
        assert change[kind] == []
    assert "alerts" not in change
    assert change["at_s"] == before.at_s + 0.5
    moved = describe_changes(before, watched.tell(stats(11, "pi-2", 2, stage(1, 20))).at(11))
    assert [item["name"] for item in moved["devices"]] == ["pi-2"]
