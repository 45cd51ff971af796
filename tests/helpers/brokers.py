"""mosquitto with accounts and an access list."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from broker_config.serve.mosquitto import find_mosquitto

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_S = 20.0
#: Anonymous clients may only read.
_ACCESS = """topic read edge/v1/#
user agent
topic readwrite edge/v1/#
user discovery
topic read edge/v1/#
topic readwrite homeassistant/#
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def mosquitto_with_accounts(folder: Path, port: int) -> Iterator[str]:
    """Start mosquitto; yield its URL."""
    binary = find_mosquitto()
    if binary is None:
        if os.environ.get("CI"):
            pytest.fail("mosquitto must be installed in CI")
        pytest.skip("mosquitto is not installed")
    access = folder / "access"
    access.write_text(_ACCESS)
    access.chmod(0o600)
    configuration = folder / "mosquitto.conf"
    configuration.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nacl_file {access}\n"
        f"user {os.environ.get('USER') or 'root'}\n"
    )
    log = folder / "mosquitto.log"
    with log.open("ab") as stream:
        process = subprocess.Popen([binary, "-c", configuration], stdout=stream, stderr=stream)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"mosquitto did not start: {log.read_text()}")
            time.sleep(0.05)
        yield f"mqtt://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def wait_until(condition: object, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            pytest.fail(f"waited {PATIENCE_S:g} s for: {what}")
        time.sleep(0.02)
