"""mosquitto with a test's own configuration."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from brokers import free_port
from connections import PATIENCE_S

from broker_config.serve.mosquitto import find_mosquitto

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def configured_mosquitto(folder: Path, *lines: str, port: int = 0) -> Iterator[int]:
    """Run mosquitto with the configuration ``lines``; yield the port on 127.0.0.1."""
    port = port or free_port()
    configuration = folder / "mosquitto.conf"
    user = ["user root"] if os.geteuid() == 0 else []
    configuration.write_text("\n".join([*user, f"listener {port} 127.0.0.1", *lines, ""]))
    binary = find_mosquitto()
    assert binary is not None
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([binary, "-c", configuration], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                socket.create_connection(("127.0.0.1", port), 1.0).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait()
