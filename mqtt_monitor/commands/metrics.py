"""``mqtt-monitor metrics``: serves the fleet's metrics for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edge_core.program.click_program import broker_address, broker_options, listen_option
from edge_core.program.stop_request import StopRequest
from mqtt_monitor.commands._watching import tell_broker
from mqtt_monitor.exports.metrics import serve_metrics
from mqtt_monitor.feeds.live import LiveFeed

if TYPE_CHECKING:
    from edge_core.program.listen_address import ListenAddress


@click.command("metrics")
@listen_option(
    "127.0.0.1:9465",
    "Address and port to listen on. Port 0 chooses a free port. There is no password: if other "
    "machines can reach the address, everyone on the network can read the metrics.",
)
@broker_options
def command(*, listen: ListenAddress, prefix: str, **options: Any) -> None:
    """Serve http://HOST:PORT/metrics for Prometheus until Ctrl-C.

    The folder docs/monitoring of the repository has alert rules and a Grafana dashboard.
    """
    ended = StopRequest.on_signals()
    with LiveFeed(broker_address(options), prefix=prefix, on_broker=tell_broker) as feed:
        server = serve_metrics(feed, listen.host, listen.port)
        try:
            click.echo(f"http://{listen.with_port(server.server_port)}/metrics")
            ended.wait()
        finally:
            server.shutdown()
            server.server_close()
