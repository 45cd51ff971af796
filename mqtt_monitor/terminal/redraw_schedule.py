"""Decides when to draw the terminal's screen again. Pure: times are arguments."""

from __future__ import annotations

#: Without a new message, the screen is drawn after this time in seconds, to update the shown time.
_QUIET_S = 2.0
#: Largest share of one core's time for drawing. A large fleet takes longer to draw, so it is drawn
#: less often.
_SHARE = 0.05


class RedrawSchedule:
    """Decides when to draw the screen again.

    The decision depends on the time and the processor time of the last drawing.
    """

    def __init__(self) -> None:
        self._seen = -1
        self._drawn_s = self._cost_s = 0.0

    @property
    def seen(self) -> int:
        """The feed's number of changes at the last drawing; -1: nothing has been drawn yet."""
        return self._seen

    def is_due(self, seen: int, now_s: float) -> bool:
        """Return whether to draw now.

        Args:
            seen: The feed's number of changes so far, from :meth:`Feed.wait_for_change`.
            now_s: The present time by a monotonic clock, in seconds.
        """
        wait_s = _QUIET_S if seen == self._seen else self._cost_s / _SHARE
        return now_s - self._drawn_s >= wait_s

    def note_drawn(self, seen: int, now_s: float, cost_s: float) -> None:
        """Record that the screen was drawn.

        Args:
            seen: The feed's number of changes so far, as for :meth:`is_due`.
            now_s: Time of the drawing by a monotonic clock, in seconds.
            cost_s: Processor time of the drawing, in seconds.
        """
        self._seen, self._drawn_s, self._cost_s = seen, now_s, cost_s

    def reset(self) -> None:
        """Make the next drawing due at once."""
        self._drawn_s = float("-inf")
