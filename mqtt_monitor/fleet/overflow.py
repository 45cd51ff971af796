"""Remembers which limits of the monitor the fleet exceeds. Pure."""

from __future__ import annotations


class Overflow:
    """Remembers which limits of :mod:`mqtt_monitor.fleet.limits` the fleet exceeds.

    Attributes:
        ignored: Number of messages about boards or deployments that the monitor does not keep.
    """

    def __init__(self) -> None:
        self.ignored = 0
        self._kinds: set[str] = set()

    def note(self, kind: str) -> None:
        """Record that the fleet exceeds a limit.

        Args:
            kind: What the fleet has too many of: ``boards``, ``deployments`` or ``stages``.
        """
        self._kinds.add(kind)

    def ignore(self, kind: str) -> None:
        """Record that the fleet exceeds a limit, and count a message that is ignored for this.

        Args:
            kind: What the fleet has too many of, as in :meth:`note`.
        """
        self.note(kind)
        self.ignored += 1

    def kinds(self) -> tuple[str, ...]:
        """Return what the fleet has too many of, sorted; see :meth:`note`."""
        return tuple(sorted(self._kinds))
