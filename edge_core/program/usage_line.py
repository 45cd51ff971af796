"""The one line that every program prints for wrong usage."""

from __future__ import annotations


def usage_line(program: str, message: str) -> str:
    """Return one line about wrong usage: the program, the problem, and the command for help.

    Args:
        program: The program with its subcommand, such as ``edge-partition split``.
        message: The problem; a period at the end is optional.
    """
    problem = " ".join(message.split()).rstrip(".")
    joint = " See" if problem.endswith("?") else "; see"
    return f"{program}: {problem}{joint} {program} -h."
