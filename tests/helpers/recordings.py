"""A recording of a small fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet_messages import PREFIX, START_S, availability, manifest, stage, stats

from mqtt_monitor.feeds.recording import Recorder
from mqtt_monitor.fleet.arrival import Arrival

if TYPE_CHECKING:
    from pathlib import Path


MESSAGES = [
    manifest(0, ["pi-1"]),
    availability(0, "pi-1", b"online", retained=True),
    stats(5, "pi-1", 1, stage(0, 10)),
    stats(10, "pi-1", 2, stage(0, 60)),
    Arrival(START_S + 11, f"{PREFIX}/device/pi-1/stats", b"\xff\x00"),
    Arrival(
        START_S + 12,
        f"{PREFIX}/client/me/result",
        b"",
        correlation_data=b"\0\7",
        user={"trace": '[{"stage":0,"device":"pi-1","queue_ms":1,"invoke_ms":2}]'},
    ),
]


def record(path: Path, *messages: Arrival, max_bytes: int = 1 << 20) -> Recorder:
    recorder = Recorder(path, prefix=PREFIX, broker_url="mqtt://hub:1883", max_bytes=max_bytes)
    with recorder:
        for message in messages:
            recorder.write(message)
    return recorder
