"""The exit statuses of all programs, on one page."""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """An exit status; :attr:`meaning` says when a program ends with it."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        """When a program ends with this status."""
        return {
            ExitStatus.DONE: "the program did what it was asked, or was stopped on request",
            ExitStatus.FAILED: "the program failed; standard error has the reason in one line",
            ExitStatus.USAGE: "the command line or a configuration file is wrong",
            ExitStatus.INTERRUPTED: "Ctrl-C ended the program before it was done",
        }[self]
