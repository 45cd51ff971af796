"""Decides when the terminal is drawn again. Pure: times are arguments."""

from __future__ import annotations

#: Longest time between two drawings without a new message, in seconds: the shown time changes.
_QUIET_S = 2.0
#: Largest share of a core for drawing. A large fleet takes longer to draw and is drawn less often.
_SHARE = 0.05


class RedrawSchedule:
    """Remembers the time and cost of the last drawing, and the number of messages until then."""

    def __init__(self) -> None:
        self._seen = -1
        self._drawn_s = self._cost_s = 0.0

    @property
    def seen(self) -> int:
        """The number of messages at the last drawing."""
        return self._seen

    def is_due(self, seen: int, now_s: float) -> bool:
        """Return whether to draw.

        Args:
            seen: Number of messages received so far.
            now_s: The present time, by a monotonic clock, in seconds.
        """
        wait_s = _QUIET_S if seen == self._seen else self._cost_s / _SHARE
        return now_s - self._drawn_s >= wait_s

    def note_drawn(self, seen: int, now_s: float, cost_s: float) -> None:
        """Note a drawing that took ``cost_s`` seconds of processor time."""
        self._seen, self._drawn_s, self._cost_s = seen, now_s, cost_s

    def reset(self) -> None:
        """Make the next drawing due at once."""
        self._drawn_s = float("-inf")
