"""``device-agent``: options, signals, exit status. 0: stopped on request, 1: failed, 2: usage."""

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
from edge_core.program.run_program import run_program
from edge_core.program.stop_request import StopRequest
from edge_core.program.strict_parser import StrictParser


def _parser() -> StrictParser:
    parser = StrictParser(
        prog="device-agent",
        description="Run this board's part of a model that is split over several boards.",
        epilog="Every option may stand in the --config file, with _ for -: state_dir = '...'. "
        "Secrets come by file or environment alone: EDGE_PARTITION_PASSWORD, "
        "EDGE_PARTITION_PASSWORD_FILE.",
    )
    add = parser.add_argument
    add("--broker", metavar="URL", help="mqtt[s]://HOST:PORT (or EDGE_PARTITION_BROKER)")
    add("--name", help="this board's name, unique at the broker")
    add("--state-dir", metavar="DIR", help="where deployments outlive a restart")
    add("--config", metavar="FILE", type=Path, help="TOML file with any of these options")
    add("--prefix", help="leading topic levels (edge/v1)")
    add(
        "--threads",
        type=int,
        metavar="N",
        help=f"threads to compute with (all cores, {MAX_DEFAULT_THREADS} at most)",
    )
    add("--ram-mib", type=int, metavar="N", help="what the agent may use (what is free)")
    add("--username", help="sent to the broker")
    add("--password-file", metavar="FILE", help="holds the password")
    add("--ca-file", metavar="FILE", help="certificates to trust instead of the system's")
    add("--certificate-file", metavar="FILE", help="this board's certificate")
    add("--key-file", metavar="FILE", help="key of the certificate")
    add(
        "--keepalive",
        type=int,
        metavar="SECONDS",
        help=f"offline is said after 1.5 times this ({DEFAULT_KEEPALIVE_S})",
    )
    add(
        "--connect-timeout",
        type=float,
        metavar="SECONDS",
        help=f"wait this long for the broker at start ({DEFAULT_CONNECT_TIMEOUT_S:g})",
    )
    add("--debug", action="store_true", default=None, help="show tracebacks")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the agent until SIGTERM or SIGINT; return the exit status."""
    return run_program("device-agent", _run, arguments, usage_errors=(ConfigError,))


def _run(words: list[str]) -> None:
    options = vars(_parser().parse_words(words))
    file = options.pop("config")
    config = make_config(options, file)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    # numpy computes nothing here but the profile's measurement; its thread pool would take memory,
    # and made that measurement swing twentyfold on a busy board.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    heap.prepare()
    from device_agent.agent import Agent  # noqa: PLC0415 - `-h` answers at once

    try:
        Agent(config, StopRequest.on_signals()).run()
    except Exception:
        if config.debug:  # by the configuration file; run_program sees the command line alone
            traceback.print_exc()
        raise


if __name__ == "__main__":
    sys.exit(main())
