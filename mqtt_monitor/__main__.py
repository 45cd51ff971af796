"""Starts ``mqtt-monitor``; if a library is missing, tells the user to install the extra.

The extra ``monitor`` of this distribution installs the libraries that ``mqtt-monitor`` needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from edge_core.program.run_program import import_command_line

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> NoReturn:
    """Run the command line and exit with its status."""
    import_command_line("mqtt-monitor", "monitor", _load)


def _load() -> Callable[[], NoReturn]:
    from mqtt_monitor.cli import main  # noqa: PLC0415 -- this module needs the extra `monitor`

    return main


if __name__ == "__main__":
    main()
