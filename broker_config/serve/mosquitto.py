"""mosquitto on this machine, configured for boards that pass activations to each other."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from broker_config.serve.broker_process import (
    MAX_PACKET_SIZE_BYTES,
    BrokerProcess,
    BrokerStartError,
)

#: Debian puts it where an ordinary user's PATH does not look.
_BINARY_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")

_CONFIGURATION = """\
# Written by broker-config at every start: changes here are lost.
listener {port} {host}
allow_anonymous true
# Without it a QoS 1 round trip of 50 kB waits 44 ms for a delayed acknowledgement.
set_tcp_nodelay true
# Announced to clients, who check it before they publish. Not message_size_limit, which drops
# in silence.
max_packet_size {max_packet_size_bytes}
# Twice the largest useful window of requests, so that acknowledgements under way never stall it.
max_inflight_messages 32
# For one client, beyond what is in flight; what comes after is dropped. Clients keep a window of
# requests, so only a client that left its session behind gets here.
max_queued_messages 1000
max_queued_bytes {max_queued_bytes}
# Sessions that nobody came back for.
persistent_client_expiration 1d
log_dest stderr
log_type error
log_type warning
log_type notice
log_type information
"""

_PERSISTENCE = """\
persistence true
persistence_location {folder}/
# A power cut loses at most this many seconds of retained manifests; the default is 30 minutes.
autosave_interval 60
"""

#: A broker started by root would become the user `mosquitto`, who may not read a private folder;
#: and a change of user cancels its end with its parent (prctl(2), PR_SET_PDEATHSIG).
_KEEP_USER = "user root\n"

#: Bytes the broker keeps for one client that does not read. A full window of 8 requests with the
#: largest boundary of 12.8 MB passes; what a careless publisher piles up does not eat a board.
_MAX_QUEUED_BYTES = 128 * 1024 * 1024

_PRIVILEGED = 0


class MosquittoBroker(BrokerProcess):
    """mosquitto as a child process: everything this project uses of MQTT 5, at full speed.

    Anyone who reaches the address may use it: there are no passwords and no access lists.

    Args:
        host: The address to listen on.
        port: The TCP port; 0 takes a free one.
        state_dir: Where retained messages and sessions outlive a restart. None: they do not.

    Raises:
        BrokerStartError: mosquitto is not installed.
    """

    kind = "mosquitto"

    def __init__(
        self, host: str = "127.0.0.1", port: int = 1883, *, state_dir: Path | None = None
    ) -> None:
        super().__init__(host, port, state_dir)
        binary = find_mosquitto()
        if binary is None:
            raise BrokerStartError(
                self.kind,
                "mosquitto is not installed",
                "Install it (`apt install mosquitto`) and start it again.",
            )
        self._binary = binary

    @property
    def version(self) -> str:
        """The version the binary reports, or ``unknown``."""
        return _read_version(self._binary)

    def _command(self, folder: Path) -> list[str]:
        text = _CONFIGURATION.format(
            host=self.host,
            port=self.port,
            max_packet_size_bytes=MAX_PACKET_SIZE_BYTES,
            max_queued_bytes=_MAX_QUEUED_BYTES,
        )
        if self.state_dir is not None:
            text += _PERSISTENCE.format(folder=folder)
        if os.geteuid() == _PRIVILEGED:
            text += _KEEP_USER
        configuration = folder / "mosquitto.conf"
        configuration.write_text(text)
        return [str(self._binary), "-c", str(configuration)]


def find_mosquitto() -> Path | None:
    """Return the absolute path of mosquitto's binary, or None where it is not installed."""
    found = shutil.which("mosquitto") or shutil.which(
        "mosquitto", path=os.pathsep.join(_BINARY_FOLDERS)
    )
    return None if found is None else Path(found).resolve()


@cache
def _read_version(binary: Path) -> str:
    # `mosquitto -h` ends with status 3 on success.
    said = subprocess.run([binary, "-h"], capture_output=True, text=True, check=False, timeout=10)
    match = re.search(r"mosquitto version (\S+)", said.stdout + said.stderr)
    return match[1] if match else "unknown"
