"""The command line of ``broker-config``, which runs the broker for boards and clients."""

# ruff: noqa: T201 - a command line prints

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from broker_config.serve.broker_process import is_loopback
from broker_config.serve.embedded import EmbeddedBroker
from broker_config.serve.start_broker import BrokerKind, start_broker
from edge_core.program.exit_status import ExitStatus
from edge_core.program.run_program import run_program
from edge_core.program.stop_request import StopRequest
from edge_core.program.strict_parser import StrictParser

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from broker_config.serve.broker_process import BrokerProcess

_POLL_S = 0.5

_EMBEDDED_NOTE = (
    "the embedded broker (rumqttd) accepts connections from this machine only; install mosquitto "
    "to connect boards"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return run_program(
        "broker-config", lambda words: _serve(_parser().parse_words(words)), arguments
    )


def _parser() -> StrictParser:
    parser = StrictParser(
        prog="broker-config", description="Run the MQTT broker that boards and clients connect to."
    )
    parser.add_program_options()
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        help="run a broker on this machine until Ctrl-C",
        description="Run a broker on this machine, in the foreground, until Ctrl-C or SIGTERM.",
    )
    serve.add_listen_option(
        "127.0.0.1:1883",
        "address and port to listen on. Port 0 chooses a free port. If other machines can reach "
        "the address, everyone on the network can use the broker",
    )
    serve.add_argument(
        "--broker-kind",
        choices=get_args(BrokerKind),
        default="auto",
        help="the broker program: mosquitto, embedded (rumqttd from the package iotcore), or auto "
        "(the default: mosquitto if installed, else embedded)",
    )
    serve.add_argument(
        "--state-dir",
        type=Path,
        metavar="DIR",
        help="folder in which mosquitto keeps retained messages and sessions across restarts; the "
        "embedded broker stores nothing",
    )
    serve.add_argument(
        "--json",
        action="store_true",
        help="when clients can connect, print one JSON document with the broker's kind, version, "
        "url and pid",
    )
    return parser


def _serve(options: argparse.Namespace) -> int:
    # Signals are handled before the broker starts, so that a signal during the start stops the
    # broker too.
    ended = StopRequest.on_signals()

    with start_broker(
        options.listen.host, options.listen.port, options.broker_kind, state_dir=options.state_dir
    ) as broker:
        print(_announce(broker, as_json=options.json), flush=True)
        for note in _notes(broker.kind, broker.host):
            print(note, file=sys.stderr)
        while not ended.is_set():
            broker.wait(_POLL_S)
    return ExitStatus.DONE


def _announce(broker: BrokerProcess, *, as_json: bool) -> str:
    if as_json:
        names = ("kind", "version", "url", "pid")
        return json.dumps({name: getattr(broker, name) for name in names})
    reach = "this machine only" if is_loopback(broker.kind, broker.host) else "open to the network"
    return (
        f"{broker.kind} {broker.version} listens on {broker.url} ({reach}); Ctrl-C stops the broker"
    )


def _notes(kind: str, host: str) -> list[str]:
    """Return notes for the user: who can use the broker, and what the embedded broker lacks."""
    notes = []
    if not is_loopback(kind, host):
        notes.append(
            "warning: the broker has no passwords and no access list; everyone who can reach "
            f"{host} can use the broker"
        )
    if kind == EmbeddedBroker.kind:
        notes.append(_EMBEDDED_NOTE)
    return notes


if __name__ == "__main__":
    sys.exit(main())
