"""Runs mosquitto on this machine, with settings for boards that send activations to each other."""

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

#: Folders to search after those of PATH. Debian installs mosquitto in ``/usr/sbin``, which is not
#: in the PATH of an ordinary user.
_BINARY_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")

_CONFIGURATION = """\
# broker-config overwrites this file at every start.
listener {port} {host}
allow_anonymous true
# Without this line a QoS 1 round trip of 50 kB waits 44 ms for a delayed TCP acknowledgement.
set_tcp_nodelay true
# In bytes. mosquitto announces this limit, and clients check the size of a message before they
# publish. mosquitto does not announce message_size_limit: larger messages would vanish without an
# error.
max_packet_size {max_packet_size_bytes}
# A stream has at most 64 requests in flight. Twice this number is enough that no stream waits for
# acknowledgements.
max_inflight_messages 128
# The most messages and bytes that wait for one client, besides the messages in flight. mosquitto
# drops further messages. Clients limit their requests in flight, so only the queue of a client
# that is disconnected and has a session can reach these limits.
max_queued_messages 1000
max_queued_bytes {max_queued_bytes}
# Delete the session of a client that has been disconnected for a day.
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
# Write retained messages and sessions to disk every 60 s; the default is 30 minutes. A power cut
# loses the changes since the last write.
autosave_interval 60
"""

#: Configuration line for a mosquitto that root starts. Without this line mosquitto would switch to
#: the user `mosquitto`, who cannot read a private folder. The switch would also clear
#: PR_SET_PDEATHSIG (prctl(2)), so mosquitto would keep running after its parent process has ended.
_KEEP_USER = "user root\n"

#: Environment variables for glibc's heap (mallopt(3)), with values in bytes. They make mosquitto
#: keep freed memory instead of returning the pages of each large message to the system. For a
#: message of 3.2 MB, mosquitto's processor time fell from 11 ms to 2 ms.
HEAP = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(128 << 20),
    "MALLOC_TOP_PAD_": str(16 << 20),
}

#: The most bytes that the broker queues for one client that does not read. 8 requests with the
#: largest activations (12.8 MB each) fit, and a fast publisher cannot fill the machine's memory.
_MAX_QUEUED_BYTES = 128 * 1024 * 1024

#: User id of root.
_PRIVILEGED = 0


class MosquittoBroker(BrokerProcess):
    """mosquitto as a child process.

    The broker has no passwords and no access list: everyone who reaches the address may use it.

    Args:
        host: Name or IP address to listen on.
        port: TCP port to listen on; 0: :meth:`start` chooses a free port.
        state_dir: Folder that keeps retained messages and sessions across restarts. None: retained
            messages and sessions are lost in a restart.

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
        """Version that ``mosquitto -h`` reports, or ``unknown``."""
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
    """Return the absolute path of mosquitto's binary; None: mosquitto is not installed."""
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
