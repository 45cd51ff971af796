"""``mqtt-monitor replay``: a recording's fleet."""

from __future__ import annotations

import math
from pathlib import Path

import click

from mqtt_monitor.commands import _once
from mqtt_monitor.commands._options import json_option, somebody_watches
from mqtt_monitor.feeds.recording import ReplayFeed


@click.command("replay")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    default=math.inf,
    help="1 is as it was, 10 ten times as fast; by default without waiting.",
)
@click.option("--once", is_flag=True, help="Print the fleet as it stood at the end and end.")
@json_option
def command(file: Path, speed: float, once: bool, as_json: bool) -> int:
    """Play FILE, which `mqtt-monitor record` wrote, and show its fleet.

    Live in a terminal, as at its end with --once or where the output is no terminal.
    """
    feed = ReplayFeed(file, speed=speed)
    if once or as_json or not somebody_watches():
        feed.play()
        _once.print_feed(feed, as_json=as_json)
        return 0
    from mqtt_monitor.commands import _live  # noqa: PLC0415 - Textual, and not for --once

    return _live.show_recording(feed, file)
