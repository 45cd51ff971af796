"""Start mosquitto if installed, else the embedded broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from broker_config.serve.broker_process import BrokerStartError
from broker_config.serve.embedded import EmbeddedBroker, has_embedded
from broker_config.serve.mosquitto import MosquittoBroker, find_mosquitto

if TYPE_CHECKING:
    from pathlib import Path

BrokerKind = Literal["auto", "mosquitto", "embedded"]


def start_broker(
    host: str = "127.0.0.1",
    port: int = 1883,
    kind: BrokerKind = "auto",
    *,
    state_dir: Path | None = None,
) -> MosquittoBroker | EmbeddedBroker:
    """Start a broker and return it once it answers.

    The caller stops the broker, or uses it in a ``with`` statement.

    Args:
        host: Address to listen on.
        port: TCP port; 0: any free port.
        kind: ``auto``: mosquitto if installed, else the embedded broker.
        state_dir: Folder that keeps retained messages and sessions across restarts (mosquitto
            only).

    Raises:
        BrokerStartError: No such broker is installed, or the broker failed.
        PortInUseError: Another program listens on the port.
    """
    if kind == "auto":
        if find_mosquitto() is not None:
            kind = "mosquitto"
        elif has_embedded():
            kind = "embedded"
        else:
            raise BrokerStartError(
                kind,
                "no broker is installed",
                "Install one: `apt install mosquitto` or `pip install 'edge-partition[host]'`.",
            )
    if kind == "mosquitto":
        return MosquittoBroker(host, port, state_dir=state_dir).start()
    if state_dir is not None:
        raise BrokerStartError(
            kind,
            "it stores nothing on disk",
            "Leave out --state-dir, or install mosquitto (`apt install mosquitto`).",
        )
    return EmbeddedBroker(host, port).start()
