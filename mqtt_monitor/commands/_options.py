"""Options that several commands share, and what they say of the broker."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from edge_core.contract.topics import DEFAULT_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable

BROKER_VARIABLE = "EDGE_PARTITION_BROKER"
DEFAULT_BROKER = "mqtt://127.0.0.1:1883"

json_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON document on standard output."
)


def broker_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--broker`` and ``--prefix``."""
    broker = click.option(
        "--broker",
        envvar=BROKER_VARIABLE,
        default=DEFAULT_BROKER,
        show_default=True,
        help=f"mqtt[s]://HOST:PORT; or {BROKER_VARIABLE}.",
    )
    prefix = click.option(
        "--prefix", default=DEFAULT_PREFIX, show_default=True, help="Topic prefix."
    )
    return broker(prefix(function))


def somebody_watches() -> bool:
    """Return whether there is a terminal to draw on and keys to read."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def tell_broker(connected: bool, reason: str | None) -> None:
    """Say on standard error that the broker went or came back."""
    lost = f"lost the connection to the broker: {reason}; trying again"
    text = "connected to the broker" if connected else lost
    click.echo(f"mqtt-monitor: {text}", err=True)
