"""Check that the output is a terminal; print when the broker's connection is lost or restored."""

from __future__ import annotations

import os
import sys

import click


def somebody_watches() -> bool:
    """Return whether input and output are a terminal that can show the live fleet."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def tell_broker(connected: bool, reason: str | None) -> None:
    """Print on standard error that the connection to the broker was lost or is back."""
    lost = f"lost the connection to the broker: {reason}; trying again"
    text = "connected to the broker" if connected else lost
    click.echo(f"mqtt-monitor: {text}", err=True)
