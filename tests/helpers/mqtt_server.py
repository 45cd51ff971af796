"""A server that answers CONNECT, and then does what a test does."""

from __future__ import annotations

import socket
import threading
from typing import Self

from edge_core.mqtt.broker_address import BrokerAddress

CONNACK = b"\x20\x03\x00\x00\x00"
PINGREQ = b"\xc0\x00"


class Server:
    """A server of one client, which answers CONNECT and then does what the test does."""

    def __init__(self, connack: bytes = CONNACK) -> None:
        self._connack = connack
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = BrokerAddress("127.0.0.1", self._listener.getsockname()[1])
        self.links: list[socket.socket] = []
        self.connects: list[bytes] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            self.connects.append(link.recv(1000))
            self.links.append(link)
            link.sendall(self._connack)

    def receive(self, timeout_s: float) -> bytes:
        """Return the bytes that arrive until nothing arrives for ``timeout_s``."""
        self.links[-1].settimeout(timeout_s)
        found = b""
        try:
            while part := self.links[-1].recv(1 << 20):
                found += part
        except TimeoutError:
            pass
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for link in self.links:
            link.close()
