"""The end of a program: an exit status, and one line on standard error for an error."""

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

    This function does not parse the arguments: the host's programs parse them with click, which
    boards do not install.

    Args:
        name: Name of the program.
        run: Runs the program; called with the arguments without ``--debug``. If ``run`` returns a
            whole number, the number is the exit status.
        arguments: Command-line arguments; None: the arguments of this process. If they contain
            ``--debug``, the function raises an error again, so that Python prints the traceback.
        usage_errors: Exceptions that mean wrong usage.
        aborts: Exceptions that mean that the user interrupted a prompt.

    Returns:
        An :class:`~edge_core.program.exit_status.ExitStatus`, or the whole number that ``run``
        returned.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    interruptions: tuple[type[BaseException], ...] = (KeyboardInterrupt, *aborts)
    try:
        result = run([word for word in words if word != "--debug"])
    except usage_errors as error:
        print(f"{name}: {_one_line(error)}", file=sys.stderr)  # noqa: T201
        return ExitStatus.USAGE
    except interruptions:
        print(f"{name}: interrupted", file=sys.stderr)  # noqa: T201
        return ExitStatus.INTERRUPTED
    except BrokenPipeError:
        # The reader of the output has ended (`| head`): not an error.
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
    """Import and run a program that needs an extra, and exit with the program's status.

    If a library is missing, print an error that names the extra.

    Args:
        name: Name of the program.
        extra: The extra that installs the program's libraries.
        load: Function that imports the program and returns its ``main``.
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
    """Return an error as one line.

    The line for a missing package names the extra to install. Any other error that is not an
    ``EdgePartitionError`` is called an internal error.
    """
    if isinstance(error, ModuleNotFoundError):
        line = explain_missing(error)
        if line is not None:
            return line
    text = _one_line(error)
    if isinstance(error, EdgePartitionError):
        return text
    problem = f"internal error: {type(error).__name__}: {text}"
    return f"{problem} (run again with --debug, and report the traceback)"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
