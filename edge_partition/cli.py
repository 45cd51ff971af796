"""``edge-partition``: parse, call, print. One command a file in ``commands/``.

Exit status: 0 done, 1 the thing failed, 2 wrong usage. An error is one line on standard error.
"""

from __future__ import annotations

import sys
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

import click

from edge_core.program.run_program import run_program

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Command -> one line for the overview. Each is ``edge_partition/commands/NAME.py``, imported
#: only when asked for, so that ``-h`` and ``run`` don't pay for what they don't use.
COMMANDS = {
    "demo": "Split, deploy and run the digits example on this machine",
    "inspect": "Show a model's operators and its wrapped constants",
    "convert": "Convert a Keras model to one .tflite file",
    "profile": "Have boards measure a model and their links",
    "plan": "Show the best split without writing it",
    "simulate": "Forecast a plan's throughput and latency",
    "split": "Split a model over boards and write the bundle",
    "verify": "Compare a bundle's parts with the whole model, bit for bit",
    "deploy": "Make a bundle live on its boards",
    "undeploy": "End a deployment and delete it from its boards",
    "status": "Show boards and live deployments",
    "run": "Stream inputs through a live deployment",
}


class _Commands(click.Group):
    def list_commands(self, _context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f"edge_partition.commands.{name}").command
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
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--debug", is_flag=True, help="Show tracebacks; may stand after the command too.")
@click.version_option(package_name="edge-partition")
def app(debug: bool) -> None:
    """Run one neural network over several small boards.

    Read a Keras or TFLite model, split it for your boards' memory, storage, speed and links,
    deploy the parts over MQTT, and get the whole model's answers, bit for bit.
    """
    del debug  # Read by main(), which stands around everything.


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its status."""
    status = run_program(
        "edge-partition",
        lambda words: app.main(words, prog_name="edge-partition", standalone_mode=False),
        arguments,
        usage_errors=(click.ClickException,),
        aborts=(click.Abort,),
    )
    sys.exit(status)
