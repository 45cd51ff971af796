"""``edge-partition``: parse, call, print. One command a file in ``commands/``.

Exit status: 0 done, 1 the thing failed, 2 wrong usage. An error is one line on standard error.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from broker_config.errors import EdgePartitionError

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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    sys.exit(_run([word for word in words if word != "--debug"], debug=debug))


def _run(words: list[str], *, debug: bool) -> int:
    try:
        result: Any = app.main(words, prog_name="edge-partition", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        print("edge-partition: interrupted", file=sys.stderr)  # noqa: T201
        return 130
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing is wrong, nothing to say.
        sys.stderr.close()
        return 0
    except Exception as error:
        if debug:
            raise
        print(f"edge-partition: {describe(error)}", file=sys.stderr)  # noqa: T201
        return 1
    return result if isinstance(result, int) else 0


def describe(error: Exception) -> str:
    """Return one line for an error: ours as it is, others as the defects they are."""
    text = " ".join(str(error).split())
    if isinstance(error, EdgePartitionError):
        return text
    return f"internal error: {type(error).__name__}: {text} (run again with --debug and report it)"
