"""``edge-partition undeploy``: end a deployment and delete its parts from the boards."""

from __future__ import annotations

from typing import Any

import click

from edge_core.program.click_program import broker_address, broker_options, json_option
from edge_partition import api
from edge_partition.commands import _show


@click.command("undeploy")
@click.argument("deployment")
@click.option(
    "--force",
    is_flag=True,
    help="Undeploy even if a board of the deployment is offline. An offline board keeps its part.",
)
@broker_options
@json_option
def command(deployment: str, force: bool, prefix: str, as_json: bool, **options: Any) -> None:
    """End DEPLOYMENT and delete its files from the boards."""
    api.undeploy(deployment, broker_address(options), prefix=prefix, force=force)
    if as_json:
        _show.print_json({"undeployed": deployment})
    else:
        _show.console().print(f"{deployment} is deleted from its boards and from the broker.")
