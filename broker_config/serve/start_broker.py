"""Starts mosquitto if mosquitto is installed, else the embedded broker."""

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
    """Start a broker, wait until it accepts MQTT 5 clients, and return the broker.

    The caller must call the broker's ``stop()``, or use the broker in a ``with`` statement.

    Args:
        host: Name or IP address to listen on.
        port: TCP port to listen on; 0: a free port is chosen.
        kind: Kind of the broker; ``auto`` means mosquitto if installed, else the embedded broker.
        state_dir: Folder that keeps retained messages and sessions across restarts (mosquitto
            only).

    Raises:
        BrokerStartError: No broker of this kind is installed, the broker failed, or the embedded
            broker was given a ``state_dir``.
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
                "Install mosquitto (`apt install mosquitto`) or the embedded broker "
                "(`pip install 'edge-partition[host]'`).",
            )
    if kind == "mosquitto":
        return MosquittoBroker(host, port, state_dir=state_dir).start()
    if state_dir is not None:
        raise BrokerStartError(
            kind,
            "it stores nothing on disk and cannot use --state-dir",
            "Leave out --state-dir, or install mosquitto (`apt install mosquitto`).",
        )
    return EmbeddedBroker(host, port).start()
