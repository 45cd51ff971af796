"""Figures as texts, and the unit that sizes are told in."""

from __future__ import annotations

MIB = 1024 * 1024


def number(value: float | None, digits: int = 0) -> str:
    """Return a figure; ``-`` where it is not told."""
    return "-" if value is None else f"{value:,.{digits}f}"


def mib(size_bytes: float | None) -> str:
    """Return a size in MiB; ``-`` where it is not told."""
    return "-" if size_bytes is None else f"{size_bytes / MIB:,.0f} MiB"
