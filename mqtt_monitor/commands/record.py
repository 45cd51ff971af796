"""``mqtt-monitor record``: writes the fleet's messages into a file."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from edge_core.errors import EdgePartitionError
from edge_core.program.click_program import broker_address, broker_options
from edge_core.program.stop_request import StopRequest
from mqtt_monitor.commands._watching import tell_broker
from mqtt_monitor.feeds.live import LiveFeed
from mqtt_monitor.feeds.recording import Recorder
from mqtt_monitor.fleet.figures import MIB

_POLL_S = 0.2


@click.command("record")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--max-mib",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MIB",
    default=64.0,
    show_default=True,
    help="Stop recording before the file exceeds this size, in MiB.",
)
@click.option(
    "--for",
    "for_s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Stop recording after this time. Default: record until Ctrl-C.",
)
@click.option("--requests", is_flag=True, help="Also record the times of a few requests every 5 s.")
@broker_options
def command(
    *,
    file: Path,
    max_mib: float,
    for_s: float | None,
    requests: bool,
    prefix: str,
    **options: Any,
) -> None:
    """Record the fleet's messages in FILE, one JSON object per line.

    FILE keeps all recorded lines even if the command is killed. Outputs of models are not recorded.
    """
    ended = StopRequest.on_signals()
    address = broker_address(options)
    recorder = Recorder(file, prefix=prefix, broker_url=address.url, max_bytes=int(max_mib * MIB))

    def note(connected: bool, reason: str | None) -> None:
        recorder.note_broker(connected, reason)
        tell_broker(connected, reason)

    with recorder:
        try:
            feed = LiveFeed(address, prefix=prefix, listener=recorder.write, on_broker=note)
            feed.open()
        except EdgePartitionError:
            file.unlink()
            raise
        with closing(feed):
            feed.watch_requests(requests)
            deadline = None if for_s is None else time.monotonic() + for_s
            while not ended.wait(_POLL_S):
                if recorder.failure is not None:
                    raise recorder.failure
                if recorder.is_full or (deadline is not None and time.monotonic() > deadline):
                    break
    full = f"; stopped at the limit of {max_mib:g} MiB (--max-mib)" if recorder.is_full else ""
    click.echo(f"recorded {recorder.lines} lines in {file}{full}")
