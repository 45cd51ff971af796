"""``mqtt-monitor metrics``: an endpoint for Prometheus."""

from __future__ import annotations

import click

from edge_core.program.stop_request import StopRequest
from mqtt_monitor.commands._options import broker_options, tell_broker
from mqtt_monitor.exports.metrics import serve_metrics
from mqtt_monitor.feeds.live import LiveFeed

_LAST_PORT = 65535


@click.command("metrics")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; any but this machine's own shows the fleet to that network.",
)
@click.option(
    "--port",
    type=click.IntRange(0, _LAST_PORT),
    default=9465,
    show_default=True,
    help="TCP port; 0 takes a free one.",
)
@broker_options
def command(host: str, port: int, broker: str, prefix: str) -> None:
    """Answer Prometheus at http://HOST:PORT/metrics until Ctrl-C.

    docs/monitoring has alert rules and a Grafana dashboard.
    """
    ended = StopRequest.on_signals()
    with LiveFeed(broker, prefix=prefix, on_broker=tell_broker) as feed:
        server = serve_metrics(feed, host, port)
        try:
            click.echo(f"http://{host}:{server.server_port}/metrics")
            ended.wait()
        finally:
            server.shutdown()
            server.server_close()
