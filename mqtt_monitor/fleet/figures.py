"""Formats numbers, sizes and durations as text for the user."""

from __future__ import annotations

MIB = 1024 * 1024

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


def number(value: float | None, digits: int = 0) -> str:
    """Return a number with ``digits`` decimals; ``-`` for None."""
    return "-" if value is None else f"{value:,.{digits}f}"


def mib(size_bytes: float | None) -> str:
    """Return a size in MiB; ``-`` for None."""
    return "-" if size_bytes is None else f"{size_bytes / MIB:,.0f} MiB"


def duration(seconds: float, *, digits: int = 0) -> str:
    """Return a duration in s, min, h or days.

    A duration below two minutes has ``digits`` decimals. A longer duration is a whole number.
    """
    if seconds < 2 * _MINUTE_S:
        return f"{seconds:.{digits}f} s"
    if seconds < 2 * _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    if seconds < 2 * _DAY_S:
        return f"{seconds / _HOUR_S:.0f} h"
    return f"{seconds / _DAY_S:.0f} days"
