"""The embedded broker, for machines without mosquitto: rumqttd from the package `iotcore`.

``python -m broker_config.serve.embedded CONFIGURATION`` runs the broker.
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

# With its default configuration rumqttd listens on every address, speaks MQTT 3.1.1 only and
# refuses payloads over 20 kB. In memory, rumqttd keeps a log of the last messages of each topic:
# at most max_segment_count segments, which take gigabytes with the default values. For a new
# subscription, rumqttd sends at most max_outgoing_packet_count retained messages and drops the
# rest.
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
    """rumqttd as a child process, for experiments on one machine.

    Limits that mosquitto does not have:

    - rumqttd does not set TCP_NODELAY. A QoS 1 round trip of 50 kB takes 44 ms, because the broker
      waits 43 ms for a delayed TCP acknowledgement. Subscribers that set TCP_QUICKACK avoid this
      wait.
    - While more than 100 messages wait for a subscriber, the broker keeps only the last 4 segments
      of each topic and drops older messages. A segment has 2 MB, or one larger message. In a test,
      a subscriber that paused received 110 of 400 messages of 800 kB, although the broker had
      acknowledged all 400. Clients must therefore limit their requests in flight.
    - The broker ignores a client's Receive Maximum and Maximum Packet Size. The broker accepts
      packets of up to 32 MiB, but does not announce this limit to clients.
    - The broker stores nothing on disk, and has neither passwords nor access lists. This class
      therefore accepts loopback addresses only.

    Args:
        host: A loopback address, or a name with a loopback address, such as ``localhost``.
        port: TCP port to listen on; 0: :meth:`start` chooses a free port.

    Raises:
        BrokerStartError: `iotcore` is not installed, or the host is not a loopback address.
    """

    kind = "embedded"

    def __init__(self, host: str = "127.0.0.1", port: int = 1883) -> None:
        # rumqttd needs an IP address and accepts no host name.
        super().__init__(first_address(self.kind, host), port, None)
        if not has_embedded():
            raise BrokerStartError(
                self.kind,
                "the package iotcore is not installed",
                "Install iotcore (`pip install 'edge-partition[host]'`) or mosquitto "
                "(`apt install mosquitto`).",
            )
        if not is_loopback(self.kind, host):
            raise BrokerStartError(
                self.kind,
                f"it listens on this machine only, not on {host}",
                "Install mosquitto (`apt install mosquitto`), or leave out --listen.",
            )

    @property
    def version(self) -> str:
        """Version of the `iotcore` package."""
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
        # -P keeps the working directory out of the import path, where it may hide modules.
        return [sys.executable, "-P", "-m", "broker_config.serve.embedded", str(configuration)]


def has_embedded() -> bool:
    """Return whether `iotcore` is installed."""
    return importlib.util.find_spec("iotcore") is not None


def _serve(configuration: str) -> None:
    from iotcore import IotCoreBroker  # noqa: PLC0415 - 14 MB that only the broker process needs

    # rumqttd logs an error span for every packet, so its log would grow with the traffic.
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
