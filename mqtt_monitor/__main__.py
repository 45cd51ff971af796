"""Starts ``mqtt-monitor``, or names the extra ``monitor`` if it is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from edge_core.program.run_program import import_command_line

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> NoReturn:
    """Run the command line and exit with its status."""
    import_command_line("mqtt-monitor", "monitor", _load)


def _load() -> Callable[[], NoReturn]:
    from mqtt_monitor.cli import main  # noqa: PLC0415 -- it needs the extra

    return main


if __name__ == "__main__":
    main()
