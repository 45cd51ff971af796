"""The error when a server cannot listen on the requested address."""

from __future__ import annotations

from edge_core.errors import EdgePartitionError


class ListenError(EdgePartitionError):
    """A server cannot listen on an address.

    Attributes:
        host: The requested address, a name or an IP address.
        port: The requested TCP port.
    """

    def __init__(self, host: str, port: int, error: Exception, choose: str) -> None:
        """Create the error.

        Args:
            host: The requested address.
            port: The requested TCP port.
            error: The error of the operating system.
            choose: The end of the message's last sentence, which says how the user chooses another
                address, such as ``with --listen``.
        """
        self.host = host
        self.port = port
        reason = getattr(error, "strerror", None) or str(error)
        super().__init__(
            f"Can't listen on {host}:{port}: {reason}. Choose another address or port {choose}."
        )
