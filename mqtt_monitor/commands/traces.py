"""``mqtt-monitor traces``: sends the times of requests to Jaeger, Tempo and others (OTLP)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from edge_core.contract.topics import Topics
from edge_core.program.click_program import broker_address, broker_options
from edge_core.program.stop_request import StopRequest
from mqtt_monitor.commands._watching import tell_broker
from mqtt_monitor.feeds.live import LiveFeed

if TYPE_CHECKING:
    from mqtt_monitor.fleet.snapshot import Request

#: Time between two snapshots, in seconds. A snapshot has the newest 200 requests, so up to 800
#: requests per second reach the receiver.
_POLL_S = 0.25


@click.command("traces")
@click.option(
    "--endpoint",
    metavar="URL",
    help="URL of the server that receives the traces (OTLP over HTTP). If the URL has no path, "
    "/v1/traces is added. Default: the environment variable OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or "
    "OTEL_EXPORTER_OTLP_ENDPOINT, else http://127.0.0.1:4318.",
)
@click.option(
    "--service",
    metavar="NAME",
    envvar="OTEL_SERVICE_NAME",
    show_envvar=True,
    default="edge-partition",
    show_default=True,
    help="The service name in the traces.",
)
@broker_options
def command(*, endpoint: str | None, service: str, prefix: str, **options: Any) -> None:
    """Send the times of requests as OpenTelemetry traces until Ctrl-C.

    A client reports at most one request per second. Each reported request becomes one trace. A
    trace shows the deployment, and for each stage the board, the time on the network, the time in
    the queue and the time of the inference.
    """
    # Imported here, because the module needs the extra monitor-otel. run_program reports a missing
    # extra.
    from mqtt_monitor.exports.traces import TraceExport, find_endpoint  # noqa: PLC0415

    ended = StopRequest.on_signals()
    url, topics = find_endpoint(endpoint, os.environ), Topics(prefix)
    address = broker_address(options)

    def tell(text: str) -> None:
        click.echo(f"mqtt-monitor: {text}", err=True)

    with (
        TraceExport(url, topics, service, tell) as export,
        LiveFeed(address, prefix=prefix, on_broker=tell_broker) as feed,
    ):
        click.echo(f"traces go to {url}")
        seen: tuple[Request, ...] = ()
        running = True
        while running:
            running = not ended.wait(_POLL_S)
            requests = feed.snapshot().requests
            known = {id(request) for request in seen}
            for request in requests:
                if id(request) not in known:
                    export.add(request)
            seen = requests
