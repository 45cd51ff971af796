"""mosquitto on this machine, configured for boards that send activations to each other."""

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

#: Debian installs mosquitto outside the PATH of an ordinary user.
_BINARY_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")

_CONFIGURATION = """\
# broker-config writes this file at every start: changes are lost.
listener {port} {host}
allow_anonymous true
# Without this a QoS 1 round trip of 50 kB waits 44 ms for a delayed acknowledgement.
set_tcp_nodelay true
# mosquitto announces this limit, and clients check it before they publish. With
# message_size_limit mosquitto would drop larger messages without an error.
max_packet_size {max_packet_size_bytes}
# Twice the most requests in flight of a stream, so that a stream never waits for acknowledgements.
max_inflight_messages 128
# Limits for one client, beyond the messages in flight; mosquitto drops further messages. Clients
# bound their requests in flight, so only an absent client with a session reaches these limits.
max_queued_messages 1000
max_queued_bytes {max_queued_bytes}
# Delete the session of a client that has been absent for a day.
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
# A power cut loses the retained messages of the last 60 s; the default is 30 minutes.
autosave_interval 60
"""

#: mosquitto started by root would switch to the user `mosquitto`, who may not read a private
#: folder. The switch would also cancel the end with the parent (prctl(2), PR_SET_PDEATHSIG).
_KEEP_USER = "user root\n"

#: glibc's heap (mallopt(3)): keep freed memory instead of returning each large message's pages to
#: the system. A message of 3.2 MB took the broker 11 ms of processor time without these variables,
#: and 2 ms with them.
HEAP = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(128 << 20),
    "MALLOC_TOP_PAD_": str(16 << 20),
}

#: Bytes that the broker queues for one client that does not read. A full window of 8 requests with
#: the largest boundary of 12.8 MB fits, and a fast publisher cannot fill a board's memory.
_MAX_QUEUED_BYTES = 128 * 1024 * 1024

_PRIVILEGED = 0


class MosquittoBroker(BrokerProcess):
    """mosquitto as a child process.

    The broker has no passwords and no access list: everyone who reaches the address may use it.

    Args:
        host: Address to listen on.
        port: TCP port; 0: any free port.
        state_dir: Folder that keeps retained messages and sessions across restarts; None: a restart
            loses both.

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
                "Install mosquitto (`apt install mosquitto`) and start the broker again.",
            )
        self._binary = binary

    @property
    def version(self) -> str:
        """Version that the binary reports, or ``unknown``."""
        return _read_version(self._binary)

    @property
    def _environment(self) -> dict[str, str]:
        return HEAP

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
    """Return the absolute path of mosquitto's binary; None: not installed."""
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
