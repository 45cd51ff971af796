"""Remembers which limits of the monitor the fleet exceeds. Pure."""

from __future__ import annotations


class Overflow:
    """Remembers the exceeded limits of :mod:`mqtt_monitor.fleet.limits`; counts ignored messages.

    Attributes:
        ignored: Number of messages about boards or deployments that the monitor does not keep.
    """

    def __init__(self) -> None:
        self.ignored = 0
        self._kinds: set[str] = set()

    def note(self, kind: str) -> None:
        """Note that a limit is exceeded.

        Args:
            kind: What the monitor does not keep completely: ``boards``, ``deployments`` or
                ``stages``.
        """
        self._kinds.add(kind)

    def ignore(self, kind: str) -> None:
        """Count a message that was ignored because a limit is exceeded.

        Args:
            kind: The limit, as in :meth:`note`.
        """
        self.note(kind)
        self.ignored += 1

    def kinds(self) -> tuple[str, ...]:
        """Return what the monitor does not keep completely, sorted."""
        return tuple(sorted(self._kinds))
