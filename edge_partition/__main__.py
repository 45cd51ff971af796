"""The entry point of ``edge-partition``. If the extra ``host`` is missing, an error names it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from edge_core.program.run_program import import_command_line

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> NoReturn:
    """Run the command line and exit with its status."""
    import_command_line("edge-partition", "host", _load)


def _load() -> Callable[[], NoReturn]:
    from edge_partition.cli import main  # noqa: PLC0415 -- needs the extra

    return main


if __name__ == "__main__":
    main()
