"""``mqtt-monitor replay``: shows the fleet from a recorded file."""

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
    help="Speed of the replay: 1 is the recorded speed, 10 is ten times the recorded speed. "
    "Default: no waiting between messages.",
)
@click.option(
    "--once", is_flag=True, help="Print the state of the fleet at the recording's end and exit."
)
@json_option
def command(file: Path, speed: float, once: bool, as_json: bool) -> int:
    """Replay FILE, a recording of `mqtt-monitor record`, and show the recorded fleet.

    In a terminal, the view follows the replay. With --once, with --json or without a terminal, the
    command prints the state of the fleet at the recording's end.
    """
    feed = ReplayFeed(file, speed=speed)
    if once or as_json or not somebody_watches():
        feed.play()
        _once.print_feed(feed, as_json=as_json)
        return 0
    from mqtt_monitor.commands import _live  # noqa: PLC0415 - --once needs no Textual

    return _live.show_recording(feed, file)
