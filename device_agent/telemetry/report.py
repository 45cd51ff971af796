"""The messages in which a board describes itself: ``profile`` (retained) and ``stats``."""

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

STATS_PERIOD_S = 5.0


class Report:
    """Publishes the profile and the statistics while the board is connected.

    Attributes:
        profile: The profile's fields but for free memory and storage, which change.
        profile_due_s: The monotonic time at which the profile is published unless somebody cancels
            that; until then nothing publishes the profile.
    """

    def __init__(
        self, connection: Connection, topics: Topics, config: Config, instance: str
    ) -> None:
        """Read the hardware.

        Args:
            connection: To publish with.
            topics: The topics' names.
            config: The agent's options.
            instance: This process's id.
        """
        self.profile: dict[str, Any] = {"instance": instance, **read_hardware(config)}
        self.profile_due_s: float | None = None
        self._connection = connection
        self._topics = topics
        self._device = config.name
        self._link = LinkReader()
        self._load: LoadReader | None = None
        self._stats_due_s = 0.0
        self._sequence = 0

    def publish_profile(self, free_bytes: Callable[[], int]) -> None:
        """Publish the profile.

        Args:
            free_bytes: Returns the free storage.
        """
        # What is queued while away would be sent before we know whether the name is still ours.
        if not self._connection.is_connected or self.profile_due_s is not None:
            return
        document = {**self.profile, **read_free(free_bytes())}
        self._connection.publish(self._topics.profile(self._device), encode_json(document))

    def publish_due_profile(self, free_bytes: Callable[[], int]) -> None:
        """Publish the profile if :attr:`profile_due_s` has passed."""
        due = self.profile_due_s
        if due is not None and time.monotonic() >= due and self._connection.is_connected:
            self.profile_due_s = None
            self.publish_profile(free_bytes)

    def publish_due_stats(
        self,
        *,
        queue_length: int,
        stages: Callable[[], list[dict[str, Any]]],
        refusals: Callable[[], list[dict[str, Any]]],
    ) -> None:
        """Publish the statistics if a period has passed since the last ones.

        Args:
            queue_length: How many requests wait.
            stages: Returns each stage's statistics of the period, which begins anew.
            refusals: Returns why this board did not take its part of deployments.
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
