"""``mqtt-monitor replay``: shows the fleet of a recording."""

from __future__ import annotations

import math
from pathlib import Path

import click

from edge_core.program.click_program import json_option
from mqtt_monitor.commands import _once
from mqtt_monitor.commands._watching import somebody_watches
from mqtt_monitor.feeds.recording import ReplayFeed


@click.command("replay")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    metavar="FACTOR",
    default=math.inf,
    help="1 plays at the recorded speed, 10 ten times as fast. Default: without waiting.",
)
@click.option("--once", is_flag=True, help="Print the fleet at the recording's end, and exit.")
@json_option
def command(file: Path, speed: float, once: bool, as_json: bool) -> int:
    """Play FILE, which `mqtt-monitor record` wrote, and show its fleet.

    In a terminal the fleet is shown live. With --once, --json or without a terminal, the fleet at
    the recording's end is printed.
    """
    feed = ReplayFeed(file, speed=speed)
    if once or as_json or not somebody_watches():
        feed.play()
        _once.print_feed(feed, as_json=as_json)
        return 0
    from mqtt_monitor.commands import _live  # noqa: PLC0415 - Textual, and not for --once

    return _live.show_recording(feed, file)
