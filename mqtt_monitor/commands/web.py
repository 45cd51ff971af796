"""``mqtt-monitor web``: a page that shows the fleet."""

from __future__ import annotations

import asyncio
import math
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mqtt_monitor.commands._options import broker_options, tell_broker
from mqtt_monitor.feeds.live import LiveFeed
from mqtt_monitor.feeds.recording import ReplayFeed, playing
from mqtt_monitor.web.access import TOKEN_VARIABLE, Access, ListenAddress, find_access
from mqtt_monitor.web.server import serve_page

if TYPE_CHECKING:
    from mqtt_monitor.feeds.feed import Feed


@click.command("web")
@click.option(
    "--listen",
    default="127.0.0.1:8465",
    show_default=True,
    metavar="HOST:PORT",
    help="Port 0 takes a free one. Any address but this machine's own takes a password.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help=f"The password is the first line of this file; or {TOKEN_VARIABLE}.",
)
@click.option(
    "--host-name",
    "host_names",
    multiple=True,
    metavar="NAME",
    help="A further name of this server, such as a reverse proxy's; may be repeated.",
)
@click.option(
    "--replay",
    type=click.Path(path_type=Path),
    help="Show a file that `mqtt-monitor record` wrote instead of a broker's fleet.",
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    default=math.inf,
    help="With --replay: 1 is as it was; by default without waiting.",
)
@broker_options
def command(
    *,
    listen: str,
    token_file: Path | None,
    host_names: tuple[str, ...],
    replay: Path | None,
    speed: float,
    broker: str,
    prefix: str,
) -> None:
    """Show the fleet on a page until Ctrl-C.

    The page is this machine's alone. To show it to a network, give --listen and a password, and
    put a server that speaks TLS before it where the network isn't yours.
    """
    address = ListenAddress.parse(listen)
    access = find_access(address, token_file=token_file, host_names=host_names, environ=os.environ)
    if replay is not None:
        recorded = ReplayFeed(replay, speed=speed)
        with playing(recorded):
            asyncio.run(_serve(recorded, address, access))
        return
    with LiveFeed(broker, prefix=prefix, on_broker=tell_broker) as feed:
        asyncio.run(_serve(feed, address, access))


async def _serve(feed: Feed, address: ListenAddress, access: Access) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    await serve_page(feed, address, access, ended=ended, on_listening=click.echo)
