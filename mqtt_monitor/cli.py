"""``mqtt-monitor``: parse, call, print. One command a file in ``commands/``.

Exit status: 0 done, 1 the thing failed, 2 wrong usage. An error is one line on standard error.
"""

from __future__ import annotations

import sys
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

import click
from click.core import ParameterSource

from edge_core.program.run_program import run_program
from mqtt_monitor.commands import _options

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Command -> one line for the overview. Each is ``mqtt_monitor/commands/NAME.py``, ``_`` for ``-``,
#: imported only when asked for.
COMMANDS = {
    "home-assistant": "Let boards appear in Home Assistant",
    "metrics": "Answer Prometheus: /metrics",
    "record": "Write what the fleet says into a file, for a bug report",
    "replay": "Show a recording's fleet",
    "traces": "Send requests as OpenTelemetry traces",
    "web": "Show the fleet on a page",
}


class _Commands(click.Group):
    def list_commands(self, _context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = import_module(f"mqtt_monitor.commands.{name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(context, args)
        except click.UsageError as error:
            close = get_close_matches(args[0], COMMANDS, n=1)
            if not close:
                raise
            message = f"{error.message.rstrip('.')}; did you mean {close[0]}?"
            raise click.UsageError(message, context) from None

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--once", is_flag=True, help="Print the fleet as it stands and end.")
@_options.json_option
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 3600),
    metavar="SECONDS",
    help="Gather so long before printing; 12 shows rates. By default until every board that is "
    "online has told how it fares, 6 s at most.",
)
@_options.broker_options
@click.option("--debug", is_flag=True, help="Show tracebacks; may stand after the command too.")
@click.version_option(package_name="edge-partition")
@click.pass_context
def app(
    context: click.Context,
    *,
    once: bool,
    as_json: bool,
    wait_s: float | None,
    broker: str,
    prefix: str,
    debug: bool,
) -> int:
    """See the fleet: who is up, what each stage costs, where a request spent its time.

    Live in a terminal (? tells the keys); as with --once where the output is none. It listens and
    publishes nothing: an account that may only read will do.
    """
    del debug  # Read by main().
    if context.invoked_subcommand is not None:
        given = [
            name
            for name in context.params
            if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        ]
        if given:
            raise click.UsageError(
                f"Options of {context.invoked_subcommand} stand after it: "
                f"`mqtt-monitor {context.invoked_subcommand} --OPTION ...`."
            )
        return 0
    # Imported here: rich and Textual, and not for -h.
    if once or as_json or wait_s is not None or not _options.somebody_watches():
        from mqtt_monitor.commands import _once  # noqa: PLC0415

        _once.print_fleet(broker, prefix, as_json=as_json, wait_s=wait_s)
        return 0
    from mqtt_monitor.commands import _live  # noqa: PLC0415

    return _live.show_broker(broker, prefix)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its status."""
    status = run_program(
        "mqtt-monitor",
        lambda words: app.main(words, prog_name="mqtt-monitor", standalone_mode=False),
        arguments,
        usage_errors=(click.ClickException,),
        aborts=(click.Abort,),
    )
    sys.exit(status)
