"""The interface of all front ends: a source of snapshots, live or recorded."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from mqtt_monitor.fleet.series import SLOT_S
from mqtt_monitor.fleet.state import FleetState

if TYPE_CHECKING:
    from mqtt_monitor.fleet.arrival import Arrival
    from mqtt_monitor.fleet.snapshot import Fleet

Points = list[tuple[float, float | None]]


class Feed:
    """Provides snapshots of a fleet. Any thread may call the methods.

    Subclasses (:mod:`mqtt_monitor.feeds.live`, :mod:`mqtt_monitor.feeds.recording`) add messages
    and define the present time.
    """

    def __init__(self, prefix: str, broker_url: str) -> None:
        self._state = FleetState(prefix, broker_url)
        self._changed = threading.Condition()
        self._arrived = 0

    def now_s(self) -> float:
        """Return the feed's present time, in seconds since the epoch."""
        raise NotImplementedError

    def watch_requests(self, wanted: bool) -> None:
        """Start or stop watching recent requests.

        While watching, the monitor asks the broker for copies of a few results. A recording shows
        the recorded requests in any case.
        """

    def snapshot(self) -> Fleet:
        """Return the fleet at the present time."""
        with self._changed:
            return self._state.snapshot(self.now_s())

    def device_history(self, device: str, figure: str, step_s: float = SLOT_S) -> Points:
        """Return a board's last hour: ``(time_s, value or None)`` for each step, oldest first.

        Args:
            device: Name of the board; an unknown board has an empty history.
            figure: ``cpu_percent``, ``temperature_c``, ``rss_bytes``, ``free_memory_bytes`` or
                ``queue_length``.
            step_s: Width of a step, a multiple of 5 s; values within a step are averaged.
        """
        with self._changed:
            series = self._state.device_series(device, figure)
            return series.points(self.now_s(), step_s) if series else []

    def stage_history(
        self, deployment: str, index: int, figure: str, step_s: float = SLOT_S
    ) -> Points:
        """Return a stage's last hour, over all its boards, in the format of :meth:`device_history`.

        Args:
            deployment: Name of the deployment.
            index: Index of the stage.
            figure: ``requests_per_s``, ``errors_per_s``, ``invoke_ms`` or ``queue_ms``.
            step_s: Width of a step, a multiple of 5 s.
        """
        with self._changed:
            series = self._state.stage_series(deployment, index, figure)
            return series.points(self.now_s(), step_s) if series else []

    def wait_for_change(self, seen: int, timeout_s: float) -> int:
        """Wait for a new message; return the number of messages so far.

        Args:
            seen: The last result of this method; 0 at first. An equal result means no new message.
            timeout_s: The longest wait, in seconds.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._arrived != seen, timeout_s)
            return self._arrived

    def _fold(self, arrival: Arrival) -> None:
        with self._changed:
            self._state.fold(arrival)
            self._arrived += 1
            self._changed.notify_all()

    def _note_broker(self, time_s: float, *, connected: bool, reason: str | None = None) -> None:
        with self._changed:
            self._state.note_broker(time_s, connected=connected, reason=reason)
            self._arrived += 1
            self._changed.notify_all()
