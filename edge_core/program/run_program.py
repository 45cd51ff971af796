"""A program's end: its exit status, and one line on standard error for whatever went wrong."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NoReturn

from edge_core.errors import EdgePartitionError
from edge_core.program.exit_status import ExitStatus
from edge_core.program.missing_extra import explain_missing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def run_program(
    name: str,
    run: Callable[[list[str]], Any],
    arguments: Sequence[str] | None,
    *,
    usage_errors: tuple[type[Exception], ...] = (),
    aborts: tuple[type[Exception], ...] = (),
) -> int:
    """Run a command line and return its exit status.

    The caller brings the command line's library: boards have none, and this package is theirs too.

    Args:
        name: The program's name.
        run: Does what the words ask; a whole number that it returns is the status.
        arguments: The words; by default those of this process. ``--debug`` anywhere among them
            shows tracebacks.
        usage_errors: The exceptions for wrong usage. One with a method ``show()`` prints itself.
        aborts: The exceptions for an interrupted prompt.

    Returns:
        An :class:`~edge_core.program.exit_status.ExitStatus`, or what ``run`` returned.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    interruptions: tuple[type[BaseException], ...] = (KeyboardInterrupt, *aborts)
    try:
        result = run([word for word in words if word != "--debug"])
    except usage_errors as error:
        shown: Any = error
        if hasattr(shown, "show"):
            shown.show()
            return int(shown.exit_code)
        print(f"{name}: {_one_line(error)}", file=sys.stderr)  # noqa: T201
        return ExitStatus.USAGE
    except interruptions:
        print(f"{name}: interrupted", file=sys.stderr)  # noqa: T201
        return ExitStatus.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing is wrong, nothing to say.
        sys.stderr.close()
        return ExitStatus.DONE
    except Exception as error:
        if debug:
            raise
        print(f"{name}: {_describe(error)}", file=sys.stderr)  # noqa: T201
        return ExitStatus.FAILED
    return result if isinstance(result, int) else ExitStatus.DONE


def import_command_line(
    name: str, extra: str, load: Callable[[], Callable[[], NoReturn]]
) -> NoReturn:
    """Import a program whose libraries an extra brings, run it, and exit with its status.

    Args:
        name: The program's name.
        extra: The extra that brings the program's libraries.
        load: Imports the program and returns its ``main``.
    """
    try:
        main = load()
    except ModuleNotFoundError as error:
        line = explain_missing(error, extra)
        if line is None:
            raise
        print(f"{name}: {line}", file=sys.stderr)  # noqa: T201
        sys.exit(ExitStatus.FAILED)
    main()


def _describe(error: Exception) -> str:
    """Return one line for an error: our own errors as they are, others as the defects they are."""
    if isinstance(error, ModuleNotFoundError):
        line = explain_missing(error)
        if line is not None:
            return line
    text = _one_line(error)
    if isinstance(error, EdgePartitionError):
        return text
    return f"internal error: {type(error).__name__}: {text} (run again with --debug and report it)"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
