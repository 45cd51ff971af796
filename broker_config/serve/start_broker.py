"""Start the best broker this machine has."""

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
    """Start a broker and return it once it answers; the caller stops it, or leaves its ``with``.

    Args:
        host: The address to listen on.
        port: The TCP port; 0 takes a free one.
        kind: ``auto`` is mosquitto where it is installed, else the embedded broker.
        state_dir: Where retained messages and sessions outlive a restart (mosquitto only).

    Raises:
        BrokerStartError: No such broker is installed, it failed, or the port is in use
            (:class:`broker_config.serve.broker_process.PortInUseError`).
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
            "it keeps nothing on disk",
            "Leave --state-dir out, or install mosquitto (`apt install mosquitto`).",
        )
    return EmbeddedBroker(host, port).start()
