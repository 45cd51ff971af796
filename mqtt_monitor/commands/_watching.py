"""The check for a live terminal, and the lines about the connection to the broker."""

from __future__ import annotations

import os
import sys

import click


def somebody_watches() -> bool:
    """Return whether there is a terminal to draw on and keys to read."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def tell_broker(connected: bool, reason: str | None) -> None:
    """Print on standard error that the connection to the broker was lost or is back."""
    lost = f"lost the connection to the broker: {reason}; trying again"
    text = "connected to the broker" if connected else lost
    click.echo(f"mqtt-monitor: {text}", err=True)
