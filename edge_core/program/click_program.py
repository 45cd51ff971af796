"""Command lines with click: the parts that ``edge-partition`` and ``mqtt-monitor`` share.

Boards do not install click. No other module of this package imports click, and only the two
programs' command lines import this module; ``lint-imports`` checks both rules.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

from edge_core.did_you_mean import did_you_mean
from edge_core.mqtt.broker_address import BrokerAddress
from edge_core.program.broker_options import (
    BROKER_OPTIONS,
    PREFIX_OPTION,
    BrokerOption,
    find_misuse,
)
from edge_core.program.exit_status import ExitStatus
from edge_core.program.listen_address import ListenAddress, ListenAddressError
from edge_core.program.run_program import run_program
from edge_core.program.usage_line import usage_line
from edge_core.program.version import version_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_WIDEST_HELP = 100


def combined(*decorators: Decorator) -> Decorator:
    """Return one decorator for all ``decorators``; ``-h`` lists the options in the given order."""

    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


class CommandGroup(click.Group):
    """A program with one module for each command, ``PACKAGE/NAME.py``.

    A command's module is imported when the command runs, so ``-h`` and small commands do not wait
    for the import of TensorFlow or Textual.
    """

    def __init__(self, *, package: str, overview: Mapping[str, str], **options: Any) -> None:
        """Set up the program.

        Args:
            package: The package of the commands' modules. Each module has a click command named
                ``command``.
            overview: Each command's line in the program's ``-h``, by the command's name. A ``-`` in
                the name of a command is a ``_`` in the name of the command's module.
            options: Options of :class:`click.Group`.
        """
        super().__init__(no_args_is_help=False, **options)
        self._package = package
        self._overview = overview

    def list_commands(self, _context: click.Context) -> list[str]:
        """Return the commands in the order of the overview."""
        return list(self._overview)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """Import a command's module and return the command; None: there is no such command."""
        if name not in self._overview:
            return None
        module = import_module(f"{self._package}.{name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; the error for an unknown name suggests the closest name."""
        name = args[0]
        if name not in self._overview and not name.startswith("-"):
            problem = f"unknown command {name}{did_you_mean(name, self._overview)}"
            raise click.UsageError(problem, context)
        return super().resolve_command(context, args)

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Show the help and exit if the command line is empty and the program needs a command."""
        if not args and not self.invoke_without_command:
            click.echo(context.get_help(), err=True)
            context.exit(ExitStatus.USAGE)
        return super().parse_args(context, args)

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the overview without importing the commands."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._overview.items()))


def program(
    package: str, overview: Mapping[str, str], **options: Any
) -> Callable[[Callable[..., Any]], click.Command]:
    """Return a decorator that makes a function a program with commands.

    The program also has the options ``--debug`` and ``--version``.

    Args:
        package: As for :class:`CommandGroup`.
        overview: As for :class:`CommandGroup`.
        options: Options of :class:`click.Group`.
    """
    command = click.command(
        cls=CommandGroup,
        package=package,
        overview=overview,
        context_settings={
            "help_option_names": ["-h", "--help"],
            "max_content_width": _WIDEST_HELP,
        },
        **options,
    )

    def decorate(function: Callable[..., Any]) -> click.Command:
        return command(_debug_option(_version_option(function)))

    return decorate


def run_click_program(name: str, app: click.Command, arguments: Sequence[str] | None) -> NoReturn:
    """Run a command line and exit with its status.

    An error, such as wrong usage, is printed as one line on standard error.

    Args:
        name: The program's name.
        app: The command that :func:`program` made.
        arguments: Command-line arguments; None: the arguments of this process.
    """

    def run(words: list[str]) -> Any:
        try:
            return app.main(words, prog_name=name, standalone_mode=False)
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            path = name if context is None else context.command_path
            click.echo(usage_line(path, _problem(error)), err=True)
            return error.exit_code

    sys.exit(run_program(name, run, arguments, aborts=(click.Abort,)))


def _problem(error: click.ClickException) -> str:
    """Return the error's text; for an unknown option, the same text as ``StrictParser``."""
    if isinstance(error, click.NoSuchOption):
        known = (
            flag
            for parameter in (error.ctx.command.params if error.ctx else ())
            for flag in (*parameter.opts, *parameter.secondary_opts)
            if flag.startswith("-")
        )
        return f"unknown option {error.option_name}{did_you_mean(error.option_name, known)}"
    return error.format_message()


def _print_version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        click.echo(version_line(context.find_root().info_name or ""))
        context.exit()


# Only -h uses this option. run_program reads --debug itself, because it also handles errors that
# occur outside click.
_debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    help="Show the traceback of an error. Allowed before and after the command's name.",
)
_version_option = click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on standard output."
)


def _click_option(option: BrokerOption) -> Decorator:
    return click.option(
        option.flag,
        metavar=option.metavar,
        envvar=option.variable,
        show_envvar=True,
        default=option.default,
        show_default=option.default is not None,
        help=f"{option.help[0].upper()}{option.help[1:]}.",
    )


#: The options of a command that connects to a broker. The command's function has the parameter
#: ``prefix``, and passes the dict of its other options to :func:`broker_address`.
broker_options = combined(*map(_click_option, (*BROKER_OPTIONS, PREFIX_OPTION)))


def broker_address(options: dict[str, Any]) -> BrokerAddress:
    """Return the broker's address that a command's options give.

    The options that give the address are removed from ``options``.

    Raises:
        click.UsageError: An option on the command line has no effect with the other options.
        BrokerAddressError: The URL or the password file can't be used.
    """
    values = {option.name: options.pop(option.name) for option in BROKER_OPTIONS}
    context = click.get_current_context()
    given = frozenset(
        name for name in values if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    )
    misuse = find_misuse(values, given)
    if misuse is not None:
        raise click.UsageError(misuse, context)
    return BrokerAddress.parse(values.pop("broker"), **values)


class _Listen(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    name = "HOST:PORT"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> ListenAddress:
        if isinstance(value, ListenAddress):
            return value
        try:
            return ListenAddress.parse(str(value))
        except ListenAddressError as error:
            self.fail(str(error), param, ctx)


def listen_option(default: str, help_text: str) -> Decorator:
    """Return a decorator that adds ``--listen HOST:PORT``; the value is a ``ListenAddress``."""
    return click.option(
        "--listen",
        type=_Listen(),
        metavar=_Listen.name,
        default=default,
        show_default=True,
        help=help_text,
    )
