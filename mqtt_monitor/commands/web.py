"""``mqtt-monitor web``: serves a web page that shows the fleet."""

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
    "Address and port to listen on. Port 0 chooses a free port. An address that other machines can "
    "reach needs a password.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File whose first line is the page's password. Without this option, the password is the "
    f"value of the environment variable {TOKEN_VARIABLE}.",
)
@click.option(
    "--host-name",
    "host_names",
    multiple=True,
    metavar="NAME",
    help="A further host name that the page's URL may have, such as the name of a reverse proxy. "
    "Repeatable.",
)
@click.option(
    "--replay",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Show the fleet from FILE, a recording of `mqtt-monitor record`. The page then shows no "
    "live fleet.",
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    metavar="FACTOR",
    default=math.inf,
    help="Speed of --replay: 1 is the recorded speed. Default: no waiting between messages.",
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
    """Serve a web page that shows the fleet, until Ctrl-C.

    By default, only this machine can open the page. To allow other machines, give --listen and a
    password. The server does not encrypt the page. In a network that you do not trust, put a TLS
    proxy in front of the server.
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
