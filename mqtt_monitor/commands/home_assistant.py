"""``mqtt-monitor home-assistant``: makes the boards appear in Home Assistant."""

from __future__ import annotations

import contextlib
from typing import Any

import click

from edge_core.contract.topics import Topics
from edge_core.errors import BrokerUnreachableError
from edge_core.program.click_program import broker_address, broker_options
from edge_core.program.stop_request import StopRequest
from mqtt_monitor.commands._watching import tell_broker
from mqtt_monitor.exports.home_assistant import DEFAULT_DISCOVERY_PREFIX, HomeAssistant
from mqtt_monitor.feeds.live import LiveFeed

_POLL_S = 0.5


@click.command("home-assistant")
@click.option(
    "--discovery-prefix",
    metavar="PREFIX",
    default=DEFAULT_DISCOVERY_PREFIX,
    show_default=True,
    help="The discovery prefix in the settings of Home Assistant's MQTT integration.",
)
@click.option(
    "--remove", is_flag=True, help="Remove this fleet's boards from Home Assistant and exit."
)
@broker_options
def command(*, discovery_prefix: str, remove: bool, prefix: str, **options: Any) -> None:
    """Announce boards to Home Assistant until Ctrl-C. The boards stay in Home Assistant afterwards.

    The account at the broker must be allowed to read the fleet's topics, and to read and write all
    topics below the discovery prefix. Home Assistant reads the values of a board directly from the
    topics of the board's agent.
    """
    ended = StopRequest.on_signals()
    address, topics = broker_address(options), Topics(prefix)
    with HomeAssistant(address, topics, Topics(discovery_prefix)) as discovery:
        if remove:
            click.echo(f"removed {discovery.remove()} boards below {discovery_prefix}/")
            return
        with LiveFeed(address, prefix=prefix, on_broker=tell_broker) as feed:
            feed.wait_until_known(0)
            announced = False
            while not ended.is_set():
                # The feed reports a lost connection to the user. When the connection is back, the
                # next call of follow() publishes what is missing.
                with contextlib.suppress(BrokerUnreachableError):
                    discovery.follow(feed.snapshot())
                    if not announced:
                        click.echo(f"boards are announced below {discovery_prefix}/device/")
                        announced = True
                ended.wait(_POLL_S)
