"""Messages of agents and hosts, at times that the test sets."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mqtt_monitor.feeds.feed import Feed
from mqtt_monitor.fleet.arrival import Arrival
from mqtt_monitor.fleet.state import FleetState

if TYPE_CHECKING:
    from mqtt_monitor.fleet.snapshot import BoardStage, Fleet

PREFIX = "edge/v1"
START_S = 1_764_000_000.0


def arrival(time_s: float, topic: str, document: Any, *, retained: bool = False) -> Arrival:
    payload = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Arrival(START_S + time_s, f"{PREFIX}/{topic}", payload, retained=retained)


def availability(time_s: float, name: str, state: bytes, *, retained: bool = False) -> Arrival:
    return arrival(time_s, f"device/{name}/availability", state, retained=retained)


def profile(time_s: float, name: str, **fields: Any) -> Arrival:
    document = {"device": name, "instance": "a" * 32, "agent": "0.1.0", **fields}
    return arrival(time_s, f"device/{name}/profile", document, retained=True)


def tensor(name: str, *shape: int) -> dict[str, Any]:
    return {"name": name, "dtype": "float32", "shape": list(shape)}


def manifest(
    time_s: float,
    *devices: list[str],
    name: str = "net",
    generation: str = "g1",
    predicted_ms: float = 10.0,
    retained: bool = True,
) -> Arrival:
    """A deployment with a stage for each list of boards; 64 floats cross each boundary."""
    cuts = [tensor(f"t{cut}", 1, 64) for cut in range(len(devices) + 1)]
    document = {
        "schema": 1,
        "deployment": name,
        "generation": generation,
        "model": {"name": "Net", "sha256": "0" * 64, "quantization": "none"},
        "inputs": [cuts[0]],
        "outputs": [cuts[-1]],
        "stages": [
            {
                "index": index,
                "devices": boards,
                "file": f"stages/{index}.tflite",
                "sha256": "0" * 64,
                "size_bytes": 1000,
                "inputs": [cuts[index]],
                "outputs": [cuts[index + 1]],
                "predicted": {"invoke_ms": predicted_ms, "ram_bytes": 50_000_000},
            }
            for index, boards in enumerate(devices)
        ],
    }
    return arrival(time_s, f"deployment/{name}/manifest", document, retained=retained)


def stage(index: int, requests: int, *, mean_ms: float = 10.0, **fields: Any) -> dict[str, Any]:
    return {
        "deployment": "net",
        "generation": "g1",
        "stage": index,
        "requests": requests,
        "errors": {},
        "unanswerable": 0,
        "queue_total_ms": requests * 1.0,
        "invoke_total_ms": requests * mean_ms,
        "queue_ms": {"mean": 1.0, "max": 2.0, "count": 1},
        "invoke_ms": {"mean": mean_ms, "max": 2 * mean_ms, "count": 1},
        **fields,
    }


def stats(at_s: float, name: str, sequence: int, *stages: dict[str, Any], **fields: Any) -> Arrival:
    document = {
        "device": name,
        "sequence": sequence,
        "period_s": 5.0,
        "time_s": START_S + at_s,
        "uptime_s": 5.0 * sequence,
        "rss_bytes": 50_000_000,
        "cpu_percent": 50.0,
        "temperature_c": 55.0,
        "queue_length": 0,
        "stages": list(stages),
        **fields,
    }
    return arrival(at_s, f"device/{name}/stats", document)


@dataclass
class Watched:
    """A fleet's state after some messages."""

    state: FleetState = field(default_factory=lambda: FleetState(PREFIX, "mqtt://hub:1883"))

    def __post_init__(self) -> None:
        self.state.note_broker(START_S, connected=True)

    def tell(self, *arrivals: Arrival) -> Watched:
        for item in arrivals:
            self.state.fold(item)
        return self

    def at(self, time_s: float) -> Fleet:
        return self.state.snapshot(START_S + time_s)

    def board(self, time_s: float, index: int, board: int = 0, name: str = "net") -> BoardStage:
        return self.at(time_s).deployments[name].stages[index].boards[board]


class ToldFeed(Feed):
    """A feed with the messages of a test."""

    time_s = 0.0

    def __init__(self, *arrivals: Arrival) -> None:
        super().__init__(PREFIX, "mqtt://hub:1883")
        self._note_broker(START_S, connected=True)
        self.tell(*arrivals)

    def now_s(self) -> float:
        return START_S + self.time_s

    def tell(self, *arrivals: Arrival) -> None:
        for item in arrivals:
            self.time_s = max(self.time_s, item.time_s - START_S)
            self._fold(item)

    def lose_broker(self) -> None:
        self._note_broker(self.now_s(), connected=False, reason="connection closed")

    def find_broker(self) -> None:
        self._note_broker(self.now_s(), connected=True)
