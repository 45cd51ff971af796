"""``edge-partition undeploy``: end a deployment."""

from __future__ import annotations

import click

from edge_partition import api
from edge_partition.commands import _show
from edge_partition.commands._options import broker_options, json_option


@click.command("undeploy")
@click.argument("deployment")
@click.option(
    "--force", is_flag=True, help="Also while a board of it is offline and can't be told."
)
@broker_options
@json_option
def command(deployment: str, force: bool, broker: str, prefix: str, as_json: bool) -> None:
    """End DEPLOYMENT and delete it from its boards."""
    api.undeploy(deployment, broker, prefix=prefix, force=force)
    if as_json:
        _show.print_json({"undeployed": deployment})
    else:
        _show.console().print(f"{deployment} is gone from its boards and from the broker.")
