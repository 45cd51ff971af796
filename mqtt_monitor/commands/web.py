"""``mqtt-monitor web``: a page that shows the fleet."""

from __future__ import annotations

import asyncio
import math
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_core.program.click_program import broker_address, broker_options, listen_option
from mqtt_monitor.commands._watching import tell_broker
from mqtt_monitor.feeds.live import LiveFeed
from mqtt_monitor.feeds.recording import ReplayFeed, playing
from mqtt_monitor.web.access import TOKEN_VARIABLE, Access, find_access
from mqtt_monitor.web.server import serve_page

if TYPE_CHECKING:
    from edge_core.program.listen_address import ListenAddress
    from mqtt_monitor.feeds.feed import Feed


@click.command("web")
@listen_option(
    "127.0.0.1:8465",
    "The address to listen on; port 0 takes a free one. Any address but this machine's own needs "
    "a password.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The file whose first line is the page's password, or set the password in "
    f"{TOKEN_VARIABLE}.",
)
@click.option(
    "--host-name",
    "host_names",
    multiple=True,
    metavar="NAME",
    help="Another name of this server, such as a reverse proxy's; repeatable.",
)
@click.option(
    "--replay",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Show a fleet from a recording (`mqtt-monitor record` writes one), without a broker.",
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    metavar="FACTOR",
    default=math.inf,
    help="For --replay: 1 plays at the recorded speed. Default: without waiting.",
)
@broker_options
def command(
    *,
    listen: ListenAddress,
    token_file: Path | None,
    host_names: tuple[str, ...],
    replay: Path | None,
    speed: float,
    prefix: str,
    **options: Any,
) -> None:
    """Show the fleet on a page until Ctrl-C.

    By default only this machine can open the page. To show the page to a network, give --listen
    and a password; in a network that is not yours, put a TLS proxy in front.
    """
    access = find_access(listen, token_file=token_file, host_names=host_names, environ=os.environ)
    if replay is not None:
        recorded = ReplayFeed(replay, speed=speed)
        with playing(recorded):
            asyncio.run(_serve(recorded, listen, access))
        return
    with LiveFeed(broker_address(options), prefix=prefix, on_broker=tell_broker) as feed:
        asyncio.run(_serve(feed, listen, access))


async def _serve(feed: Feed, listen: ListenAddress, access: Access) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    await serve_page(feed, listen, access, ended=ended, on_listening=click.echo)
