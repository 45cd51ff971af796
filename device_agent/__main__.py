"""The program ``device-agent``: options, signals and exit status.

Exit status: 0 stopped on request, 1 failed, 2 wrong usage.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from pathlib import Path

from device_agent.config import (
    DEFAULT_CONNECT_TIMEOUT_S,
    DEFAULT_KEEPALIVE_S,
    MAX_DEFAULT_THREADS,
    ConfigError,
    make_config,
)
from edge_core.program import heap
from edge_core.program.broker_options import BROKER_OPTIONS, PREFIX_OPTION
from edge_core.program.run_program import run_program
from edge_core.program.stop_request import StopRequest
from edge_core.program.strict_parser import StrictParser


def _parser() -> StrictParser:
    parser = StrictParser(
        prog="device-agent",
        description="Run this board's part of a model that is split over several boards.",
        epilog="The --config file can set every other option. Write _ instead of - in the file: "
        "state_dir = '...'. There is no option for a password: use --password-file, or the "
        "environment variable EDGE_PARTITION_PASSWORD.",
    )
    add = parser.add_argument
    add("--name", metavar="NAME", help="this board's name, unique at the broker (required)")
    add(
        "--state-dir",
        metavar="DIR",
        help="folder that keeps deployments across restarts; each agent needs its own (required)",
    )
    add(
        "--config",
        metavar="FILE",
        type=Path,
        help="TOML file with values of the other options; command-line options override it",
    )
    for option in BROKER_OPTIONS:
        add(option.flag, metavar=option.metavar, help=f"{option.help} (or {option.variable})")
    add(
        PREFIX_OPTION.flag,
        metavar=PREFIX_OPTION.metavar,
        help=f"{PREFIX_OPTION.help} (default: {PREFIX_OPTION.default})",
    )
    add(
        "--threads",
        type=int,
        metavar="N",
        help=f"threads for inference (default: all cores, at most {MAX_DEFAULT_THREADS})",
    )
    add(
        "--ram-mib",
        type=int,
        metavar="MIB",
        help="memory that the agent may use, in MiB (default: the board's free memory)",
    )
    add(
        "--keepalive",
        type=int,
        metavar="SECONDS",
        help="MQTT keep-alive: after 1.5 times this time without a message from this board, the "
        f"broker reports the board as offline (default: {DEFAULT_KEEPALIVE_S})",
    )
    add(
        "--connect-timeout",
        type=float,
        metavar="SECONDS",
        help=f"longest wait for the broker at start (default: {DEFAULT_CONNECT_TIMEOUT_S:g})",
    )
    parser.add_program_options()
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the agent until SIGTERM or SIGINT; return the exit status."""
    return run_program("device-agent", _run, arguments, usage_errors=(ConfigError,))


def _run(words: list[str]) -> None:
    options = vars(_parser().parse_words(words))
    file = options.pop("config")
    config = make_config(options, file)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    # numpy gets one thread, because its thread pool takes memory. With the pool, the measurements
    # of a profile varied by a factor of 20 on a busy board.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    heap.prepare()
    from device_agent.agent import Agent  # noqa: PLC0415 - not needed for -h

    try:
        Agent(config, StopRequest.on_signals()).run()
    except Exception:
        # run_program heeds --debug on the command line only; the configuration file may set it too.
        if config.debug:
            traceback.print_exc()
        raise


if __name__ == "__main__":
    sys.exit(main())
