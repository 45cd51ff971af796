"""``mqtt-monitor record``: what the fleet says, in a file."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import click

from edge_core.errors import EdgePartitionError
from edge_core.mqtt.broker_address import BrokerAddress
from edge_core.program.stop_request import StopRequest
from mqtt_monitor.commands._options import broker_options, tell_broker
from mqtt_monitor.feeds.live import LiveFeed
from mqtt_monitor.feeds.recording import Recorder
from mqtt_monitor.fleet.figures import MIB

_POLL_S = 0.2


@click.command("record")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--max-mib",
    type=click.FloatRange(min=0, min_open=True),
    default=64.0,
    show_default=True,
    help="End when the file would grow larger.",
)
@click.option(
    "--for",
    "for_s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="End after so long; by default Ctrl-C ends it.",
)
@click.option("--requests", is_flag=True, help="Record the traces of some results too.")
@broker_options
def command(
    *, file: Path, max_mib: float, for_s: float | None, requests: bool, broker: str, prefix: str
) -> None:
    """Write every message that the monitor reads into FILE, as JSON lines.

    What was written stays, however this ends. Outputs of models are not recorded.
    """
    ended = StopRequest.on_signals()
    address = BrokerAddress.parse(broker)
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
    full = f"; {max_mib:g} MiB are full (--max-mib)" if recorder.is_full else ""
    click.echo(f"{recorder.lines} lines in {file}{full}")
