"""A broker for one desk from a wheel, where mosquitto is not installed: rumqttd in `iotcore`.

Run as a program, ``python -m broker_config.serve.embedded CONFIGURATION``, it is that broker.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import sys
from typing import TYPE_CHECKING

from broker_config.serve.broker_process import (
    MAX_PACKET_SIZE_BYTES,
    BrokerProcess,
    BrokerStartError,
    first_address,
    is_loopback,
)

if TYPE_CHECKING:
    from pathlib import Path

# The wheel's own defaults listen on every address, speak MQTT 3.1.1 only and refuse payloads over
# 20 kB; its router keeps the last segments of every topic's log, which grew to gigabytes. Of a
# filter's retained messages it sends max_outgoing_packet_count and forgets the rest.
_CONFIGURATION = """\
id = 0

[router]
id = 0
max_connections = 256
max_outgoing_packet_count = 1000
max_segment_size = {segment_bytes}
max_segment_count = {segment_count}

[v5.1]
name = "desk"
listen = "{address}"
next_connection_delay_ms = 1

[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = {max_packet_size_bytes}
max_inflight_count = 100
"""

_SEGMENT_BYTES = 2 * 1024 * 1024
_SEGMENT_COUNT = 4


class EmbeddedBroker(BrokerProcess):
    """rumqttd as a child process: good for trying things on one desk, not for a fleet.

    What it does not do, against mosquitto:

    - no TCP_NODELAY: a QoS 1 round trip of 50 kB takes 44 ms, of which all but 1 ms is waiting for
      a delayed acknowledgement, unless the readers set TCP_QUICKACK;
    - beyond 100 messages in flight to a reader, it keeps the last 8 MB of each topic (4 segments
      of 2 MB, or 4 larger messages): of 400 messages of 800 kB to a reader that stood still 110
      arrived, though all were acknowledged. So a client must bound its requests in flight;
    - it ignores the client's Receive Maximum and Maximum Packet Size, and announces no Maximum
      Packet Size of its own (it takes 32 MiB);
    - it keeps nothing on disk, and knows neither passwords nor access lists, so it listens on this
      machine only.

    Args:
        host: A loopback address or name.
        port: The TCP port; 0 takes a free one.

    Raises:
        BrokerStartError: `iotcore` is not installed, or the host is not this machine alone.
    """

    kind = "embedded"

    def __init__(self, host: str = "127.0.0.1", port: int = 1883) -> None:
        # rumqttd takes addresses, no names.
        super().__init__(first_address(self.kind, host), port, None)
        if not has_embedded():
            raise BrokerStartError(
                self.kind,
                "the package iotcore is not installed",
                "Install it (`pip install 'edge-partition[host]'`) or mosquitto "
                "(`apt install mosquitto`).",
            )
        if not is_loopback(self.kind, host):
            raise BrokerStartError(
                self.kind,
                f"it listens on this machine only, not on {host}",
                "Install mosquitto (`apt install mosquitto`) for a network, or leave --host out.",
            )

    @property
    def version(self) -> str:
        """The version of the `iotcore` wheel."""
        return importlib.metadata.version("iotcore")

    def _command(self, folder: Path) -> list[str]:
        configuration = folder / "rumqttd.toml"
        configuration.write_text(
            _CONFIGURATION.format(
                address=self.url.removeprefix("mqtt://"),
                segment_bytes=_SEGMENT_BYTES,
                segment_count=_SEGMENT_COUNT,
                max_packet_size_bytes=MAX_PACKET_SIZE_BYTES,
            )
        )
        # -P keeps the working directory, and what it may shadow, out of the import path.
        return [sys.executable, "-P", "-m", "broker_config.serve.embedded", str(configuration)]


def has_embedded() -> bool:
    """Tell whether `iotcore` is installed."""
    return importlib.util.find_spec("iotcore") is not None


def _serve(configuration: str) -> None:
    from iotcore import IotCoreBroker  # noqa: PLC0415 - only the child needs its 14 MB

    # rumqttd opens an error span for every packet: its log would grow with the traffic.
    logging.getLogger("rumqttd").setLevel(logging.CRITICAL)
    logging.getLogger("tracing").setLevel(logging.CRITICAL)
    broker = IotCoreBroker(config_path=configuration)
    try:
        broker.check_ports()
    except OSError as error:
        sys.exit(str(error))
    broker.run_forever()


if __name__ == "__main__":
    _serve(sys.argv[1])
