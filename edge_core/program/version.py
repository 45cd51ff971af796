"""The version that every program prints for ``--version``."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

DISTRIBUTION = "edge-partition"


def version_line(program: str) -> str:
    """Return ``PROGRAM VERSION``; outside an installation the version is ``unknown``."""
    try:
        return f"{program} {version(DISTRIBUTION)}"
    except PackageNotFoundError:
        return f"{program} unknown (edge-partition is not installed)"
