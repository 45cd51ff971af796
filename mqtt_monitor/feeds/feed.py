"""The interface through which front ends get snapshots of a live or a recorded fleet."""

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

    The subclasses in :mod:`mqtt_monitor.feeds.live` and :mod:`mqtt_monitor.feeds.recording` add
    messages and define the present time.
    """

    def __init__(self, prefix: str, broker_url: str) -> None:
        self._state = FleetState(prefix, broker_url)
        self._changed = threading.Condition()
        self._arrived = 0

    def now_s(self) -> float:
        """Return the feed's present time, in seconds since the epoch."""
        raise NotImplementedError

    def watch_requests(self, wanted: bool) -> None:
        """Start or stop sampling results for the list of recent requests.

        While a live feed samples, the broker sends the feed copies of a few results. For a
        recording, this method does nothing.

        Args:
            wanted: Whether to sample results from now on.
        """

    def snapshot(self) -> Fleet:
        """Return the fleet at the present time."""
        with self._changed:
            return self._state.snapshot(self.now_s())

    def device_history(self, device: str, figure: str, step_s: float = SLOT_S) -> Points:
        """Return the last hour of one value of a board.

        Args:
            device: Name of the board; an unknown board has an empty history.
            figure: The value: ``cpu_percent``, ``temperature_c``, ``rss_bytes``,
                ``free_memory_bytes`` or ``queue_length``.
            step_s: Width in seconds, a multiple of 5, of the steps into which the hour is divided.

        Returns:
            ``(time_s, mean)`` for each step, oldest first: the start of the step in seconds since
            the epoch, and the mean of the values in the step (None: no values).
        """
        with self._changed:
            series = self._state.device_series(device, figure)
            return series.points(self.now_s(), step_s) if series else []

    def stage_history(
        self, deployment: str, index: int, figure: str, step_s: float = SLOT_S
    ) -> Points:
        """Return the last hour of one value of a stage, over all its boards.

        Args:
            deployment: Name of the deployment; an unknown deployment has an empty history.
            index: Index of the stage; an unknown stage has an empty history.
            figure: The value: ``requests_per_s``, ``errors_per_s``, ``invoke_ms`` or ``queue_ms``.
            step_s: Width in seconds, a multiple of 5, of the steps into which the hour is divided.

        Returns:
            ``(time_s, mean)`` for each step, as from :meth:`device_history`.
        """
        with self._changed:
            series = self._state.stage_series(deployment, index, figure)
            return series.points(self.now_s(), step_s) if series else []

    def wait_for_change(self, seen: int, timeout_s: float) -> int:
        """Wait for a change: a new message, or a new or lost connection to the broker.

        Args:
            seen: The result of the previous call; 0 for the first call.
            timeout_s: The longest wait, in seconds.

        Returns:
            The number of changes so far. If this number equals ``seen``, nothing has changed.
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
