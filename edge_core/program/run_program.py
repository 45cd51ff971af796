"""A program's end: its exit status, and one line on standard error for whatever went wrong."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from edge_core.errors import EdgePartitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_FAILED, _INTERRUPTED = 1, 130


def run_program(
    name: str,
    run: Callable[[list[str]], Any],
    arguments: Sequence[str] | None,
    *,
    usage_error: type[Exception],
    abort: type[Exception],
) -> int:
    """Run a command line and return its exit status.

    The command line's library is the caller's: boards have none, and this package is theirs too.

    Args:
        name: The program's.
        run: Does what the words ask; a whole number that it returns is the status.
        arguments: The words; those of this process by default. ``--debug`` among them shows
            tracebacks, wherever it stands.
        usage_error: What the library raises for wrong usage, with ``show()`` and ``exit_code``.
        abort: What it raises for an interrupted prompt.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    try:
        result = run([word for word in words if word != "--debug"])
    except usage_error as error:
        shown: Any = error
        shown.show()
        return int(shown.exit_code)
    except (KeyboardInterrupt, abort):
        print(f"{name}: interrupted", file=sys.stderr)  # noqa: T201
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing is wrong, nothing to say.
        sys.stderr.close()
        return 0
    except Exception as error:
        if debug:
            raise
        print(f"{name}: {_describe(error)}", file=sys.stderr)  # noqa: T201
        return _FAILED
    return result if isinstance(result, int) else 0


def _describe(error: Exception) -> str:
    """Return one line for an error: ours as it is, others as the defects they are."""
    text = " ".join(str(error).split())
    if isinstance(error, EdgePartitionError):
        return text
    return f"internal error: {type(error).__name__}: {text} (run again with --debug and report it)"
