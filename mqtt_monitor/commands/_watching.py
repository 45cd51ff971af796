"""Functions for several commands: a check for a terminal, and messages about the connection."""

from __future__ import annotations

import os
import sys

import click


def somebody_watches() -> bool:
    """Return whether input and output are a terminal that can show the live view."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def tell_broker(connected: bool, reason: str | None) -> None:
    """Print on standard error that the monitor connected to the broker or lost the connection."""
    lost = f"lost the connection to the broker: {reason}; trying again"
    text = "connected to the broker" if connected else lost
    click.echo(f"mqtt-monitor: {text}", err=True)
