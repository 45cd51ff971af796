"""Finds boards and deployments that were removed while the monitor was disconnected. Pure.

The monitor receives no message about such a removal. But after a reconnection the broker sends the
monitor every retained message. If no message about a board or deployment arrives within
``CONFIRMATION_S`` seconds after the reconnection, the board or deployment no longer exists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Time for a message about each known board and deployment, in seconds. A broker sends its retained
#: messages at once. A restarted broker may have lost its retained messages; the agents then
#: reconnect within 8 s and publish the messages again.
CONFIRMATION_S = 12.0


class Unconfirmed:
    """The known boards and deployments about which no message came after a reconnection."""

    def __init__(self) -> None:
        self._devices: set[str] = set()
        self._deployments: set[str] = set()
        self._until_s: float | None = None

    def begin(self, devices: Iterable[str], deployments: Iterable[str], time_s: float) -> None:
        """Start to wait for messages, after a reconnection.

        Args:
            devices: Names of the known boards.
            deployments: Names of the known deployments.
            time_s: Time of the reconnection, in seconds since the epoch.
        """
        self._devices = set(devices)
        self._deployments = set(deployments)
        self._until_s = time_s + CONFIRMATION_S

    def cancel(self) -> None:
        """Stop waiting for messages, because the connection was lost again."""
        self._until_s = None

    def confirm_device(self, name: str) -> None:
        """Record that a message of a board has arrived."""
        self._devices.discard(name)

    def confirm_deployment(self, name: str) -> None:
        """Record that a manifest of a deployment has arrived."""
        self._deployments.discard(name)

    def take_overdue(self, now_s: float) -> tuple[float, list[str], list[str]] | None:
        """Return the boards and deployments about which no message arrived during a wait.

        Only the first call after the end of a wait returns these names.

        Args:
            now_s: The present time, in seconds since the epoch.

        Returns:
            The end of the wait in seconds since the epoch, the sorted names of the boards, and the
            sorted names of the deployments. None: no wait has ended after the previous call.
        """
        if self._until_s is None or now_s < self._until_s:
            return None
        until_s, self._until_s = self._until_s, None
        return until_s, sorted(self._devices), sorted(self._deployments)
