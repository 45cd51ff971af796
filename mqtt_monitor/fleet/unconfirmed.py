"""Boards and deployments that the broker no longer retains after a reconnection. Pure.

A board or deployment that is removed while the monitor is disconnected sends the monitor no
message. After a reconnection the broker publishes everything that it retains, so a name that does
not appear within ``CONFIRMATION_S`` no longer exists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Time for the broker to publish all known names, in seconds. A broker sends retained messages at
#: once. A restarted broker may have lost them: agents reconnect within 8 s and publish them again.
CONFIRMATION_S = 12.0


class Unconfirmed:
    """Names known before the last reconnection and not published since then."""

    def __init__(self) -> None:
        self._devices: set[str] = set()
        self._deployments: set[str] = set()
        self._until_s: float | None = None

    def begin(self, devices: Iterable[str], deployments: Iterable[str], time_s: float) -> None:
        """Start to wait for these names, after a reconnection at ``time_s``."""
        self._devices = set(devices)
        self._deployments = set(deployments)
        self._until_s = time_s + CONFIRMATION_S

    def cancel(self) -> None:
        """Stop waiting: the connection was lost again."""
        self._until_s = None

    def confirm_device(self, name: str) -> None:
        """Note that the broker published a message of a board."""
        self._devices.discard(name)

    def confirm_deployment(self, name: str) -> None:
        """Note that the broker published a manifest of a deployment."""
        self._deployments.discard(name)

    def take_overdue(self, now_s: float) -> tuple[float, list[str], list[str]] | None:
        """Return the end of the wait, the missing boards and the missing deployments, once.

        None: no wait has ended.
        """
        if self._until_s is None or now_s < self._until_s:
            return None
        until_s, self._until_s = self._until_s, None
        return until_s, sorted(self._devices), sorted(self._deployments)
