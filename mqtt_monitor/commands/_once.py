"""``mqtt-monitor --once``: prints the present state of the fleet."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from mqtt_monitor.feeds.live import LiveFeed
from mqtt_monitor.fleet.alerts import find_alerts
from mqtt_monitor.fleet.describe_fleet import describe_fleet
from mqtt_monitor.terminal.show_fleet import show_fleet

if TYPE_CHECKING:
    from edge_core.mqtt.broker_address import BrokerAddress
    from mqtt_monitor.feeds.feed import Feed

#: Longest wait for the first statistics of all boards, in seconds. Agents publish every 5 s.
_STATS_WITHIN_S = 6.0


def print_fleet(broker: BrokerAddress, prefix: str, *, as_json: bool, wait_s: float | None) -> None:
    """Connect to a broker, collect messages and print the fleet.

    Args:
        broker: The broker.
        prefix: The topics' prefix.
        as_json: Whether to print a JSON document instead of tables.
        wait_s: Time to collect messages, in seconds; None: collect until every board that is online
            has published statistics, at most 6 s.
    """
    with LiveFeed(broker, prefix=prefix) as feed:
        feed.wait_until_known(_STATS_WITHIN_S if wait_s is None else 0)
        time.sleep(wait_s or 0)
        print_feed(feed, as_json=as_json)


def print_feed(feed: Feed, *, as_json: bool) -> None:
    """Print the present state of a feed's fleet, as a JSON document or as tables."""
    fleet = feed.snapshot()
    alerts = find_alerts(fleet)
    if as_json:
        click.echo(json.dumps(describe_fleet(fleet, alerts, with_layers=True), indent=1))
    else:
        show_fleet(fleet, alerts)
