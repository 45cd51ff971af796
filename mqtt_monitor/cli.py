"""The command line of ``mqtt-monitor``. Each command has one file in ``commands/``.

Exit status: 0 success, 1 failure, 2 wrong usage. An error is one line on standard error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

from edge_core.program.click_program import (
    broker_address,
    broker_options,
    json_option,
    program,
    run_click_program,
)
from mqtt_monitor.commands._watching import somebody_watches

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The line of each command in ``-h``, by the command's name.
COMMANDS = {
    "home-assistant": "Make the boards appear in Home Assistant",
    "metrics": "Serve the fleet's metrics for Prometheus",
    "record": "Record the fleet's messages in a file, for a bug report",
    "replay": "Show the fleet from a recorded file",
    "traces": "Send the times of requests as OpenTelemetry traces",
    "web": "Show the fleet on a web page",
}


@program("mqtt_monitor.commands", COMMANDS, invoke_without_command=True)
@click.option("--once", is_flag=True, help="Print the present state of the fleet and exit.")
@json_option
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 3600),
    metavar="SECONDS",
    help="Collect messages for this time, then print the fleet. The rates of errors and of network "
    "traffic are known after at most 12 s. Default: collect until every board that is online has "
    "published statistics, at most 6 s.",
)
@broker_options
@click.pass_context
def app(
    context: click.Context,
    /,
    *,
    once: bool,
    as_json: bool,
    wait_s: float | None,
    prefix: str,
    **options: Any,
) -> int:
    """Show the fleet: its boards, the times of each stage, and the times of requests.

    In a terminal, the view is live; press ? for the keys. Without a terminal, the fleet is printed
    once, as with --once. Only the command home-assistant publishes messages. For everything else,
    an account that may only read is enough.
    """
    if context.invoked_subcommand is not None:
        given = [
            name
            for name in context.params
            if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        ]
        if given:
            raise click.UsageError(
                f"write the options of {context.invoked_subcommand} after the name of the command: "
                f"`mqtt-monitor {context.invoked_subcommand} --OPTION`"
            )
        return 0
    broker = broker_address(options)
    # Imported here, because -h must not wait for the import of rich and Textual.
    if once or as_json or wait_s is not None or not somebody_watches():
        from mqtt_monitor.commands import _once  # noqa: PLC0415

        _once.print_fleet(broker, prefix, as_json=as_json, wait_s=wait_s)
        return 0
    from mqtt_monitor.commands import _live  # noqa: PLC0415

    return _live.show_broker(broker, prefix)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its status."""
    run_click_program("mqtt-monitor", app, arguments)
