"""The exit statuses of all programs."""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """How a program ended: the number that the program returns to the shell."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        """Description of the exit status, for help texts and documents."""
        return {
            ExitStatus.DONE: "the program succeeded, or was stopped on request",
            ExitStatus.FAILED: "the program failed; one line on standard error gives the reason",
            ExitStatus.USAGE: "the command line or a configuration file is wrong",
            ExitStatus.INTERRUPTED: "Ctrl-C ended the program before it was done",
        }[self]
