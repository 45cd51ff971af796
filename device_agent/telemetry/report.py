"""Publish the two messages about a board: ``profile`` (retained) and ``stats``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from device_agent.telemetry.board import LoadReader, read_free, read_hardware
from device_agent.telemetry.link import LinkReader
from edge_core.contract.messages import encode_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from device_agent.config import Config
    from edge_core.contract.topics import Topics
    from edge_core.mqtt.connection import Connection

#: Time between two ``stats`` messages, in seconds.
STATS_PERIOD_S = 5.0


class Report:
    """Publishes the profile and the statistics while the board is connected.

    Attributes:
        profile: Fields of the profile that do not change: all but the free memory and storage.
        profile_due_s: Time until which the profile is delayed, on the monotonic clock in seconds.
            None: the profile is not delayed.
    """

    def __init__(
        self,
        connection: Connection,
        topics: Topics,
        config: Config,
        instance: str,
        free_storage_bytes: Callable[[], int],
    ) -> None:
        """Read the board's hardware; nothing is published yet.

        Args:
            connection: The agent's connection.
            topics: The topics of the fleet.
            config: Options of the agent.
            instance: Id of this process.
            free_storage_bytes: Function that returns the free storage, in bytes.
        """
        self.profile: dict[str, Any] = {"instance": instance, **read_hardware(config)}
        self.profile_due_s: float | None = None
        self._connection = connection
        self._topics = topics
        self._device = config.name
        self._free_storage_bytes = free_storage_bytes
        self._link = LinkReader()
        self._load: LoadReader | None = None
        self._stats_due_s = 0.0
        self._sequence = 0

    def publish_profile(self) -> None:
        """Publish the profile, unless the board is disconnected or the profile is delayed."""
        # paho would send a queued profile at the next connect, before the agent knows whether
        # another agent took the name.
        if not self._connection.is_connected or self.profile_due_s is not None:
            return
        document = {**self.profile, **read_free(self._free_storage_bytes())}
        self._connection.publish(self._topics.profile(self._device), encode_json(document))

    def publish_due_profile(self) -> None:
        """Publish the profile if :attr:`profile_due_s` has passed."""
        due = self.profile_due_s
        if due is not None and time.monotonic() >= due and self._connection.is_connected:
            self.profile_due_s = None
            self.publish_profile()

    def publish_due_stats(
        self,
        *,
        queue_length: int,
        stages: Callable[[], list[dict[str, Any]]],
        refusals: Callable[[], list[dict[str, Any]]],
    ) -> None:
        """Publish the statistics if :data:`STATS_PERIOD_S` has passed since the last statistics.

        Args:
            queue_length: Number of waiting requests.
            stages: Function that returns the statistics of each stage since its last call.
            refusals: Function that returns the last refusal of each refused deployment.
        """
        now = time.monotonic()
        if self._load is None:
            self._load, self._stats_due_s = LoadReader(), now + STATS_PERIOD_S
        if now < self._stats_due_s:
            return
        self._stats_due_s += STATS_PERIOD_S
        if not self._connection.is_connected:
            return
        self._sequence += 1
        document = {
            "device": self._device,
            "sequence": self._sequence,
            "period_s": STATS_PERIOD_S,
            **self._load.read(),
            "link": self._link.read(self._connection.local_address),
            "queue_length": queue_length,
            "stages": stages(),
            "refusals": refusals(),
        }
        self._connection.publish(self._topics.stats(self._device), encode_json(document))
