"""A command-line parser based on the standard library, for programs that also run on boards."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NoReturn

from edge_core.did_you_mean import did_you_mean
from edge_core.program.exit_status import ExitStatus
from edge_core.program.listen_address import ListenAddress, ListenAddressError
from edge_core.program.usage_line import usage_line
from edge_core.program.version import version_line

if TYPE_CHECKING:
    from collections.abc import Sequence


class StrictParser(argparse.ArgumentParser):
    """A parser that accepts no abbreviated option and never prints an unknown option's value.

    So ``--password secret`` is not read as ``--password-file secret``, and the error does not show
    the secret.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "allow_abbrev": False})

    def add_program_options(self) -> None:
        """Add ``--debug`` and ``--version``, which every program has."""
        self.add_argument(
            "--debug",
            action="store_true",
            default=None,
            help="show the traceback of an error; allowed before and after the command's name",
        )
        self.add_argument(
            "--version",
            action=_PrintVersion,
            nargs=0,
            default=argparse.SUPPRESS,
            help="show the version and exit",
        )

    def add_listen_option(self, default: str, help_text: str) -> None:
        """Add ``--listen HOST:PORT``, whose value is a :class:`ListenAddress`."""
        self.add_argument(
            "--listen",
            type=_listen_address,
            metavar="HOST:PORT",
            default=ListenAddress.parse(default),
            help=f"{help_text} (default: {default})",
        )

    def parse_words(self, words: Sequence[str] | None) -> argparse.Namespace:
        """Return the options in ``words``; on wrong usage print one line and exit.

        Args:
            words: Command-line arguments; None: the arguments of this process.
        """
        options, rest = self.parse_known_args(words)
        unknown = [word.partition("=")[0] for word in rest if word.startswith("-")]
        if unknown:
            known = [word for action in self._all_actions() for word in action.option_strings]
            self.error(f"unknown option {unknown[0]}{did_you_mean(unknown[0], known)}")
        if rest:
            self.error("unexpected arguments")
        for action in self._actions:
            is_command = isinstance(action, argparse._SubParsersAction)  # noqa: SLF001
            # argparse's own check for a missing command would hide the error of an unknown option.
            if is_command and getattr(options, action.dest, None) is None:
                self.error(f"a command is missing; expected {', '.join(action.choices or ())}")
        return options

    def error(self, message: str) -> NoReturn:
        """Print ``message`` as one line and exit with the status for wrong usage."""
        self.exit(ExitStatus.USAGE, f"{usage_line(self.prog, message)}\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:  # noqa: SLF001
            self.error(f"unknown command {value}{did_you_mean(value, action.choices)}")
        super()._check_value(action, value)

    def _all_actions(self) -> list[argparse.Action]:
        found = list(self._actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
                for parser in action.choices.values():
                    found += parser._actions  # noqa: SLF001
        return found


def _listen_address(text: str) -> ListenAddress:
    try:
        return ListenAddress.parse(text)
    except ListenAddressError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


class _PrintVersion(argparse.Action):
    """Prints the version for ``--version``; without the option, the version is not looked up."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(version_line(parser.prog))  # noqa: T201
        parser.exit()
