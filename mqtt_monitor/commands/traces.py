"""``mqtt-monitor traces``: requests for Jaeger, Tempo and whatever else takes OpenTelemetry's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from edge_core.contract.topics import Topics
from edge_core.program.stop_request import StopRequest
from mqtt_monitor.commands._options import broker_options, tell_broker
from mqtt_monitor.feeds.live import LiveFeed

if TYPE_CHECKING:
    from mqtt_monitor.fleet.snapshot import Request

#: 200 requests are kept in between.
_POLL_S = 0.25


@click.command("traces")
@click.option(
    "--endpoint",
    metavar="URL",
    help="Where OTLP over HTTP is taken; without a path, /v1/traces of it. By default "
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT, else "
    "http://127.0.0.1:4318.",
)
@click.option(
    "--service",
    envvar="OTEL_SERVICE_NAME",
    default="edge-partition",
    show_default=True,
    help="The name that the traces stand under.",
)
@broker_options
def command(*, endpoint: str | None, service: str, broker: str, prefix: str) -> None:
    """Send requests as OpenTelemetry traces until Ctrl-C.

    Each request that its client tells of, one a second and client at most, becomes a trace: what
    the wire, each stage's queue and each inference took, with board and deployment.
    """
    # The extra monitor-otel, of which run_program says that it is missing.
    from mqtt_monitor.exports.traces import TraceExport, find_endpoint  # noqa: PLC0415

    ended = StopRequest.on_signals()
    url, topics = find_endpoint(endpoint, os.environ), Topics(prefix)

    def tell(text: str) -> None:
        click.echo(f"mqtt-monitor: {text}", err=True)

    with (
        TraceExport(url, topics, service, tell) as export,
        LiveFeed(broker, prefix=prefix, on_broker=tell_broker) as feed,
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
