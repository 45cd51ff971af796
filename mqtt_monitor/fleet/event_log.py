"""Keeps the fleet's recent events and gives each event a number. Pure: times are arguments."""

from __future__ import annotations

from collections import deque

from mqtt_monitor.fleet.limits import MAX_EVENTS
from mqtt_monitor.fleet.snapshot import Event, EventKind


class EventLog:
    """Keeps the newest ``MAX_EVENTS`` events."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._last_number = 0

    def add(
        self,
        time_s: float,
        kind: EventKind,
        text: str,
        *,
        device: str | None = None,
        deployment: str | None = None,
    ) -> None:
        """Add an event; :class:`~mqtt_monitor.fleet.snapshot.Event` describes the arguments."""
        self._last_number += 1
        self._events.append(Event(self._last_number, time_s, kind, text, device, deployment))

    def newest(self) -> tuple[Event, ...]:
        """Return the events, oldest first."""
        return tuple(self._events)
