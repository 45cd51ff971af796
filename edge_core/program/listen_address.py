"""The address that a server listens on: the value of ``--listen`` in every program."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

_LAST_PORT = 65535
#: All IPv4 addresses, and all IPv6 addresses, of a machine.
_EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - a comparison


class ListenAddressError(ValueError):
    """A value of ``--listen`` is not an address; the text says what was expected."""


@dataclass(frozen=True)
class ListenAddress:
    """An address and port to listen on.

    Attributes:
        host: An IP address without brackets, or a name of this machine.
        port: TCP port; 0: any free port.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> ListenAddress:
        """Parse ``HOST:PORT``, ``[IPV6]:PORT`` or ``PORT``. ``PORT`` alone means 127.0.0.1:PORT.

        Raises:
            ListenAddressError: ``text`` has another form, or the port is above 65535.
        """
        host, colon, port = text.rpartition(":")
        if not colon:
            host = "127.0.0.1"
        elif not host:
            raise ListenAddressError(
                f"{text!r} has no host; expected 127.0.0.1{text}, or 0.0.0.0{text} for all networks"
            )
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ListenAddressError(
                f"{text!r} is not an address; write an IPv6 address as [ADDRESS]:PORT"
            )
        if not port.isascii() or not port.isdecimal() or int(port) > _LAST_PORT:
            raise ListenAddressError(
                f"{text!r} is not an address; expected HOST:PORT with a port from 0 to {_LAST_PORT}"
            )
        return cls(host, int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def with_port(self, port: int) -> str:
        """Return ``HOST:PORT`` for a URL that a client on this machine uses.

        An address that stands for all networks is replaced by the loopback address.

        Args:
            port: The port that the server got.
        """
        every = {_EVERY_ADDRESS[0]: "127.0.0.1", _EVERY_ADDRESS[1]: "::1"}
        host = every.get(self.host, self.host)
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
