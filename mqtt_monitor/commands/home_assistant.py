"""``mqtt-monitor home-assistant``: boards appear in Home Assistant."""

from __future__ import annotations

import contextlib

import click

from edge_core.contract.topics import Topics
from edge_core.errors import BrokerUnreachableError
from edge_core.mqtt.broker_address import BrokerAddress
from edge_core.program.stop_request import StopRequest
from mqtt_monitor.commands._options import broker_options, tell_broker
from mqtt_monitor.exports.home_assistant import DEFAULT_DISCOVERY_PREFIX, HomeAssistant
from mqtt_monitor.feeds.live import LiveFeed

_POLL_S = 0.5


@click.command("home-assistant")
@click.option(
    "--discovery-prefix",
    default=DEFAULT_DISCOVERY_PREFIX,
    show_default=True,
    help="What Home Assistant's MQTT integration is set to.",
)
@click.option("--remove", is_flag=True, help="Take this fleet's boards out again and end.")
@broker_options
def command(*, discovery_prefix: str, remove: bool, broker: str, prefix: str) -> None:
    """Let boards appear in Home Assistant until Ctrl-C; what was told stays.

    Needs an account that reads the fleet's topics and reads and writes DISCOVERY_PREFIX/#. Home
    Assistant reads the agents' own topics: no figure is sent twice.
    """
    ended = StopRequest.on_signals()
    address, topics = BrokerAddress.parse(broker), Topics(prefix)
    with HomeAssistant(address, topics, Topics(discovery_prefix)) as discovery:
        if remove:
            click.echo(f"{discovery.remove()} boards removed below {discovery_prefix}/")
            return
        with LiveFeed(address, prefix=prefix, on_broker=tell_broker) as feed:
            feed.wait_until_known(0)
            told = False
            while not ended.is_set():
                # The feed says that the broker is gone; what is missing is told when it is back.
                with contextlib.suppress(BrokerUnreachableError):
                    discovery.follow(feed.snapshot())
                    if not told:
                        click.echo(f"boards are told below {discovery_prefix}/device/")
                        told = True
                ended.wait(_POLL_S)
