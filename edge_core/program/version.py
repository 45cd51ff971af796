"""The version that every program prints for ``--version``."""

from __future__ import annotations

DISTRIBUTION = "edge-partition"


def version_line(program: str) -> str:
    """Return ``PROGRAM VERSION``; the version is ``unknown`` if edge-partition is not installed."""
    # Imported here so that programs without --version start sooner.
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        return f"{program} {version(DISTRIBUTION)}"
    except PackageNotFoundError:
        return f"{program} unknown (edge-partition is not installed)"
