"""``broker-config``: set up and run the broker that boards and clients meet at."""

# ruff: noqa: T201 - printing is what a command line does

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from broker_config.broker_process import is_loopback
from broker_config.errors import EdgePartitionError
from broker_config.start_broker import BrokerKind, start_broker

if TYPE_CHECKING:
    from collections.abc import Sequence

_DONE, _FAILED = 0, 1
_LAST_PORT = 65535
_POLL_S = 0.5

_EMBEDDED_NOTE = (
    "embedded broker (rumqttd): good for trying things on one desk; install mosquitto for a fleet"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status (argparse itself exits with 2 on usage)."""
    options = _parser().parse_args(arguments)
    try:
        return _serve(options)
    except EdgePartitionError as error:
        if options.debug:
            raise
        print(f"broker-config: {error}", file=sys.stderr)
        return _FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="broker-config", description="Set up and run the broker that boards meet at."
    )
    commands = parser.add_subparsers(title="commands", dest="command", required=True)
    serve = commands.add_parser(
        "serve",
        help="run a broker on this machine until Ctrl-C",
        description="Run a broker on this machine, in the foreground, until Ctrl-C or SIGTERM.",
    )
    serve.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; any but this machine's own opens the broker to everyone on "
        "that network (default: %(default)s)",
    )
    serve.add_argument(
        "--port",
        type=_port,
        default=1883,
        help="TCP port; 0 takes a free one (default: %(default)s)",
    )
    serve.add_argument(
        "--broker-kind",
        choices=get_args(BrokerKind),
        default="auto",
        help="auto is mosquitto where it is installed, else the embedded one (default: auto)",
    )
    serve.add_argument(
        "--state-dir",
        type=Path,
        metavar="DIR",
        help="keep retained messages and sessions here across restarts (mosquitto only)",
    )
    serve.add_argument(
        "--json",
        action="store_true",
        help="print {kind, version, url, pid} as one JSON document once the broker answers",
    )
    serve.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _port(text: str) -> int:
    port = int(text) if text.isdecimal() else -1
    if not 0 <= port <= _LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; expected 0 to {_LAST_PORT}")
    return port


def _serve(options: argparse.Namespace) -> int:
    # Set before the broker starts, so that a signal that comes meanwhile ends it as well.
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())

    with start_broker(
        options.host, options.port, options.broker_kind, state_dir=options.state_dir
    ) as broker:
        on_this_machine = is_loopback(broker.kind, broker.host)
        if options.json:
            facts = {
                "kind": broker.kind,
                "version": broker.version,
                "url": broker.url,
                "pid": broker.pid,
            }
            print(json.dumps(facts), flush=True)
        else:
            reach = (
                "this machine only" if on_this_machine else f"{broker.host}: open to the network"
            )
            print(
                f"{broker.kind} {broker.version} listens on {broker.url} ({reach}); Ctrl-C ends it",
                flush=True,
            )
        if not on_this_machine:
            print(
                f"broker-config: warning: anyone who reaches {broker.host}:{broker.port} may use "
                "this broker until access lists are set up.",
                file=sys.stderr,
            )
        if broker.kind == "embedded":
            print(_EMBEDDED_NOTE, file=sys.stderr)
        while not ended.is_set():
            broker.wait(_POLL_S)
    return _DONE


if __name__ == "__main__":
    sys.exit(main())
