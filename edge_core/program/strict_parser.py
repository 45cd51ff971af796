"""A command-line parser of the standard library, for programs that also run on boards."""

from __future__ import annotations

import argparse
import difflib
from typing import TYPE_CHECKING, Any, NoReturn

from edge_core.program.exit_status import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Sequence


class StrictParser(argparse.ArgumentParser):
    """A parser without abbreviated options, which never prints the value of an unknown option.

    ``--password secret`` does not count as ``--password-file secret``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "allow_abbrev": False})

    def parse_words(self, words: Sequence[str] | None) -> argparse.Namespace:
        """Return the options; on wrong usage print one line and exit."""
        options, rest = self.parse_known_args(words)
        unknown = [word.partition("=")[0] for word in rest if word.startswith("-")]
        if unknown:
            self.error(f"unknown option {unknown[0]}{self._suggestion(unknown[0])}")
        if rest:
            self.error("unexpected arguments")
        return options

    def error(self, message: str) -> NoReturn:
        """Print ``message`` in one line and exit with the status of wrong usage."""
        self.exit(ExitStatus.USAGE, f"{self.prog}: {message}; see {self.prog} -h.\n")

    def _suggestion(self, option: str) -> str:
        known = [word for action in self._all_actions() for word in action.option_strings]
        close = difflib.get_close_matches(option, known, n=1, cutoff=0.7)
        return f"; did you mean {close[0]}?" if close else ""

    def _all_actions(self) -> list[argparse.Action]:
        found = list(self._actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
                for parser in action.choices.values():
                    found += parser._actions  # noqa: SLF001
        return found
