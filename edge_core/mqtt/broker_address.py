"""The address of a broker, and the files and names with which a client proves its identity."""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from edge_core.errors import EdgePartitionError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_PORT = 1883
DEFAULT_TLS_PORT = 8883


class BrokerAddressError(EdgePartitionError):
    """A broker's URL or the files that go with it can't be used."""


@dataclass(frozen=True)
class BrokerAddress:
    """Where the broker is and how to prove who we are.

    Attributes:
        host: Name or address.
        port: TCP port.
        tls: ``mqtts``: TLS with the broker's certificate checked.
        username: Sent to the broker, where set.
        password: Sent to the broker, where set; never printed.
        ca_file: The certificates to trust instead of the system's.
        certificate_file: The client's own certificate.
        key_file: The key of ``certificate_file``.
    """

    host: str
    port: int
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None

    @classmethod
    def parse(
        cls,
        url: str,
        *,
        username: str | None = None,
        password_file: str | None = None,
        ca_file: str | None = None,
        certificate_file: str | None = None,
        key_file: str | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> BrokerAddress:
        """Read ``mqtt[s]://[USER@]HOST[:PORT]``; what is left out comes from the environment.

        ``EDGE_PARTITION_USERNAME``, ``_PASSWORD``, ``_PASSWORD_FILE``, ``_CA_FILE``,
        ``_CERTIFICATE_FILE`` and ``_KEY_FILE``.

        Raises:
            BrokerAddressError: The URL or a file can't be used.
        """
        expected = "expected mqtt://HOST:PORT or mqtts://HOST:PORT"
        shown = re.sub(r"//.*@", "//...@", url)  # A password that came along is not repeated.
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise BrokerAddressError(f"The broker's URL {shown!r}: {error}; {expected}.") from None
        if parts.scheme not in {"mqtt", "mqtts"} or not parts.hostname:
            raise BrokerAddressError(f"The broker's URL {shown!r} is not one; {expected}.")
        if parts.path not in {"", "/"} or parts.query or parts.fragment:
            raise BrokerAddressError(
                f"The broker's URL {shown!r} has more than a port; {expected}."
            )
        if parts.password is not None:
            raise BrokerAddressError(
                "A password in the broker's URL shows in process lists; put it into a file named "
                "by EDGE_PARTITION_PASSWORD_FILE instead."
            )
        password = environ.get("EDGE_PARTITION_PASSWORD")
        password_file = password_file or environ.get("EDGE_PARTITION_PASSWORD_FILE")
        if password_file:
            try:
                password = Path(password_file).read_text().rstrip("\n")
            except (OSError, UnicodeDecodeError) as error:
                raise BrokerAddressError(f"The password file can't be read: {error}.") from None
        tls = parts.scheme == "mqtts"
        return cls(
            host=parts.hostname,
            port=port if port is not None else (DEFAULT_TLS_PORT if tls else DEFAULT_PORT),
            tls=tls,
            username=parts.username or username or environ.get("EDGE_PARTITION_USERNAME"),
            password=password,
            ca_file=ca_file or environ.get("EDGE_PARTITION_CA_FILE"),
            certificate_file=certificate_file or environ.get("EDGE_PARTITION_CERTIFICATE_FILE"),
            key_file=key_file or environ.get("EDGE_PARTITION_KEY_FILE"),
        )

    @property
    def url(self) -> str:
        """The address without secrets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"

    def tls_context(self) -> ssl.SSLContext:
        """Return the TLS settings: the broker's certificate is checked, the client's is sent.

        Raises:
            BrokerAddressError: A file cannot be used.
        """
        # Neither call names the file in its error.
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise BrokerAddressError(
                f"The CA file {self.ca_file} can't be used: {error}; expected PEM certificates."
            ) from None
        if self.certificate_file:
            try:
                context.load_cert_chain(self.certificate_file, self.key_file)
            except OSError as error:
                raise BrokerAddressError(
                    f"The certificate {self.certificate_file} with the key "
                    f"{self.key_file or 'in the same file'} can't be used: {error}; expected PEM."
                ) from None
        return context
