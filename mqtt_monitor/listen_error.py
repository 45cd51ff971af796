"""What a face says that can't listen where it was told to."""

from __future__ import annotations

from edge_core.errors import EdgePartitionError


class ListenError(EdgePartitionError):
    """Nobody can listen on an address.

    Attributes:
        host: The address.
        port: The TCP port.
    """

    def __init__(self, host: str, port: int, error: Exception, choose: str) -> None:
        self.host = host
        self.port = port
        reason = getattr(error, "strerror", None) or str(error)
        super().__init__(f"Can't listen on {host}:{port}: {reason}. Choose another {choose}.")
