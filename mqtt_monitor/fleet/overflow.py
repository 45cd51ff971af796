"""Notes which limits of the monitor the fleet exceeds. Pure."""

from __future__ import annotations


class Overflow:
    """Counts the messages that the limits of :mod:`mqtt_monitor.fleet.limits` exclude.

    Attributes:
        ignored: Messages about boards or deployments that are not kept.
    """

    def __init__(self) -> None:
        self.ignored = 0
        self._kinds: set[str] = set()

    def note(self, kind: str) -> None:
        """Note that the monitor does not keep all ``boards``, ``deployments`` or ``stages``."""
        self._kinds.add(kind)

    def ignore(self, kind: str) -> None:
        """Note a message that was ignored because of a limit."""
        self.note(kind)
        self.ignored += 1

    def kinds(self) -> tuple[str, ...]:
        """Return the noted kinds, sorted."""
        return tuple(sorted(self._kinds))
