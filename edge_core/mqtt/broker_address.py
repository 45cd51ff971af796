"""The address of a broker, and a client's credentials."""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from edge_core.errors import BrokerUnreachableError, EdgePartitionError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The environment variable with the URL of the broker, and the URL if the variable is not set.
BROKER_VARIABLE = "EDGE_PARTITION_BROKER"
DEFAULT_BROKER = "mqtt://127.0.0.1:1883"
DEFAULT_PORT = 1883
DEFAULT_TLS_PORT = 8883


class BrokerAddressError(EdgePartitionError):
    """A broker's URL, password file or certificate file cannot be used."""


@dataclass(frozen=True)
class BrokerAddress:
    """The address of a broker, and the client's credentials.

    Attributes:
        host: Name or IP address.
        port: TCP port.
        tls: Whether the URL is ``mqtts``: TLS, with a check of the broker's certificate.
        username: User name, if the broker requires one.
        password: Password, if the broker requires one; never printed.
        ca_file: Path of the trusted CA certificates; None: the system's certificates.
        certificate_file: Path of the client's certificate.
        key_file: Path of the key of ``certificate_file``; None: the key is in the same file.
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
        """Read ``mqtt[s]://[USER@]HOST[:PORT]``; the environment supplies the missing credentials.

        Args:
            url: Address of the broker.
            username: User name, unless the URL has one.
            password_file: Path of a file with the password.
            ca_file: Path of the trusted CA certificates.
            certificate_file: Path of the client's certificate.
            key_file: Path of the client's key.
            environ: Environment variables: ``EDGE_PARTITION_USERNAME``, ``_PASSWORD``,
                ``_PASSWORD_FILE``, ``_CA_FILE``, ``_CERTIFICATE_FILE`` and ``_KEY_FILE``.

        Raises:
            BrokerAddressError: The URL or the password file cannot be used.
        """
        expected = "expected mqtt://HOST:PORT or mqtts://HOST:PORT"
        shown = re.sub(r"//.*@", "//...@", url)  # Without a password.
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise BrokerAddressError(f"The broker's URL {shown!r}: {error}; {expected}.") from None
        if parts.scheme not in {"mqtt", "mqtts"} or not parts.hostname:
            raise BrokerAddressError(f"The broker's URL {shown!r} is not valid; {expected}.")
        if parts.path not in {"", "/"} or parts.query or parts.fragment:
            raise BrokerAddressError(
                f"The broker's URL {shown!r} has text after the port; {expected}."
            )
        if parts.password is not None:
            raise BrokerAddressError(
                "The broker's URL contains a password, and process lists show URLs; write the "
                "password to a file and name the file with --password-file or "
                "EDGE_PARTITION_PASSWORD_FILE."
            )
        password = environ.get("EDGE_PARTITION_PASSWORD")
        password_file = password_file or environ.get("EDGE_PARTITION_PASSWORD_FILE")
        if password_file:
            password = _read_password(password_file)
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
        """URL of the broker, without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"

    def unreachable(self, error: OSError | ValueError) -> BrokerUnreachableError:
        """Return the error of a connection that failed with ``error``."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return BrokerUnreachableError(
                self.url,
                f"its certificate is not trusted ({error.verify_message.rstrip('.')}); name the "
                "trusted CA with --ca-file FILE or EDGE_PARTITION_CA_FILE",
            )
        return BrokerUnreachableError(self.url, getattr(error, "strerror", None) or str(error))

    def tls_context(self) -> ssl.SSLContext:
        """Return the TLS settings: check the broker's certificate, send the client's.

        Raises:
            BrokerAddressError: A file cannot be used.
        """
        # The errors of both calls do not name the file.
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


def _read_password(path: str) -> str:
    try:
        return Path(path).read_text().rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BrokerAddressError(f"The password file can't be read: {error}.") from None
